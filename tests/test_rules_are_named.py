"""Every rule of the two checklists is the name of a test, so that none is lost when tests move.

- A rule has an ID; it begins the docstring of at least one test, alone or in a list of IDs.
- The rules of SPIFFE have numbers of one digit (`ID-1`), those of tokens, delegation and discovery of two
  (`TX-01`).
- A test that is named after one of the latter (`test_tx01_…`) begins with it, and each of them has such a
  test.
- Each attack that the first list names without an ID has a test that is named here.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# How many rules there are of each kind.
SPIFFE = {"ID": 6, "X": 8, "J": 10, "W": 7, "B": 7, "E": 5, "A": 8}
TOKENS = {"TX": 12, "CL": 8, "ID": 9, "NR": 5, "CA": 7, "JW": 9, "DM": 2}
IDS_OF_TOKENS = [f"{kind}-{number:02}" for kind, count in TOKENS.items() for number in range(1, count + 1)]
IDS = [
    *(f"{kind}-{number}" for kind, count in SPIFFE.items() for number in range(1, count + 1)),
    *IDS_OF_TOKENS,
]
ID = r"(?:(?:ID|[XJWBEA])-[1-9]\d*|(?:TX|CL|ID|NR|CA|JW|DM)-[01]\d)\b"
# `test_tx_01_` was another spelling; it is found, and then it is wrong.
NAMED = re.compile(r"test_(tx|cl|id|nr|ca|jw|dm)(_?)(\d\d)_")
ATTACKS = {
    "cross-trust-domain forgery": "test_x_7_no_ca_makes_an_id_of_another_domain",
    "token for a human presented as JWT-SVID": "test_refuses_delegation_token_as_svid",
    "WIT presented in Authorization": "test_w_6_wit_in_authorization_at_check_is_refused",
    "JWT-SVID with an extra JOSE header": "test_j_1_refuses_an_extra_jose_header",
    "proof without ath": "test_w_7_refuses_proof_without_ath_while_an_access_token_is_there",
    "bundle without keys": "test_b_1_empty_bundle_revokes_everything",
    "redacted federated bundle on an open stream": "test_a1_redacted_federated_bundle_on_an_open_stream",
    "SVID of a prepared key": "test_nothing_is_signed_with_a_prepared_key",
    "newline in an ID": "test_id_5_the_whole_text_counts",
    "overlong ID": "test_id_4_at_most_255_bytes_of_trust_domain_and_of_all",
    "mixed-case ID": "test_id_1_one_scheme_one_authority_and_nothing_behind_the_path",
    "two tasks with one jti": "test_two_tasks_never_share_a_jti",
}


@cache
def docstrings() -> dict[str, str]:
    """The docstring of every test function, by its name; of two with one name, both together."""
    found: dict[str, str] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[node.name] = f"{ast.get_docstring(node) or ''}\n{found.get(node.name, '')}"
    return found


def first_ids(text: str) -> Iterator[str]:
    """The IDs that a docstring begins with."""
    for line in text.splitlines():
        if beginning := re.match(rf"{ID}(?:, {ID})*", line):
            yield from re.findall(ID, beginning[0])


@pytest.mark.parametrize("rule", IDS)
def test_a_rule_begins_the_docstring_of_a_test(rule: str) -> None:
    assert [name for name, text in docstrings().items() if rule in first_ids(text)]


@pytest.mark.parametrize("rule", IDS_OF_TOKENS)
def test_a_rule_of_tokens_is_the_name_of_a_test(rule: str) -> None:
    beginning = f"test_{rule.lower().replace('-', '')}_"
    assert [name for name in docstrings() if name.startswith(beginning)]


def test_a_test_that_is_named_after_a_rule_begins_with_it() -> None:
    wrong = []
    for name, text in docstrings().items():
        if named := NAMED.match(name):
            kind, spelling, number = named.groups()
            if spelling or f"{kind.upper()}-{number}" not in first_ids(text):
                wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_has_a_test(attack: str) -> None:
    assert ATTACKS[attack] in docstrings()


def test_no_test_names_a_rule_that_there_is_not() -> None:
    named = {rule for text in docstrings().values() for rule in first_ids(text)}
    assert named == set(IDS)
