"""POST /token: rights only narrow, over services, tools, domains; and bad input: NR, CL-05, ID, TX-12, JW."""

from dataclasses import replace
from typing import Any

import pytest

from authz.broker.deps import AssertionTarget
from authz.broker.token_request import ACCESS_TOKEN, ID_JAG, ID_TOKEN, JWT
from authz.codes import Code
from authz.policy.verdict import Verdict
from identity.authorization_details import Detail
from identity.base64url import encode_base64url
from identity.caller import Hop
from identity.jws import UnverifiedToken, sign, verify
from tests.broker_fakes import (
    BILLING,
    BROKER,
    SETTINGS,
    TICKETS,
    Started,
    World,
    check_refused,
    consent,
    json_of,
    refused,
    run,
)

CONTINUED = {"subject_token_type": ACCESS_TOKEN}
PARTNER = "https://as.partner.example"
TARGET = AssertionTarget(PARTNER, "tickets", {"triage": "partner-triage"})
PARTNERED = replace(SETTINGS, assertion_targets={PARTNER: TARGET})
ASSERTED = {"audience": PARTNER, "requested_token_type": ID_JAG}


def detail(tool: str = "close", location: str = TICKETS, **more: object) -> dict[str, object]:
    plain = {"type": "mcp_tool_call", "locations": [location], "actions": ["tools/call"], "tool": tool}
    return plain | more


def details(*each: dict[str, object]) -> str:
    return json_of(list(each)).decode()


async def limited(world: World, task: Started, *each: dict[str, object], **more: str) -> str:
    return await world.token(task, authorization_details=details(*each), **more)


# ---------------------------------------------------------------- authorization details (NR-04)


def test_nr04_a_token_for_one_tool() -> None:
    """NR-04: what is asked for stands in the token, as it was understood."""

    async def act(world: World) -> None:
        task = await world.start()
        asked = detail(limits=[{"path": "/amount", "max": 100}], args_sha256="a" * 64)
        token = await limited(world, task, asked)
        assert UnverifiedToken.parse(token).unverified_claims["authorization_details"] == [asked]

    run(act)


def test_nr04_each_hop_refines() -> None:
    """NR-04: continued and handed on, with the limits of both; what is not asked again stays."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        held = detail(limits=[{"path": "/amount", "max": 100}])
        token = await limited(world, first, held, detail("list"))
        narrower = details(detail(limits=[{"path": "/amount", "max": 5}]))
        response = await world.delegate(first, token, second, authorization_details=narrower)
        handed = response.json()["access_token"]
        (left,) = world.verified(handed).details or ()
        assert left.covers(TICKETS, "close", {"amount": 5})
        assert not left.covers(TICKETS, "close", {"amount": 6})
        again = await world.exchange(second, handed, **CONTINUED)
        assert world.verified(again.json()["access_token"]).details == (left,)

    run(act)


@pytest.mark.parametrize(
    "wanted",
    [
        detail("open"),
        detail("close", BILLING),
        detail("close", args_sha256="b" * 64),
        detail("closed"),
    ],
)
def test_nr04_nothing_is_widened(wanted: dict[str, object]) -> None:
    """NR-04: a detail that refines none of those held is refused, also beside one that does."""

    async def act(world: World) -> None:
        task = await world.start()
        held = detail("close", args_sha256="a" * 64)
        token = await limited(world, task, held)
        for asked in ([wanted], [held, wanted]):
            await refused(
                world,
                task,
                "invalid_authorization_details",
                Code.DETAILS,
                token,
                **CONTINUED,
                authorization_details=details(*asked),
            )

    run(act)


@pytest.mark.parametrize(
    "wanted",
    [
        detail(type="payment"),
        detail(extra=1),
        detail(actions=["tools/list"]),
        detail(actions=["tools/call", "tools/list"]),
        detail(locations=[]),
        detail(locations=[TICKETS, BILLING]),
        detail(tool=""),
        detail(args_sha256="A" * 64),
        detail(limits=[{"path": "/a"}]),
        detail(limits=[{"path": "a", "max": 1}]),
        detail(limits=[{"path": "/a", "regex": ".*"}]),
        detail(limits=[{"path": "/a", "max": 1, "min": 0}]),
        detail(limits=[{"path": "/a", "max": "1"}]),
        detail(limits=[{"path": "/a", "equals": {}}]),
        {"type": "mcp_tool_call"},
    ],
)
def test_nr04_what_is_not_understood_is_refused(wanted: dict[str, object]) -> None:
    """NR-04: an unknown type or field could be one that narrows."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.exchange(task, authorization_details=details(wanted))
        assert response.json()["error"] == "invalid_authorization_details"
        assert "access_token" not in response.json()
        assert len(world.sink.entries) == before + 1

    run(act)


