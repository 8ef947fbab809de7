"""The policy lock: which Rego was shown to give the same answers embedded as on OPA, and with what.

- `deputy policy check --lock` writes it after every case gave the same answer on a real OPA; nobody edits it.
- The embedded engine runs Rego only if its digest stands in the lock, on the engine version and the runtimes
  that were tried. Grants are data: they may change without another lock.
- The bytes are canonical JSON; anything else in the file is refused, and so is no lock.
"""

import re
from dataclasses import dataclass
from typing import Final, cast, get_args

from authz.errors import PolicyLoadError
from authz.policy.modules import Modules
from authz.policy.portability import Runtime
from identity.canonical import canonical_json
from identity.strict_json import MAX_SAFE_INTEGER, StrictJsonError, loads

VERSION: Final = "deputy.lock/v1"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RELEASE: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")
_ANOTHER_WAY: Final = (
    "run it on OPA (policy.engine: opa), or, with an OPA at hand, run 'deputy policy check --lock'"
)


@dataclass(frozen=True, slots=True)
class PolicyLock:
    """One proof: of which Rego, on how many cases, on which runtimes, with which regorus and which OPA."""

    policy: str
    cases: int
    corpus: str
    runtimes: tuple[Runtime, ...]
    regorus: str
    opa: str

    @classmethod
    def parse(cls, data: bytes) -> "PolicyLock":
        """Read a lock file.

        Raises:
            PolicyLoadError: if it is not one that we wrote.
        """
        try:
            value = loads(data)
        except StrictJsonError as error:
            raise PolicyLoadError("the policy lock is not JSON: write it again") from error
        match value:
            case {
                "version": "deputy.lock/v1",
                "policy": str(policy),
                "cases": int(cases),
                "corpus": str(corpus),
                "runtimes": [*runtimes],
                "regorus": str(regorus),
                "opa": str(opa),
            } if 0 < cases <= MAX_SAFE_INTEGER:
                lock = cls(policy, cases, corpus, cast("tuple[Runtime, ...]", tuple(runtimes)), regorus, opa)
            case _:
                raise PolicyLoadError(f"the policy lock is not one of {VERSION}: write it again")
        if not lock._is_well_formed() or lock.to_bytes() != data:
            raise PolicyLoadError("the policy lock was changed by hand: write it again")
        return lock

    def _is_well_formed(self) -> bool:
        return (
            all(map(_DIGEST.fullmatch, (self.policy, self.corpus)))
            and all(map(_RELEASE.fullmatch, (self.regorus, self.opa)))
            and bool(self.runtimes)
            and all(runtime in get_args(Runtime) for runtime in self.runtimes)
            and list(self.runtimes) == sorted(set(self.runtimes))
        )

    def to_bytes(self) -> bytes:
        """Write the lock file: canonical JSON and a line end."""
        members = {
            "version": VERSION,
            "policy": self.policy,
            "cases": self.cases,
            "corpus": self.corpus,
            "runtimes": list(self.runtimes),
            "regorus": self.regorus,
            "opa": self.opa,
        }
        return canonical_json(members) + b"\n"


def require_locked(modules: Modules, lock: PolicyLock | None, regorus: str) -> PolicyLock:
    """Return the lock if it speaks of this Rego and of this version of regorus.

    Raises:
        PolicyLoadError: if it does not; the sentence says what to do.
    """
    if lock is None:
        raise PolicyLoadError(f"the embedded engine runs no Rego without a policy lock: {_ANOTHER_WAY}")
    if lock.policy != modules.digest:
        raise PolicyLoadError(f"this Rego is not the one that the policy lock is about: {_ANOTHER_WAY}")
    if lock.regorus != regorus:
        raise PolicyLoadError(
            f"the policy lock was made with regorus {lock.regorus!r}, and here is {regorus!r}: {_ANOTHER_WAY}"
        )
    return lock
