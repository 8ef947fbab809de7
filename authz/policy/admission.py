"""May this policy with these grants run on the embedded engine, and on which of its runtimes?

- Two checks, and both must pass: the policy lock (these very modules gave OPA's answers on a whole corpus)
  and the portability walk (no construct is used that is not proven equal).
- The walk reads types off the data, so it is made again for new grants; the lock is about the Rego alone.
"""

from collections.abc import Mapping
from functools import cache

from authz.errors import PolicyLoadError
from authz.policy.embedded import engine_version, syntax_trees
from authz.policy.grants import Grants
from authz.policy.lock import PolicyLock, require_locked
from authz.policy.modules import Modules
from authz.policy.portability import Portability, Runtime, check_portability
from authz.policy.schema import schema


def portability(modules: Modules, grants: Grants) -> Portability:
    """Say how this policy can run embedded with these grants, lock or no lock.

    Raises:
        PolicyLoadError: if it cannot; the sentence names constructs, files and lines.
    """
    return check_portability(syntax_trees(modules), grants.data, *_questions())


@cache
def _questions() -> tuple[Mapping[str, object], Mapping[str, object]]:
    return schema("input"), schema("admin")


def admit(modules: Modules, grants: Grants, lock: PolicyLock | None) -> Runtime:
    """Return the runtime that the policy is proven to be right on.

    Raises:
        PolicyLoadError: if there is none.
    """
    proven = require_locked(modules, lock, engine_version()).runtimes
    found = portability(modules, grants)
    if found.runtime not in proven:
        why = "; ".join(map(str, found.reasons)) or "none of its reasons to be slower is left"
        raise PolicyLoadError(
            f"with these grants the policy needs regorus' runtime {found.runtime!r} ({why}), and the policy "
            f"lock proves it on {', '.join(proven)} only: run 'deputy policy check --lock' with these grants"
        )
    return found.runtime
