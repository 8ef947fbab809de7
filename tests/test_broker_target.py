"""Which service a token is asked for (NR-03, RFC 8707), and whom a `may_act` names (TX-10)."""

import pytest

from authz.broker.basis import names
from authz.broker.person_token import MayAct
from authz.broker.target import TargetError, normal_target, one_target
from identity.caller import Agent, OidcClient
from identity.spiffe import TrustDomain

A = "https://a.example"


@pytest.mark.parametrize(
    "text",
    [A, f"{A}/", f"{A}:443", f"{A}:443/", "HTTPS://A.EXAMPLE", "https://A.example/"],
)
def test_nr03_one_target_in_many_spellings(text: str) -> None:
    """NR-03: case of scheme and host, the default port, the empty path."""
    assert normal_target(text) == normal_target(A)


@pytest.mark.parametrize(
    "text",
    [
        f"{A}/x",
        f"{A}:8443",
        "http://a.example",
        f"{A}?",
        f"{A}?x",
        f"{A}#",
        f"{A}#x",
        "https://a.example.",
        "https://user@a.example",
        f"{A}//",
        "a.example",
        "",
        "*",
        f" {A}",
    ],
)
def test_nr03_other_targets(text: str) -> None:
    """NR-03: no prefix, no guessing; a query or a fragment makes it another text."""
    assert normal_target(text) != normal_target(A)


def test_nr03_paths_keep_their_case() -> None:
    """NR-03: only what RFC 3986 calls equal is equal."""
    assert normal_target(f"{A}/Mcp") != normal_target(f"{A}/mcp")


def test_nr03_audience_and_resource_name_one() -> None:
    """NR-03: RFC 8707 section 2."""
    assert one_target(None, None) is None
    assert one_target("x", None) == "x"
    assert one_target(None, f"{A}/mcp") == f"{A}/mcp"
    assert one_target(A, f"{A}:443/") == A
    for audience, resource in ((A, "https://b.example"), ("a", A), (None, "a"), (None, f"{A}#x"), (None, "")):
        with pytest.raises(TargetError):
            one_target(audience, resource)


def test_tx10_may_act_names_one_agent() -> None:
    """TX-10: the whole pair; without `iss` it is the namespace of the token's issuer."""
    agent = Agent("triage", "o", "s", "p", "c", clients=frozenset({OidcClient("https://idp.example", "app")}))
    ours = ("https://broker.example", TrustDomain.parse("mesh.example"))
    for may_act, is_it in (
        (MayAct("https://broker.example", "spiffe://mesh.example/agent/triage"), True),
        (MayAct("https://idp.example", "app"), True),
        (MayAct(None, "app"), True),
        (MayAct(None, "spiffe://mesh.example/agent/triage"), False),
        (MayAct("https://broker.example", "app"), False),
        (MayAct("https://broker.example", "spiffe://mesh.example/agent/triage/task/x"), False),
        (MayAct("https://broker.example", "spiffe://other.example/agent/triage"), False),
        (MayAct("https://other.example", "app"), False),
    ):
        assert names(may_act, agent, "https://idp.example", ours) is is_it