@pytest.mark.parametrize("location", [BILLING, "https://unknown.example", f"{TICKETS}/", BROKER])
def test_nr04_details_of_a_service_that_the_token_is_not_for(location: str) -> None:
    """NR-04: nobody would ever hold a call against them."""

    async def act(world: World) -> None:
        task = await world.start()
        await refused(
            world,
            task,
            "invalid_authorization_details",
            Code.DETAILS,
            authorization_details=details(detail(location=location)),
        )

    run(act)


def test_nr04_of_the_persons_tools_and_the_requests_both_count() -> None:
    """NR-04: the request refines the grant."""

    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.consents = [consent("triage", tools=frozenset({"tickets/close", "tickets/list"}))]
        token = world.verified(await limited(world, task, detail("close")))
        assert token.details == (Detail(TICKETS, "close"),)
        await refused(
            world,
            task,
            "invalid_authorization_details",
            Code.DETAILS,
            authorization_details=details(detail("open")),
        )

    run(act)


# ---------------------------------------------------------------- services and scopes (NR-01 to NR-03)


def test_nr01_a_token_with_scopes_of_several_services() -> None:
    """NR-01: the policy is asked once for each; its own service must be among them."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.policy.queries)
        response = await world.exchange(task, scope="tickets:read billing:read unknown:read")
        assert response.json()["scope"] == "billing:read tickets:read"
        asked: Any = [query["resource"] for query in world.policy.queries[before:]]
        assert [resource["service"] for resource in asked] == ["tickets", "billing"]
        token = response.json()["access_token"]
        assert world.verified(token).audience == TICKETS
        more = await world.exchange(task, token, **CONTINUED, audience=BILLING, scope="billing:read")
        assert world.verified(more.json()["access_token"], BILLING).scopes == {"billing:read"}

    run(act)


def test_nr01_a_further_service_that_the_policy_refuses_is_left_out() -> None:
    """NR-01: its scopes are left out, the rest stays."""

    async def act(world: World) -> None:
        task = await world.start()
        world.policy.scopes = ("tickets:read",)
        response = await world.exchange(task, scope="tickets:read billing:read")
        assert response.json()["scope"] == "tickets:read"

    run(act)


def test_nr01_a_token_has_a_scope_of_its_own_service() -> None:
    """NR-01: scopes of others alone are no token for this one."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task, scope="tickets:read")
        for scope in ({}, {"scope": "tickets:read"}, {"scope": "billing:read"}):
            response = await world.exchange(task, token, **CONTINUED, audience=BILLING, **scope)
            assert (response.status_code, response.json()["error"]) == (400, "invalid_scope")

    run(act)


def test_nr02_without_a_scope_it_is_what_all_allow() -> None:
    """NR-02: the intersection, never more than the subject has."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task, scope="tickets:read billing:read")
        world.policy.scopes = ("tickets:read", "tickets:write", "tickets:destroy", "billing:read")
        response = await world.exchange(task, token, **CONTINUED)
        assert response.json()["scope"] == "billing:read tickets:read"

    run(act)


def test_nr01_the_policy_narrows_later_too() -> None:
    """NR-01: what the policy took away is not continued."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        world.policy.scopes = ("tickets:read",)
        assert (await world.exchange(task, token, **CONTINUED)).json()["scope"] == "tickets:read"
        world.policy.verdict = Verdict("allow")
        await refused(world, task, "invalid_scope", Code.SCOPE_MISSING, token, **CONTINUED)

    run(act)


