"""The whole checklist, in the order in which it runs, and what of it shall run.

- No two cases have one id.
- What may lock a client out, wrong secrets, is at the end.
- A name of a rule (`TX-06`), of its group (`TX`) or of a case (`TX-06/garbage`) selects.
"""

from collections.abc import Iterable
from typing import Final

from authz.conformance import (
    cases_approval,
    cases_claims,
    cases_client,
    cases_delegation,
    cases_details,
    cases_discovery,
    cases_dpop,
    cases_form,
    cases_hops,
    cases_id_jag,
    cases_jose,
    cases_json,
    cases_login,
    cases_people,
    cases_resource,
    cases_scope,
    cases_signed,
    cases_transaction,
    cases_types,
)
from authz.conformance.case import Case
from authz.conformance.rules import NOT_OBSERVABLE
from authz.errors import ConfigError

CHECKLIST: Final[tuple[Case, ...]] = (
    *cases_form.CASES,
    *cases_types.CASES,
    *cases_delegation.CASES,
    *cases_claims.CASES,
    *cases_people.CASES,
    *cases_scope.CASES,
    *cases_details.CASES,
    *cases_hops.CASES,
    *cases_id_jag.CASES,
    *cases_transaction.CASES,
    *cases_dpop.CASES,
    *cases_resource.CASES,
    *cases_jose.CASES,
    *cases_json.CASES,
    *cases_signed.CASES,
    *cases_discovery.CASES,
    *cases_approval.CASES,
    *cases_client.CASES,
    *cases_login.CASES,
)


def select(only: Iterable[str], skip: Iterable[str]) -> tuple[Case, ...]:
    """Return the cases that shall run.

    Raises:
        ConfigError: if a name selects nothing, or nothing is left.
    """
    only, skip = tuple(only), tuple(skip)
    for name in (*only, *skip):
        if name.upper() in NOT_OBSERVABLE:
            raise ConfigError(f"{name.upper()} is not observable: {NOT_OBSERVABLE[name.upper()]}")
        if not any(_is_named(case, name) for case in CHECKLIST):
            raise ConfigError(f"no rule and no case of the checklist: {name!r}")
    chosen = tuple(
        case
        for case in CHECKLIST
        if (not only or any(_is_named(case, name) for name in only))
        and not any(_is_named(case, name) for name in skip)
    )
    if not chosen:
        raise ConfigError("nothing is left of the checklist")
    return chosen


def _is_named(case: Case, name: str) -> bool:
    return name.upper() in {case.id.upper(), case.rule, case.rule.partition("-")[0]}
