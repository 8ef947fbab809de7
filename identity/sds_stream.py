"""One stream of Envoy's Secret Discovery Service: what its client asked for, has, and is due (xDS v3).

- Two forms of one protocol: the state of the world (each answer is all that was asked for) and delta (what
  changed, and what is gone). Neither does I/O; both are told what there is and say what to send.
- An answer is due for a name that was added, for content that changed, and for nothing else: an ACK is not
  answered, and a NACK is not answered with what was refused.
- A request of the state of the world with a stale nonce is ignored (the client repeats it); in delta only
  acknowledgements are tied to a nonce.
- Before anything was named, naming nothing means everything of the caller's; after that it means nothing.
- Names are bounded in number and length, and so are the lines that a stream can make us log. A name beyond
  the bounds is treated as one that is not known.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from identity.pb import sds_pb2 as pb
from identity.sds_secrets import SECRET_TYPE, NamedSecret

MAX_NAMES: Final = 100
MAX_NAME: Final = 255  # the longest SPIFFE ID of ours
MAX_LINES: Final = 16
_SHOWN: Final = 100
_PEM: Final = "-----"

_ANYTHING: Final = "*"
_ABSENT: Final = ""  # the version of what the client knows not to exist; no content has it


RequestT = TypeVar("RequestT", pb.DiscoveryRequest, pb.DeltaDiscoveryRequest)
AnswerT = TypeVar("AnswerT", pb.DiscoveryResponse, pb.DeltaDiscoveryResponse)


class Subscription(ABC, Generic[RequestT, AnswerT]):
    """What the client of one stream asked for and was sent."""

    def __init__(self) -> None:
        """Start before the first request."""
        self.names: set[str] = set()
        self.is_due = False
        self.everything = False
        self.sent: dict[str, str] = {}
        self.was_heard = False
        self._nonce = 0
        self._refused = 0
        self._warned: set[str] = set()
        self._lines: list[str] = []
        self._lines_left = MAX_LINES

    @abstractmethod
    def receive(self, request: RequestT) -> None:
        """Take a request, an ACK or a NACK."""

    @abstractmethod
    def answer(self, secrets: Mapping[str, NamedSecret], pending: frozenset[str]) -> AnswerT | None:
        """Return what is due; `pending` are names that exist and have nothing new to show now."""

    def holds(self, name: str) -> bool:
        """Say whether the client has a version of a secret."""
        return bool(self.sent.get(name))

    def wanted(self, every_name: Sequence[str]) -> tuple[str, ...]:
        """Return the names that are asked for, sorted; some may not exist."""
        return tuple(sorted(self.names.union(every_name if self.everything else ())))

    def take_lines(self) -> list[str]:
        """Return what should be logged since the last time, in words that are safe to log."""
        lines, self._lines = self._lines, []
        return lines

    def leave_out(self, name: str) -> None:
        """Note that a name is not one of the caller's: one line, once."""
        if name not in self._warned and len(self._warned) < MAX_LINES:
            self._warned.add(name)
            self._log(f"left out, not a secret of this caller: {name[:_SHOWN]!r}")

    def _log(self, line: str) -> None:
        if self._lines_left:
            self._lines_left -= 1
            self._lines.append(line)

    def _accept(self, names: Iterable[str]) -> set[str]:
        """Return the names that are within bounds, and leave out the others."""
        accepted = set(self.names)
        for name in names:
            if len(name) > MAX_NAME or (len(accepted) >= MAX_NAMES and name not in accepted):
                self.leave_out(name)
            elif name:
                accepted.add(name)
        return accepted

    def _hear_refusal(self, nonce: str, reason: str) -> None:
        if nonce == str(self._nonce) and self._refused != self._nonce:
            self._refused = self._nonce
            # Envoy's reasons may quote what it refuses; a key that came back in one is cut off.
            self._log(f"refused by the client: {reason.partition(_PEM)[0][:_SHOWN]!r}")

    def _next_nonce(self) -> str:
        self._nonce += 1
        self.is_due = False
        return str(self._nonce)