def test_nr03_audience_and_resource() -> None:
    """NR-03: RFC 8707: one target, in either parameter or in both."""

    async def act(world: World) -> None:
        task = await world.start()
        for form in (
            {"audience": "", "resource": TICKETS},
            {"resource": TICKETS},
            {"resource": f"{TICKETS}:443/"},
        ):
            assert world.verified(await world.token(task, **form)).audience == TICKETS
        for form in (
            {"resource": BILLING},
            {"resource": f"{TICKETS}#x"},
            {"audience": "", "resource": "tickets"},
            {"audience": "", "resource": "/"},
        ):
            before = len(world.sink.entries)
            response = await world.exchange(task, **form)
            check_refused(world, response, before, "invalid_target", Code.REQUEST_MALFORMED)

    run(act)


# ---------------------------------------------------------------- another domain (CL-05)


def test_cl05_an_assertion_for_another_domains_server() -> None:
    """CL-05: the claims of an ID-JAG, for one issuer, under the name by which it knows the agent."""

    async def act(world: World) -> None:
        task = await world.start()
        response = await world.exchange(task, **ASSERTED)
        body = response.json()
        assert (body["issued_token_type"], body["token_type"]) == (ID_JAG, "N_A")
        assert "refresh_token" not in body
        verified = verify(
            UnverifiedToken.parse(body["access_token"]),
            world.broker.authority.token_keys,
            typ=frozenset({"oauth-id-jag+jwt"}),
        )
        now = int(world.clock.now.timestamp())
        claims = dict(verified.claims)
        assert claims.pop("jti") != claims.pop("txn")
        assert claims == {
            "iss": BROKER,
            "sub": "https://idp.example#lead",
            "aud": PARTNER,
            "client_id": "partner-triage",
            "scope": "tickets:read tickets:write",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "acr": "urn:mace:incommon:iap:silver",
            "act": {
                "iss": BROKER,
                "sub": "spiffe://mesh.example/agent/triage",
                "sub_profile": "ai_agent",
                "agent_instance": task.id,
            },
        }
        issued: Any = world.sink.last["issued"]
        assert (issued["kind"], issued["audience"]) == ("id-jag", PARTNER)

    run(act, settings=PARTNERED)


def test_cl05_what_is_limited_stays_limited_elsewhere() -> None:
    """CL-05, NR-04: the tools that the person granted go with the assertion."""

    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.consents = [consent("triage", tools=frozenset({"tickets/close"}))]
        token = await world.token(task, **ASSERTED)
        claims = UnverifiedToken.parse(token).unverified_claims
        assert claims["authorization_details"] == [detail("close", PARTNER)]

    run(act, settings=PARTNERED)


def test_cl05_an_assertion_ends_with_what_stands_behind_it() -> None:
    """CL-05, CL-07: from a delegation token with ten seconds left, ten seconds."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        world.clock.forward(290)
        response = await world.exchange(task, token, **CONTINUED, **ASSERTED)
        assert response.json()["expires_in"] == 10
        claims = UnverifiedToken.parse(response.json()["access_token"]).unverified_claims
        assert claims["txn"] == world.verified(token).txn

    run(act, settings=PARTNERED)


def test_cl05_an_agent_that_is_not_known_there() -> None:
    """CL-05: `client_id` is a name that the other server gave."""

    async def act(world: World) -> None:
        task = await world.start("resolver")
        await refused(world, task, "invalid_target", Code.SERVICE_UNKNOWN, **ASSERTED)

    run(act, settings=PARTNERED)


@pytest.mark.parametrize(
    "form",
    [
        {"audience": "https://other.example", "requested_token_type": ID_JAG},
        {"audience": f"{PARTNER}/", "requested_token_type": ID_JAG},
        {"audience": TICKETS, "requested_token_type": ID_JAG},
        {"audience": PARTNER},
        {"audience": BROKER, "requested_token_type": ID_JAG},
    ],
)
def test_cl05_only_for_a_configured_server(form: dict[str, str]) -> None:
    """CL-05: its issuer exactly, and no access token for it."""

    async def act(world: World) -> None:
        await refused(world, await world.start(), "invalid_target", Code.SERVICE_UNKNOWN, **form)

    run(act, settings=PARTNERED)


def test_cl05_never_with_an_actor() -> None:
    """CL-05: whoever asks for it is the one who presents it there."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first)
        before = len(world.sink.entries) + 1
        response = await world.delegate(first, token, second, **ASSERTED)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act, settings=PARTNERED)


