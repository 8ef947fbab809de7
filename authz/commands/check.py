"""May this Rego run on the embedded engine? What `deputy policy check` does.

- Two questions: is every construct proven to mean the same as on OPA, and did these very modules give OPA's
  answers (the policy lock)? With an OPA at hand both engines are asked anew, at random about the grants.
- A lock is written only after every answer was the same.
"""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from authz.commands.output import FINDINGS, OK, Output, emit_one
from authz.commands.place import read_config
from authz.errors import ConfigError, PolicyLoadError
from authz.mesh.envoy_process import write_private
from authz.policy.admission import portability
from authz.policy.embedded import engine_version
from authz.policy.grants import Grants
from authz.policy.live import read_grants
from authz.policy.lock import PolicyLock, require_locked
from authz.policy.modules import LOCK_FILE, Modules, read_lock, read_modules, shipped_lock, shipped_modules
from authz.policy.opa_admin_questions import admin_questions
from authz.policy.opa_check import Report, check_policy
from authz.policy.opa_process import find_opa
from authz.policy.opa_questions import list_questions, questions
from authz.policy.portability import NotPortableError, Portability

VERSION: Final = "deputy.policy-check/v1"
_MAX_TOLD: Final = 20
# Of the random questions: calls for each one about administration, and for each one about a list.
_CALLS_FOR_ONE_OTHER: Final = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    config: Path | None
    rego: Path | None
    grants: Path | None
    opa: Path | None
    count: int
    seed: int
    write_lock: bool


@dataclass(slots=True)
class _Found:
    """What came of it so far."""

    modules: Modules
    portability: Portability | None = None
    report: Report | None = None
    lock: str = "missing"
    findings: list[str] = field(default_factory=list)


def checked(options: Options, output: Output) -> int:
    """Check, print, and return the exit code.

    Raises:
        AuthzError: if something cannot be read, or OPA does not start.
    """
    rego, grants = _places(options)
    if options.write_lock and rego is None:
        raise ConfigError("--lock takes --rego DIR: the shipped policy carries its lock ('make policy-lock')")
    found = _Found(shipped_modules() if rego is None else read_modules(rego))
    if _is_portable(found, grants):
        _compare(found, grants, options)
        _look_at_lock(found, rego, options)
    emit_one(_row(found), output, list(_lines(found)), name="policy")
    return FINDINGS if found.findings else OK


def _places(options: Options) -> tuple[Path | None, Grants]:
    """Return the directory of the Rego (None: shipped), and the grants."""
    config = None if options.config is None else read_config(options.config)
    rego = options.rego or (config.policy.rego if config else None)
    if options.grants is not None:
        return rego, read_grants(options.grants)
    if config is not None:
        return rego, read_grants(config.policy.grants)
    return rego, Grants.parse((resources.files("authz.demo") / "grants.yaml").read_bytes())


def _is_portable(found: _Found, grants: Grants) -> bool:
    try:
        found.portability = portability(found.modules, grants)
    except NotPortableError as error:
        found.findings += [f"not portable: {finding}" for finding in error.findings]
        return False
    return True


def _compare(found: _Found, grants: Grants, options: Options) -> None:
    """Ask both engines, where there is an OPA; for a lock there must be one."""
    if options.opa is None and not options.write_lock and shutil.which("opa") is None:
        return
    asked = [
        *questions(grants, options.seed, options.count),
        *list_questions(grants, options.seed, options.count // _CALLS_FOR_ONE_OTHER),
        *admin_questions(grants, options.seed, options.count // _CALLS_FOR_ONE_OTHER),
    ]
    found.report = asyncio.run(check_policy(found.modules, asked, find_opa(options.opa)))
    found.findings += [f"another answer: {answer}" for answer in found.report.disagreements]


def _look_at_lock(found: _Found, rego: Path | None, options: Options) -> None:
    if options.write_lock and rego is not None and found.report is not None and not found.findings:
        write_private(rego / LOCK_FILE, found.report.lock().to_bytes()).chmod(0o644)
        found.lock = "written"
        return
    data = shipped_lock() if rego is None else read_lock(rego)
    try:
        lock = require_locked(
            found.modules, None if data is None else PolicyLock.parse(data), engine_version()
        )
    except PolicyLoadError as error:
        found.lock = "missing" if data is None else "stale"
        found.findings.append(f"policy lock: {error}")
        return
    found.lock = "current"
    if found.portability is not None and found.portability.runtime not in lock.runtimes:
        found.findings.append(
            f"policy lock: it proves {', '.join(lock.runtimes)}, and with these grants the policy runs on "
            f"{found.portability.runtime}: run 'deputy policy check --lock' with these grants"
        )


def _row(found: _Found) -> dict[str, object]:
    report = found.report
    return {
        "version": VERSION,
        "ok": not found.findings,
        "policy": found.modules.digest,
        "runtime": found.portability.runtime if found.portability else None,
        "runtime_reasons": [str(reason) for reason in found.portability.reasons] if found.portability else [],
        "compared": report.cases if report else 0,
        "opa": report.opa if report else None,
        "regorus": engine_version(),
        "filters_lists": found.modules.filters_lists,
        "lock": found.lock,
        "findings": found.findings,
    }


def _lines(found: _Found) -> Iterator[tuple[str, object]]:
    files = ", ".join(module.name for module in found.modules.modules)
    yield "policy", f"{found.modules.digest[:12]} ({files})"
    if found.portability is not None:
        yield "runtime", f"regorus {engine_version()}, {found.portability.runtime}"
        yield from (("  because", reason) for reason in found.portability.reasons)
        if found.report is None:
            yield "compared", "not: no OPA at hand (--opa FILE)"
        else:
            same = found.report.cases - len(found.report.disagreements)
            yield "compared", f"{same} of {found.report.cases} answers are those of OPA {found.report.opa}"
        if not found.modules.filters_lists:
            yield "lists", "this policy shows nothing in them: give package deputy a rule 'visible'"
        yield "policy lock", found.lock
    yield from (("finding", finding) for finding in found.findings[:_MAX_TOLD])
    if len(found.findings) > _MAX_TOLD:
        yield "finding", f"and {len(found.findings) - _MAX_TOLD} more (-o json)"
    yield ("verdict", "may not run embedded" if found.findings else "may run embedded")