class WorldSubscription(Subscription[pb.DiscoveryRequest, pb.DiscoveryResponse]):
    """A stream of the state of the world."""

    def __init__(self) -> None:
        """Start before the first request."""
        super().__init__()
        self._named = False
        self._held_before = False

    def holds(self, name: str) -> bool:
        """Say whether the client has, or may have from an earlier stream, a version of a secret."""
        return super().holds(name) or (self._held_before and name not in self.sent)

    def receive(self, request: pb.DiscoveryRequest) -> None:
        """Take a request, an ACK or a NACK."""
        is_first, self.was_heard = not self.was_heard, True
        if not is_first and request.response_nonce and request.response_nonce != str(self._nonce):
            return
        if request.HasField("error_detail"):
            self._hear_refusal(request.response_nonce, request.error_detail.message)
        if is_first:
            self._held_before = bool(request.version_info)
        before = (self.everything, self.names)
        self._subscribe([name for name in request.resource_names if name])
        self.sent = {name: version for name, version in self.sent.items() if self._wants(name)}
        added = not self.names <= before[1] or (self.everything and not before[0])
        self.is_due = self.is_due or is_first or added

    def _subscribe(self, names: Sequence[str]) -> None:
        self._named = self._named or bool(names)
        self.everything = not self._named or _ANYTHING in names
        self.names = set()
        self.names = self._accept(name for name in names if name != _ANYTHING)

    def _wants(self, name: str) -> bool:
        return self.everything or name in self.names

    def answer(
        self, secrets: Mapping[str, NamedSecret], pending: frozenset[str]
    ) -> pb.DiscoveryResponse | None:
        """Return what is due; `pending` are names that exist and have nothing new to show now."""
        new = {name: secret.version for name, secret in secrets.items()}
        kept = {name: version for name, version in self.sent.items() if name in pending}
        if not self.is_due and self.sent == {**kept, **new}:
            return None
        self.sent = {**kept, **new}
        return pb.DiscoveryResponse(
            version_info=_version(new),
            resources=[secret.body for secret in secrets.values()],
            type_url=SECRET_TYPE,
            nonce=self._next_nonce(),
        )


class DeltaSubscription(Subscription[pb.DeltaDiscoveryRequest, pb.DeltaDiscoveryResponse]):
    """A stream of changes."""

    def receive(self, request: pb.DeltaDiscoveryRequest) -> None:
        """Take a request, an ACK or a NACK."""
        is_first, self.was_heard = not self.was_heard, True
        if request.HasField("error_detail"):
            self._hear_refusal(request.response_nonce, request.error_detail.message)
        added = set(request.resource_names_subscribe)
        removed = set(request.resource_names_unsubscribe)
        asked_for_all = _ANYTHING in added or (is_first and not added)
        self.everything = asked_for_all or (self.everything and _ANYTHING not in removed)
        self.names = self._accept(added - {_ANYTHING}) - removed
        # What is asked for again is sent again, so it is as if it had not been sent.
        self.sent = {name: held for name, held in self.sent.items() if name not in added | removed}
        if is_first:
            self._resume(request.initial_resource_versions)
        self.is_due = self.is_due or is_first or bool(added or removed)

    def _resume(self, versions: Mapping[str, str]) -> None:
        for name, version in sorted(versions.items())[:MAX_NAMES]:
            if len(name) <= MAX_NAME and (self.everything or name in self.names):
                self.sent[name] = version[:MAX_NAME] or "unknown"

    def answer(
        self, secrets: Mapping[str, NamedSecret], pending: frozenset[str]
    ) -> pb.DeltaDiscoveryResponse | None:
        """Return what is due; `pending` are names that exist and have nothing new to show now."""
        changed = {name: secret for name, secret in secrets.items() if self.sent.get(name) != secret.version}
        known = self.names | self.sent.keys()
        gone = {name for name in known - secrets.keys() - pending if self.sent.get(name) != _ABSENT}
        # Who asks for everything is told when that is nothing.
        is_empty_world = self.is_due and self.everything and not self._nonce
        self.is_due = False
        if not changed and not gone and not is_empty_world:
            return None
        self.sent |= {name: secret.version for name, secret in changed.items()}
        self.sent |= dict.fromkeys(gone & self.names, _ABSENT)
        for name in gone - self.names:
            self.sent.pop(name, None)
        return pb.DeltaDiscoveryResponse(
            system_version_info=_version(self.sent),
            resources=[
                pb.Resource(name=name, version=secret.version, resource=secret.body)
                for name, secret in changed.items()
            ],
            type_url=SECRET_TYPE,
            nonce=self._next_nonce(),
            removed_resources=sorted(gone),
        )


def _version(versions: Mapping[str, str]) -> str:
    text = "\n".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