def test_cl05_an_assertion_is_no_credential_here() -> None:
    """CL-05, JW-04: neither a subject nor a login nor an actor."""

    async def act(world: World) -> None:
        task = await world.start()
        assertion = await world.token(task, **ASSERTED)
        for kind in (ACCESS_TOKEN, JWT, ID_TOKEN):
            response = await world.exchange(task, assertion, subject_token_type=kind)
            assert response.json()["error"] == "invalid_request"
        token = await world.token(task)
        form = {**CONTINUED, "actor_token": assertion, "actor_token_type": JWT}
        await refused(world, task, "invalid_request", Code.TOKEN_TYPE, token, **form)

    run(act, settings=PARTNERED)


# ---------------------------------------------------------------- reserved names and identities (TX-12, ID)


@pytest.mark.parametrize(
    "name",
    [
        "act",
        "sub",
        "cnf",
        "txn",
        "iss",
        "exp",
        "jti",
        "iat",
        "grants",
        "parents",
        "min_epoch",
        "may_act",
    ],
)
def test_tx12_no_parameter_overrides_a_claim(name: str) -> None:
    """TX-12: whatever it says, the claim is ours."""

    async def act(world: World) -> None:
        task = await world.start()
        plain = UnverifiedToken.parse(await world.token(task)).unverified_claims
        for value in ("x", "9999999999", '{"sub":"x"}', "[]"):
            token = await world.token(task, **{name: value})
            claims = UnverifiedToken.parse(token).unverified_claims
            assert claims.keys() == plain.keys()
            changed = {each for each in claims if claims[each] != plain[each]}
            assert changed <= {"jti", "txn"}
            assert value not in {claims["jti"], claims["txn"]}

    run(act)


def test_id02_class_and_instance() -> None:
    """ID-02, ID-09: `client_id` and `act.sub` are the class, `agent_instance` the run."""

    async def act(world: World) -> None:
        one, two = await world.start(), await world.start()
        claims: list[Any] = [
            UnverifiedToken.parse(await world.token(task)).unverified_claims for task in (one, two)
        ]
        assert {each["client_id"] for each in claims} == {"triage"}
        assert {each["act"]["sub"] for each in claims} == {"spiffe://mesh.example/agent/triage"}
        assert [each["act"]["agent_instance"] for each in claims] == [one.id, two.id]
        assert all(each["sub"] == "https://idp.example#lead" for each in claims)

    run(act)


@pytest.mark.parametrize("changes", [{"iss": None}, {"iss": "https://other.example"}, {"sub": None}])
def test_id03_the_whole_pair_names_an_actor(changes: dict[str, object]) -> None:
    """ID-03: an `act` without `iss`, or of another namespace, is no actor, and ours is never put there."""

    async def act(world: World) -> None:
        task = await world.start()
        claims = dict(UnverifiedToken.parse(await world.token(task)).unverified_claims)
        inner: Any = claims["act"]
        changed = {name: value for name, value in {**inner, **changes}.items() if value is not None}
        actors: list[object] = [changed, {}, "spiffe://mesh.example/agent/triage", [], None]
        for actor in actors:
            token = sign(world.broker.authority.token_key, "at+jwt", {**claims, "act": actor})
            await refused(world, task, "invalid_request", Code.TOKEN_CLAIMS, token, **CONTINUED)

    run(act)


def test_id06_id07_members_that_we_do_not_know_in_an_actor() -> None:
    """ID-06, ID-07: `client_profile` or `cnf` within `act` proves nothing, so it is refused."""

    async def act(world: World) -> None:
        task = await world.start()
        claims = dict(UnverifiedToken.parse(await world.token(task)).unverified_claims)
        inner: Any = claims["act"]
        for more in ({"client_profile": "x"}, {"cnf": {"jkt": "x"}}, {"sub_profile": "user"}):
            changed = {**claims, "act": {**inner, **more}}
            token = sign(world.broker.authority.token_key, "at+jwt", changed)
            await refused(world, task, "invalid_request", Code.TOKEN_CLAIMS, token, **CONTINUED)

    run(act)


