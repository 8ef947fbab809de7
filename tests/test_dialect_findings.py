"""Each rule of the checklist that a stranger's token can break by itself, and what attackers would try.

A case is a right token with one change; the finding must name the rule and refuse, or warn.
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from identity.caller import MAX_DEPTH
from identity.dialect import Dialect, detect
from identity.dialect_actors import read_actors
from identity.dialect_caller import NormalisedCaller, judge_token
from identity.dialect_findings import LEEWAY, Finding, Judged

NOW = 1_750_000_000
BROKER = "https://broker.td.example"
HEADER: dict[str, object] = {"alg": "ES256", "kid": "k1", "typ": "at+jwt"}


def actor(number: int = 1, **members: object) -> dict[str, object]:
    named = {"iss": BROKER, "sub": f"spiffe://td.example/agent/a{number}", "sub_profile": "ai_agent"}
    return named | members


def chain(depth: int, distinct: int | None = None) -> dict[str, object]:
    act: dict[str, object] = {}
    for number in range(depth):
        act = actor(number % (distinct or depth), **({"act": act} if act else {}))
    return act


def right(**changes: object) -> dict[str, object]:
    claims: dict[str, object] = {
        "iss": BROKER,
        "sub": "alice",
        "sub_profile": "user",
        "client_id": "spiffe://td.example/agent/a1",
        "aud": "https://booking.td.example",
        "scope": "booking:create",
        "jti": "j",
        "iat": NOW,
        "exp": NOW + 60,
        "cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"},
        "act": actor(),
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


def judge(
    claims: dict[str, object], header: dict[str, object] | None = None, now: int = NOW + 10
) -> tuple[Dialect, NormalisedCaller | None, tuple[Finding, ...]]:
    used = HEADER if header is None else header
    typ = str(used.get("typ", "")).lower()
    actors = read_actors(claims)
    dialect = detect(typ, claims, actors)
    moment = datetime.fromtimestamp(now, UTC)
    return dialect, *judge_token(Judged(typ, used, claims, dialect, actors, moment))


def rules(findings: tuple[Finding, ...], severity: str = "error") -> list[tuple[str, str]]:
    return [(one.rule, one.claim) for one in findings if one.severity == severity]


def refused(
    claims: dict[str, object], header: dict[str, object] | None = None, now: int = NOW + 10
) -> list[tuple[str, str]]:
    """The rules that refuse it; then there is no caller."""
    _, caller, findings = judge(claims, header, now)
    assert (caller is None) == bool(rules(findings))
    return rules(findings)


def warned(claims: dict[str, object], header: dict[str, object] | None = None) -> list[tuple[str, str]]:
    """The rules that warn; the token is read all the same."""
    _, caller, findings = judge(claims, header)
    assert caller is not None
    return rules(findings, "warning")


def test_a_token_that_keeps_every_rule_has_no_finding() -> None:
    dialect, caller, findings = judge(right())
    assert (dialect, findings) == (Dialect.ACTOR_PROFILE, ())
    assert caller is not None
    assert caller.human is not None
    assert caller.human.uri == f"{BROKER}#alice"


@pytest.mark.parametrize(
    ("subject", "act"),
    [
        ({"sub": "spiffe://td.example/agent/a"}, {"iss": BROKER, "sub": "alice@td.example"}),
        ({"sub": "WIMSE://td.example/agent/a"}, {"iss": BROKER, "sub": "usr_1"}),
        ({"sub": "agent-7", "client_id": "agent-7"}, {"iss": BROKER, "sub": "usr_1"}),
        ({"sub": "agent-7", "client_id": None, "azp": "agent-7"}, actor()),
        ({"sub": "x@clients"}, {"iss": BROKER, "sub": "auth0|1"}),
        ({"sub": "x@p.iam.gserviceaccount.com"}, {"iss": BROKER, "sub": "alice@td.example"}),
        ({"sub": "agent-7", "sub_profile": "ai_agent"}, {"iss": BROKER, "sub": "usr_1"}),
        ({"sub": "agent-7", "sub_profile": "service"}, {"iss": BROKER, "sub": "1", "sub_profile": "user"}),
        ({"sub": "agent-7", "sub_profile": None}, {"iss": BROKER, "sub": "1", "sub_profile": "user"}),
        ({"sub": "agent-7", "identity_type": "mcp_server"}, {"iss": BROKER, "sub": "usr_1"}),
        ({"sub": "spiffe://td.example/a", "delegation_depth": 1}, actor()),
    ],
)
def test_id01_sub_and_act_that_changed_places_are_refused(subject: Any, act: Any) -> None:
    """ID-01."""
    claims = right(**({"sub_profile": None} | subject), act=act)
    dialect, caller, findings = judge(claims)
    assert (dialect, caller) == (Dialect.INVERTED_ACT, None)
    assert rules(findings)[0] == ("ID-01", "act")
    assert "changed places" in findings[0].sentence


@pytest.mark.parametrize("name", ["bob@td.example", "auth0|bob", "google-oauth2|1"])
def test_id01_an_actor_that_is_named_as_people_are_is_refused(name: str) -> None:
    """ID-01."""
    assert ("ID-01", "act") in refused(right(act={"iss": BROKER, "sub": name}))
    assert refused(right(act=actor(sub=name), client_id=name)) == []


def test_id01_a_subject_that_is_no_person_we_accept_is_refused() -> None:
    """ID-01."""
    assert refused(right(sub="al ice")) == [("ID-01", "sub")]
    assert refused(right(iss="http://broker.td.example")) == [("ID-01", "sub")]


def test_id02_an_instance_is_copied_or_refused() -> None:
    """ID-02."""
    _, caller, _ = judge(right(act=actor(agent_instance_id="01H")))
    assert caller is not None
    assert caller.presenter.instance == "01H"
    assert refused(right(act=actor(agent_instance=7))) == [("ID-02", "act.agent_instance")]
    assert refused(right(act=actor(agent_instance="a b"))) == [("ID-02", "act.agent_instance")]


def test_id03_an_actor_is_a_namespace_and_a_name() -> None:
    """ID-03."""
    without = {name: value for name, value in actor().items() if name != "iss"}
    assert refused(right(act=without)) == [("ID-03", "act.iss")]
    plain = {"sub": "spiffe://td.example/agent/a1"}
    assert ("ID-03", "act.iss") in warned(right(sub_profile=None, act=plain))
    for local in (
        "agent-1",
        "spiffe:agent-1",
        "spiffe://td.example",
        "SPIFFE://td.example/a",
        "wimse://td/a",
    ):
        assert refused(right(sub_profile=None, act={"sub": local})) == [("ID-03", "act.iss")]
    assert refused(right(act=actor(iss=7))) == [("ID-03", "act.iss")]
    assert refused(right(act=actor(iss=""))) == [("ID-03", "act.iss")]
    for name in (None, 7, "", "a" * 256, "a\nb", ["x"]):
        assert ("ID-03", "act.sub") in refused(right(act=actor(sub=name)))
    assert ("ID-03", "act.act.sub") in refused(right(act=actor(act={"iss": BROKER})))


@pytest.mark.parametrize("act", [None, "agent", ["agent"], 7, True])
def test_id03_an_act_that_is_no_object_names_nobody(act: object) -> None:
    """ID-03."""
    claims = right() | {"act": act}
    assert ("ID-03", "act") in refused(claims)
    assert ("ID-03", "act.act") in refused(right(act=actor(act=act)))


def test_id04_a_chain_may_be_as_deep_as_ours() -> None:
    """ID-04."""
    claims = right(act=chain(MAX_DEPTH), client_id=None, azp=f"spiffe://td.example/agent/a{MAX_DEPTH - 1}")
    assert ("ID-04", "act") in warned(claims)
    assert ("ID-04", "act") not in warned(claims | {"act": chain(4)})
    assert refused(claims | {"act": chain(MAX_DEPTH + 1)}) == [("ID-04", "act")]


@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_id04_ten_thousand_actors_are_counted_without_recursion(depth: int) -> None:
    """ID-04."""
    claims = right(act=chain(depth))
    actors = read_actors(claims)
    assert (actors.depth, len(actors.shown), actors.broken_at) == (depth, MAX_DEPTH, None)
    dialect, caller, findings = judge(claims)
    assert (dialect, caller) == (Dialect.ACTOR_PROFILE, None)
    assert ("ID-04", "act") in rules(findings)
    assert f"{depth} actors" in findings[0].sentence
    assert len(findings) < 50
    # Where it stops being a chain is said, in a path that does not grow with it.
    inner: Any = claims
    for _ in range(depth):
        inner = inner["act"]
    inner["act"] = "x"
    assert len(read_actors(claims).broken_at or "") < 64


def test_id05_a_chain_that_runs_in_a_circle_is_refused() -> None:
    """ID-05."""
    assert refused(right(act=actor(act=actor(2, act=actor(1))))) == [("ID-05", "act")]
    twice = actor(act=actor(1))
    assert warned(right(act=twice)) == [("ID-05", "act")]
    runs = actor(agent_instance="1", act=actor(1, agent_instance="2"))
    assert warned(right(act=runs)) == []
    assert ("ID-05", "act") in refused(right(sub="x", act=actor(sub="x"), client_id="y"))
    # The same name in another namespace is somebody else.
    other = actor(iss="https://other.example", sub="x")
    assert warned(right(sub="x", act=other, client_id="y")) == [("ID-09", "client_id")]


def test_id06_a_chain_that_the_issuer_shortened_is_told() -> None:
    """ID-06."""
    assert warned(right(chain_complete=False)) == [("ID-06", "chain_complete")]
    assert warned(right(chain_complete=True)) == []


def test_id07_who_is_not_classified_is_not_guessed() -> None:
    """ID-07."""
    assert warned(right(sub_profile=None)) == [("ID-07", "sub_profile")]
    assert warned(right(sub_profile="robot")) == [("ID-07", "sub_profile")]
    assert warned(right(act=actor(sub_profile=None) | {"sub_profile": "robot"})) == [
        ("ID-07", "act.sub_profile")
    ]
    assert refused(right(act=actor(sub_profile=["ai_agent"]))) == [("ID-07", "act.sub_profile")]
    assert refused(right(act=actor(sub_profile="ai_agent user"))) == [("ID-07", "act.sub_profile")]
    assert warned(right(act=actor(client_profile="service"))) == [("ID-07", "act.client_profile")]
    assert warned(right(act=actor(exp=1, scope="x"))) == [("RFC 8693 4.1", "act")]
    browser = actor(2, sub_profile="browser_app")
    assert warned(right(act=actor(act=browser))) == [("ID-07", "act.act.sub_profile")]


def test_id07_a_client_beside_a_user_is_no_delegation() -> None:
    """ID-07."""
    for name in ("client_id", "azp", "cid", "appid"):
        dialect, caller, findings = judge(right(act=None, client_id=None) | {name: "agent"})
        assert (dialect, caller) == (Dialect.AUTHORIZED_PARTY, None)
        assert rules(findings)[0][0] == "ID-07"


def test_id08_an_agent_for_an_agent_has_no_human() -> None:
    """ID-08."""
    claims = right(sub="spiffe://td.example/agent/a9", sub_profile="ai_agent")
    assert refused(claims) == [("ID-08", "sub")]
    own = {name: value for name, value in claims.items() if name != "act"}
    dialect, caller, _ = judge(own)
    assert dialect is Dialect.AUTONOMOUS_AGENT
    assert caller is not None
    assert (caller.human, caller.presenter.sub) == (None, "spiffe://td.example/agent/a9")
    assert refused(own | {"sub_profile": "ai_agent user"}) == [("ID-07", "sub_profile")]
    # The `sub` conflict: a person with the name of a workload could pass as its SVID.
    assert refused(claims | {"sub_profile": "user"}) == [("ID-08", "sub")]


def test_id09_the_client_and_the_presenter_are_one() -> None:
    """ID-09."""
    assert warned(right(client_id="travel-agent")) == [("ID-09", "client_id")]
    assert warned(right(client_id="c", act=actor(client_id="c"))) == []
    assert refused(right(client_id="c", act=actor(client_id="d"))) == [("ID-09", "act.client_id")]
    assert refused(right(azp="somebody else")) == [("ID-09", "client_id")]
    assert refused(right(xms_act_fct="11")) == [("ID-09", "xms_act_fct")]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in ("iss", "sub") for v in (None, "", 7, ["x"])])
def test_cl01_a_token_names_issuer_and_subject(name: str, value: object) -> None:
    """CL-01."""
    claims = right() | {name: value}
    assert ("CL-01", name) in refused(claims)


def test_cl01_what_nothing_can_be_made_of_without_is_required() -> None:
    """CL-01."""
    assert refused(right(exp=None)) == [("CL-01", "exp")]
    assert refused(right(aud=None)) == [("CL-01", "aud")]
    assert warned(right(jti=None)) == [("CL-01", "jti")]
    assert warned(right(iat=None)) == [("CL-01", "iat")]
    assert warned(right(client_id=None)) == [("CL-01", "client_id")]


def test_cl02_a_transaction_token_has_its_own_claims() -> None:
    """CL-02."""
    header = HEADER | {"typ": "txntoken+jwt"}
    claims = right(txn="t", req_wl="spiffe://td.example/ns/a/sa/b", aud="td.example")
    assert judge(claims, header)[1] is not None
    for name in ("txn", "req_wl", "scope", "iss"):
        assert refused({key: value for key, value in claims.items() if key != name}, header)[0][1] == name
    own = claims | {"sub": "agent", "sub_profile": "service", "scope": ""}
    del own["act"]
    _, caller, _ = judge(own, header)
    assert caller is not None
    assert (caller.human, caller.scopes) == (None, frozenset())
    assert refused(own | {"sub_profile": "user"}, header) == [("ID-08", "act")]


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_cl07_a_token_of_the_future_is_refused(name: str) -> None:
    """CL-07."""
    at = NOW + 10
    assert refused(right(**{name: at + LEEWAY})) == []
    assert refused(right(**{name: at + LEEWAY + 1})) == [("CL-07", name)]


def test_cl07_a_long_life_is_told() -> None:
    """CL-07."""
    assert warned(right(exp=NOW + 3600)) == []
    assert warned(right(exp=NOW + 3601)) == [("CL-07", "exp")]


def test_jw06_a_token_that_has_ended_is_refused() -> None:
    """JW-06."""
    end = NOW + 60
    assert refused(right(), now=end + LEEWAY - 1) == []
    assert refused(right(), now=end + LEEWAY) == [("JW-06", "exp")]


@pytest.mark.parametrize("value", ["1750000060", 1750000060.0, True, -1, 2**80, [1], {}, False])
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_jw05_a_time_is_a_whole_number(name: str, value: object) -> None:
    """JW-05."""
    assert ("JW-05", name) in refused(right(**{name: value}))


@pytest.mark.parametrize("value", [{}, {"jkt": "a", "x5t#S256": "b"}, "x", [], ["jkt"], 7])
def test_cl08_there_is_one_key_and_it_is_the_presenters(value: object) -> None:
    """CL-08."""
    assert refused(right(cnf=value)) == [("CL-08", "cnf")]


def test_cl08_what_binds_nothing_is_told() -> None:
    """CL-08."""
    assert warned(right(cnf=None)) == [("CL-08", "cnf")]
    assert warned(right(cnf={"kty": "x"})) == [("CL-08", "cnf")]
    assert warned(right(act=actor(cnf={"jkt": "x"}))) == [("CL-08", "act.cnf")]
    assert warned(right(cnf=None, act=actor(cnf={"jkt": "x"}))) == [("CL-08", "act.cnf"), ("CL-08", "cnf")]


@pytest.mark.parametrize("value", ["", "a  b", "a a", 7, [], [""], ["a", 1], "a\tb", ["a b", "a"]])
def test_nr02_unknown_scopes_are_not_unlimited(value: object) -> None:
    """NR-02."""
    assert refused(right(scope=value)) == [("NR-02", "scope")]


def test_nr02_two_claims_may_not_tell_two_scopes() -> None:
    """NR-02."""
    assert refused(right(scope=None)) == [("NR-02", "scope")]
    assert refused(right(scp=["booking:create", "more"])) == [("NR-02", "scope")]
    assert refused(right(scp="booking:create")) == []


def test_nr03_a_token_is_for_one_service() -> None:
    """NR-03."""
    assert refused(right(aud=["https://a.example", "https://b.example"])) == [("NR-03", "aud")]
    assert refused(right(aud=["https://a.example", "https://a.example"])) == [("NR-03", "aud")]
    assert warned(right(aud=["https://a.example"])) == [("NR-03", "aud")]
    for value in ("tickets", "https://a.example/#x", "//a.example"):
        assert warned(right(aud=value)) == [("NR-03", "aud")]
    for value in (7, [], [7], "", {"x": 1}):  # type: ignore[assignment]  # what a stranger may write
        assert refused(right(aud=value))[0][1] == "aud"


def test_nr04_limits_that_are_not_shown_are_told() -> None:
    """NR-04."""
    assert warned(right(authorization_details=[])) == [("NR-04", "authorization_details")]


def test_tx08_a_permission_beside_an_actor_acts_nowhere() -> None:
    """TX-08."""
    assert warned(right(may_act={"sub": "x"})) == [("TX-08", "may_act")]


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS256", "ES256K", "EdDSA", "RS1", "", None, 7, ["ES256"], {}]
)
def test_jw01_only_our_algorithms_are_accepted(algorithm: object) -> None:
    """JW-01."""
    assert refused(right(), HEADER | {"alg": algorithm}) == [("JW-01", "header.alg")]


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c"])
def test_jw02_a_key_that_the_token_brings_along_is_never_followed(name: str) -> None:
    """JW-02."""
    assert warned(right(), HEADER | {name: "https://attacker.example"}) == [("JW-02", f"header.{name}")]


@pytest.mark.parametrize("kid", ["", 7, ["k"], "k" * 257, {}])
def test_jw02_a_kid_is_short_text(kid: object) -> None:
    """JW-02."""
    assert refused(right(), HEADER | {"kid": kid}) == [("JW-02", "header.kid")]


@pytest.mark.parametrize("kid", [None, "../../etc/passwd", "k' OR '1'='1", "k\x00", "k\n", "k k", "ké"])
def test_jw02_a_kid_is_only_a_name(kid: object) -> None:
    """JW-02."""
    assert warned(right(), HEADER | {"kid": kid}) == [("JW-02", "header.kid")]


@pytest.mark.parametrize("name", ["crit", "b64", "zip", "enc"])
@pytest.mark.parametrize("value", [[], ["b64"], False, "DEF"])
def test_jw03_no_extension_changes_how_it_is_read(name: str, value: object) -> None:
    """JW-03."""
    assert refused(right(), HEADER | {name: value}) == [("JW-03", f"header.{name}")]


@pytest.mark.parametrize(
    "typ", ["dpop+jwt", "secevent+jwt", "logout+jwt", "token-introspection+jwt", "wit+jwt", "?", "jwt\u212a"]
)
def test_jw04_another_kind_of_token_stands_for_no_caller(typ: str) -> None:
    """JW-04."""
    dialect, caller, findings = judge(right(), HEADER | {"typ": typ})
    assert (dialect, caller) == (Dialect.OTHER, None)
    assert rules(findings)[0] == ("JW-04", "typ")


def test_jw04_an_id_jag_with_act_is_still_a_grant() -> None:
    """JW-04."""
    dialect, caller, findings = judge(right(), HEADER | {"typ": "oauth-id-jag+jwt"})
    assert (dialect, caller, findings[0].rule) == (Dialect.ID_JAG, None, "CL-05")


def test_what_the_token_says_is_quoted_in_a_sentence_and_bounded() -> None:
    hostile = "x\x1b[31m\u202e" * 500
    claims = right(aud=hostile, client_id=hostile, cnf={hostile: 1}, act=actor(**{hostile: 1}))
    _, _, findings = judge(claims, HEADER | {"alg": hostile})
    assert len(findings) >= 5
    for finding in findings:
        assert len(finding.sentence) < 800
        assert finding.sentence.isprintable()
