"""What every part of the small server shares: which cases it breaks, and what a request is to it."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from tests.conformance_tokens import ISSUER, NOW, Claims

Reply = tuple[int, dict[str, str], bytes]


class RefusedError(Exception):
    """An OAuth error."""

    def __init__(self, error: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.error, self.status, self.headers = error, status, headers or {}


@dataclass(frozen=True)
class Form:
    """Parameters, each with all its values."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, body: bytes) -> "Form":
        values: dict[str, tuple[str, ...]] = {}
        text = body.decode("ascii")
        if "%zz" in text:
            raise ValueError("a stray percent")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=64
        )
        for name, value in pairs:
            values[name] = (*values.get(name, ()), value)
        return cls(values)

    def one(self, name: str) -> str | None:
        found = self.values.get(name, ())
        return found[0] if found else None


@dataclass(frozen=True)
class Caller:
    """Who sent a request; `jkt` is the key of its proof."""

    headers: Mapping[str, str]
    thumbprint: str | None
    proofs: tuple[str, ...] = ()
    jkt: str | None = None

    @property
    def basic(self) -> tuple[str, str] | None:
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        try:
            pair = b64decode(value, validate=True).decode() if kind == "Basic" else ""
        except (Base64Error, UnicodeDecodeError):
            return None
        named, colon, secret = pair.partition(":")
        return (unquote_plus(named), unquote_plus(secret)) if colon else None


@dataclass(frozen=True)
class Asked:
    """A request for a token that may be granted."""

    form: Form
    subject: Claims
    actor: Claims | None
    client: str
    caller: Caller
    scopes: frozenset[str]
    audience: str | list[str]
    details: list[Any] | None = None


@dataclass
class Switches:
    """One server; `current` is the case that runs, as the run's progress says."""

    broken: frozenset[str] = frozenset()
    issuer: str = ISSUER
    now: int = NOW
    current: str = ""
    crashes: bool = False
    revoked: set[str] = field(default_factory=set)
    issued: set[str] = field(default_factory=set)
    known: dict[str, Claims] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    spent: int | None = None
    verify: Callable[[str], Claims | None] = lambda _: None
    good_form: Any = None

    def ok(self, case: str) -> bool:
        return case not in self.broken

    def breaks(self, *cases: str) -> bool:
        """Whether this case runs now, and is broken; a name that ends with `/` is all of a rule."""
        return self.breaks_now and self.current.startswith(cases)

    @property
    def breaks_now(self) -> bool:
        return self.current in self.broken

    @property
    def lenient(self) -> bool:
        return self.breaks("JW-0", "ID-04/deep", "CL-07/exp") and not self.breaks("JW-09")

    def first_time(self, name: str) -> bool:
        is_first = name not in self.seen
        self.seen.add(name)
        return is_first