def test_id05_the_chain_stays_when_it_is_continued_for_another_service() -> None:
    """ID-01, ID-05: `aud` changes by hop, the chain does not."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first, scope="tickets:read billing:read")
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        response = await world.exchange(second, handed, **CONTINUED, audience=BILLING)
        other = world.verified(response.json()["access_token"], BILLING)
        assert other.chain == (Hop("resolver", second.id), Hop("triage", first.id))
        assert (
            UnverifiedToken.parse(response.json()["access_token"]).unverified_claims["act"]
            == UnverifiedToken.parse(handed).unverified_claims["act"]
        )

    run(act)


# ---------------------------------------------------------------- bad input


def nested(depth: int) -> str:
    """A token, signed by nobody, whose `act` goes deep."""
    act = b'{"act":' * depth + b"{}" + b"}" * depth
    head = encode_base64url(b'{"alg":"ES256","kid":"x","typ":"at+jwt"}')
    body = encode_base64url(b'{"iss":"https://broker.mesh.example","act":' + act + b"}")
    return f"{head}.{body}.{encode_base64url(b'x' * 64)}"


@pytest.mark.parametrize("depth", [31, 33, 700, 10_000])
def test_id04_ten_thousand_actors_end_before_any_signature(depth: int) -> None:
    """ID-04, JW-05: without recursion, with one record."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.exchange(task, nested(depth), **CONTINUED)
        assert response.status_code in {400, 413}
        assert response.json()["error"] == "invalid_request"
        assert len(world.sink.entries) == before + 1
        svid = await world.jwt_svid(task)
        for form in (
            {"actor_token": nested(depth), "actor_token_type": JWT},
            {"client_assertion": nested(depth)},
        ):
            before = len(world.sink.entries)
            response = await world.exchange(task, svid, **CONTINUED, **form)
            assert "access_token" not in response.json()
            assert len(world.sink.entries) == before + 1

    run(act)


@pytest.mark.parametrize(
    "where", ["subject_token", "actor_token", "client_assertion", "authorization_details"]
)
@pytest.mark.parametrize("size", [9_000, 1 << 20])
def test_jw05_a_long_value_anywhere(where: str, size: int) -> None:
    """JW-05: nothing issued, one record, and nothing of it in the answer."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        types = {"actor_token_type": JWT} if where == "actor_token" else {}
        response = await world.exchange(task, **types, **{where: "z" * size})
        assert response.status_code in {400, 401, 413}
        assert "access_token" not in response.json()
        assert "zzz" not in response.text
        assert len(world.sink.entries) == before + 1
        assert "z" * 100 not in str(world.sink.last)

    run(act)


@pytest.mark.parametrize("count", [32, 33, 5_000])
def test_tx03_many_parameters(count: int) -> None:
    """TX-03: their number is bounded."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.exchange(task, **{f"p{number}": "x" for number in range(count)})
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


@pytest.mark.parametrize("name", ["grant_type", "subject_token_type", "scope", "client_id", "resource"])
def test_tx03_each_parameter_stands_once(name: str) -> None:
    """TX-03: over HTTP, with one record."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        twice: Any = {name: ["x", "x"]}
        response = await world.exchange(task, **twice)
        error = "invalid_target" if name == "resource" else "invalid_request"
        check_refused(world, response, before, error, Code.REQUEST_MALFORMED)

    run(act)


@pytest.mark.parametrize("grant_type", ["authorization_code", "client_credentials", "refresh_token", "x"])
def test_tx02_another_grant_type(grant_type: str) -> None:
    """TX-02: only token exchange exists."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.exchange(task, grant_type=grant_type)
        check_refused(world, response, before, "unsupported_grant_type", Code.REQUEST_MALFORMED)

    run(act)


@pytest.mark.parametrize(
    "kind", ["refresh_token", "saml1", "saml2", "self_signed", "unsigned_json", "id-jag"]
)
def test_tx04_another_type_of_subject(kind: str) -> None:
    """TX-04: refused whatever the token is."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        kinds = f"urn:ietf:params:oauth:token-type:{kind}"
        response = await world.exchange(task, subject_token_type=kinds)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)
