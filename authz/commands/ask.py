"""Ask the policy and print: what `deputy policy eval`, `explain` and `build` do."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from authz.commands.decide import Answer, Place, answer, explanation
from authz.commands.explain_lines import lines_of
from authz.commands.output import DENY, OK, Output, emit_one
from authz.commands.place import read_config
from authz.commands.question import read_question
from authz.policy.explain import code_of
from authz.policy.modules import read_modules, shipped_modules
from authz.policy.opa_bundle import write_bundle

DECISION_VERSION: Final = "deputy.decision/v1"


def decided(  # noqa: PLR0917 - the options of the command
    file: Path,
    config: Path | None,
    grants: Path | None,
    at: datetime | None,
    asker: str | None,
    output: Output,
) -> int:
    """Decide, print, and return the exit code.

    Raises:
        AuthzError: if it cannot be decided.
    """
    found = answer(read_question(file), _place(config, grants, at, asker))
    row = _decision(found)
    lines: list[tuple[str, object]] = [(found.verdict.effect.upper(), row["code"])]
    for reason in found.verdict.reasons:
        only = " (operators only)" if reason.audience == "operator" else ""
        lines.append(("reason", f"{reason.code}: {reason.msg}{only}"))
    if row["detail"]:
        lines.append(("detail", row["detail"]))
    lines += [(name, ", ".join(values)) for name, values in found.verdict.obligations.items()]
    lines.append(("policy", found.verdict.revision or "not asked"))
    emit_one(row, output, lines, name="code")
    return OK if found.verdict.effect == "allow" else DENY


def explained(  # noqa: PLR0917 - the options of the command
    file: Path,
    config: Path | None,
    grants: Path | None,
    at: datetime | None,
    asker: str | None,
    output: Output,
) -> int:
    """Decide, explain, and return the exit code.

    Raises:
        AuthzError: if it cannot be decided.
    """
    found = explanation(read_question(file), _place(config, grants, at, asker))
    emit_one(found.to_json(), output, lines_of(found), name="code")
    return OK if found.effect == "allow" else DENY


def built(rego: Path | None, target: Path) -> Path:
    """Write what OPA is started with, and return where.

    Raises:
        PolicyLoadError: if the Rego cannot be read, or the directory holds something else.
    """
    write_bundle(shipped_modules() if rego is None else read_modules(rego), target)
    return target


def _place(config: Path | None, grants: Path | None, at: datetime | None, asker: str | None) -> Place:
    settings = None if config is None and grants is not None else read_config(config)
    return Place.of(settings, grants, at, asker)


def _decision(found: Answer) -> Mapping[str, object]:
    verdict = found.verdict
    return {
        "version": DECISION_VERSION,
        "effect": verdict.effect,
        "code": code_of(verdict),
        "reasons": [
            {
                "code": reason.code,
                "msg": reason.msg,
                "rule": reason.rule,
                "fix": reason.fix,
                "audience": reason.audience,
            }
            for reason in verdict.reasons
        ],
        "obligations": {name: list(values) for name, values in verdict.obligations.items()},
        "policy": verdict.revision or None,
        "detail": (found.record or {}).get("detail") or None,
    }
