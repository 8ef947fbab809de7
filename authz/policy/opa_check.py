"""Does a policy give the same answers embedded as on a real OPA? Every question is asked of both.

- An answer is the whole verdict: effect, reasons, texts, obligations, in their order. Two failures are the
  same answer (a denial), a failure and a verdict are not.
- A disagreement is told with its question's name; one is enough for no lock.
- A lock over no questions would prove nothing, so there is none.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.errors import CodedError, PolicyLoadError
from authz.policy.admission import portability
from authz.policy.embedded import EmbeddedPolicy, engine_version
from authz.policy.grants import Grants
from authz.policy.lock import PolicyLock
from authz.policy.modules import Modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy
from authz.policy.opa_process import start_opa
from authz.policy.port import Policy, Query
from authz.policy.portability import Runtime
from identity.canonical import canonical_json, sha256_hex

_ANSWER_SECONDS: Final = 10.0
_VERSION_SECONDS: Final = 30.0
_VERSION: Final = re.compile(r"Version: (\S+)")


@dataclass(frozen=True, slots=True)
class Question:
    """A question on some grants; the name tells a person which."""

    name: str
    grants: Grants
    query: Query


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two answers to one question."""

    name: str
    embedded: str
    opa: str

    def __str__(self) -> str:
        return f"{self.name}: embedded says {self.embedded}, OPA says {self.opa}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked, on what, and where the engines disagree."""

    policy: str
    cases: int
    corpus: str
    runtimes: tuple[Runtime, ...]
    regorus: str
    opa: str
    disagreements: tuple[Disagreement, ...]

    def lock(self) -> PolicyLock:
        """Return the lock that this report proves.

        Raises:
            PolicyLoadError: if it proves none.
        """
        if self.disagreements:
            count = f"{len(self.disagreements)} of {self.cases}"
            raise PolicyLoadError(
                f"no policy lock: the engines disagree on {count} questions, first on {self.disagreements[0]}"
            )
        if not self.cases:
            raise PolicyLoadError("no policy lock: nothing was asked")
        return PolicyLock(self.policy, self.cases, self.corpus, self.runtimes, self.regorus, self.opa)


def opa_version(binary: Path) -> str:
    """Return OPA's version.

    Raises:
        PolicyLoadError: if the binary is no OPA.
    """
    try:
        told = subprocess.run(  # noqa: S603 - the operator's binary, no shell
            [binary, "version"], capture_output=True, text=True, check=True, timeout=_VERSION_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise PolicyLoadError(f"{str(binary)!r} is no OPA that runs here") from error
    found = _VERSION.match(told)
    if found is None:
        raise PolicyLoadError(f"{str(binary)!r} is no OPA")
    return found[1]


async def check_policy(modules: Modules, questions: Iterable[Question], opa: Path) -> Report:
    """Ask both engines every question.

    Raises:
        PolicyLoadError: if the policy cannot run on one of them.
        ConfigError: if OPA does not start.
    """
    asked = list(questions)
    version = opa_version(opa)
    runtimes: set[Runtime] = set()
    disagreements: list[Disagreement] = []
    # A short path: that of a Unix socket has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="deputy-") as directory,
        start_opa(opa, Path(directory) / "opa", modules) as process,
    ):
        client = OpaClient(OpaAddress(process.url, _ANSWER_SECONDS))
        try:
            for grants, group in _by_grants(asked).items():
                runtime = portability(modules, grants).runtime
                runtimes.add(runtime)
                on_opa = OpaPolicy(client, modules.digest, grants)
                await on_opa.activate()
                disagreements += await _compare(EmbeddedPolicy(modules, grants, runtime), on_opa, group)
        finally:
            await client.close()
    return Report(
        policy=modules.digest,
        cases=len(asked),
        corpus=_digest(asked),
        runtimes=tuple(sorted(runtimes)),
        regorus=engine_version(),
        opa=version,
        disagreements=tuple(disagreements),
    )


def _by_grants(questions: list[Question]) -> Mapping[Grants, list[Question]]:
    groups: dict[Grants, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.grants, []).append(question)
    return groups


async def _compare(embedded: Policy, opa: Policy, questions: list[Question]) -> list[Disagreement]:
    found = []
    for question in questions:
        here, there = await _answer(embedded, question.query), await _answer(opa, question.query)
        if here != there:
            found.append(Disagreement(question.name, here, there))
    return found


async def _answer(policy: Policy, query: Query) -> str:
    """Write an answer as text that is equal where the answers are."""
    try:
        if query.get("phase") == "visible":
            return repr(sorted(await policy.visible(query)))
        return repr(await policy.decide(query))
    except CodedError:
        return "a failure"


def _digest(questions: list[Question]) -> str:
    lines = (canonical_json([question.grants.digest, dict(question.query)]) + b"\n" for question in questions)
    return sha256_hex(b"".join(lines))
