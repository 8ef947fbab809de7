"""Names of one object: what a parser that folds them takes for one is refused, everything else passes."""

import pytest

from authz.errors import InspectionError
from authz.protocols.members import check_distinct
from authz.protocols.reader_codes import MCP


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["ticket", "status"],
        ["ticketId", "Status", "in reply to"],
        ["a", "b\u00e9", "\u00fc"],
        # Joined they hold the same letters, one by one they are distinct.
        ["ab", "c", "a", "bc"],
        ["aB", "c", "a", "bC"],
    ],
)
def test_distinct_names_pass(names: list[str]) -> None:
    check_distinct(dict.fromkeys(names), MCP, "arguments")


@pytest.mark.parametrize(
    "names",
    [
        ["account", "Account"],
        ["reply to", "replyto"],
        ["s", "\u017f"],
        ["k", "\u212a"],
        ["a", "a\x00"],
        ["a", "a\u200b"],
        ["a\x7f", "a"],
    ],
)
def test_names_that_a_folding_parser_takes_for_one_are_refused(names: list[str]) -> None:
    with pytest.raises(InspectionError) as caught:
        check_distinct(dict.fromkeys(names), MCP, "arguments")
    assert caught.value.code is MCP.lookalike
