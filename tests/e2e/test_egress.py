"""The way out, with a real Envoy: who may talk to which host and model, and what arrives there."""

import json
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
import pytest

from authz.codes import Code
from authz.outside import KEPT_INSIDE, KEPT_INSIDE_PREFIXES
from tests.e2e.egress_world import (
    FORGED,
    FORGOTTEN,
    KEY,
    LEDGER,
    MODELS,
    PROTOCOLS,
    WEATHER,
    Egress,
    chat,
    egress,
)
from tests.e2e.flow_mesh import refused
from tests.e2e.outside_host import EVENTS, Got
from tests.e2e.services import until
from tests.fakes import RUNNER

pytestmark = pytest.mark.e2e

UNKNOWN = "DPT-SERVICE-UNKNOWN"


@pytest.fixture(scope="module")
def world(envoy_binary: Path) -> Iterator[Egress]:
    del envoy_binary
    with egress() as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_arrived(request: pytest.FixtureRequest) -> None:
    world: Egress = request.getfixturevalue("world")
    world.outside.got.clear()
    # In each second only so many refusals of one peer have a record of their own.
    world.flow_world.now += timedelta(seconds=1)


def only(world: Egress) -> Got:
    (got,) = world.outside.got
    return got


def nothing_of_ours(got: Got) -> None:
    """What arrives says neither who called nor that we exist."""
    names = {name.lower() for name, _ in got.headers}
    assert names.isdisjoint({*KEPT_INSIDE, "x-forwarded-proto"} - {"authorization"})
    assert not [name for name in names if name.startswith((*KEPT_INSIDE_PREFIXES, "x-envoy-"))]
    said, ours = json.dumps([got.line, got.headers]), ("spiffe", "deputy", "eyJ", "mesh.example", "resolver")
    assert not [word for word in ours if word in said]
    assert not got.certificate


# ---- allowed


def test_an_allowed_call_of_a_model_arrives_with_the_key_and_nothing_of_ours(world: Egress) -> None:
    answer = world.model()
    assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, "hello")
    got = only(world)
    nothing_of_ours(got)
    assert got.line == "POST /v1/chat/completions HTTP/1.1"
    assert got.body == chat()
    assert got.values("authorization") == [f"Bearer {KEY}"]
    assert got.values("host") == [MODELS]
    assert got.server_name == MODELS


def test_the_record_of_it_has_everything(world: Egress) -> None:
    answer = world.model()
    record = world.records()[-1]
    assert (record["effect"], record["agent"], record["txn_jti"]) == ("allow", "resolver", None)
    assert record["resource"] == {"name": "small-1", "service": "models", "type": "model"}
    assert record["human"]["subject"] == "lead"
    assert answer.headers["x-deputy-decision"] == world.flow_world.sink.entries[-1].id


def test_an_agent_cannot_bring_what_would_tell_of_us_or_another_account(world: Egress) -> None:
    mine = [(name, "mine") for name in KEPT_INSIDE if name not in {"authorization", "dpop"}]
    mine = [(name, value) for name, value in mine if not name.startswith(("txn-", "workload-"))]
    mine += [("x-deputy-human", "mine"), ("x-forwarded-host", "mine"), ("x-b3-traceid", "mine")]
    assert world.model(*mine).status == 200
    got = only(world)
    nothing_of_ours(got)
    assert [(name, value) for name, value in got.headers if "mine" in value] == []


def test_what_the_call_says_itself_passes(world: Egress) -> None:
    assert world.today(("accept", "application/json"), ("x-units", "metric")).status == 200
    got = only(world)
    assert (got.values("accept"), got.values("x-units")) == (["application/json"], ["metric"])


def test_a_host_without_a_key_gets_no_credential_at_all(world: Egress) -> None:
    assert world.today().status == 200
    got = only(world)
    nothing_of_ours(got)
    assert got.values("authorization") == []


def test_a_stream_of_events_ends_when_its_agent_is_contained(world: Egress) -> None:
    """What a model has to say no longer gets in, whether or not it says something at that moment."""
    world.outside.first_event_read.clear()
    headers = (world.bearer("models"), ("content-type", "application/json"))
    opened = world.opened(
        "/v1/chat/completions", *headers, method="POST", host=MODELS, body=chat(stream=True)
    )
    with opened as response:
        assert response.readline() == EVENTS[0].splitlines(keepends=True)[0]
        world.contain("resolver")
        try:
            with pytest.raises((HTTPException, OSError)):
                response.read()
        finally:
            world.release()
            world.outside.first_event_read.set()
    assert [record["code"] for record in world.records() if record["kind"] == "withdrawn"][-1] == (
        Code.CONTAINED
    )


def test_an_agent_sees_the_models_that_it_may_use(world: Egress) -> None:
    answer = world.ask("/v1/models", world.bearer("models"), host=MODELS)
    assert [model["id"] for model in answer.json["data"]] == ["small-1"]


def test_a_stream_of_events_passes_as_it_comes(world: Egress) -> None:
    """The host sends the rest only when the client has read the beginning."""
    given = (world.bearer("models"), ("content-type", "application/json"))
    body = chat(stream=True)
    with world.opened("/v1/chat/completions", *given, method="POST", host=MODELS, body=body) as response:
        assert response.read(len(EVENTS[0])) == EVENTS[0]
        world.outside.first_event_read.set()
        assert response.read() == b"".join(EVENTS[1:])


def test_a_call_of_grpc_passes_and_another_does_not(world: Egress) -> None:
    metadata = (world.bearer("ledger"), ("baggage", "user=lead"))
    with world.channel(LEDGER) as channel:
        get: Any = channel.unary_unary("/ledger.v1.Ledger/Get")
        assert get(b"account-1", metadata=metadata, timeout=30) == b"account-1"
        put: Any = channel.unary_unary("/ledger.v1.Ledger/Put")
        with pytest.raises(grpc.RpcError) as caught:
            put(b"account-1", metadata=metadata, timeout=30)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    (rpc,) = world.outside.rpcs
    assert rpc.keys().isdisjoint({*KEPT_INSIDE, "x-forwarded-proto"})


def test_a_client_may_name_the_port_and_may_take_us_for_its_proxy(world: Egress) -> None:
    for target, host in (("/v1/today", f"{WEATHER}:443"), (f"http://{WEATHER}/v1/today", WEATHER)):
        assert world.today(host=host, target=target).status == 200
    assert [got.values("host") for got in world.outside.got] == [[WEATHER], [WEATHER]]
    assert {got.line for got in world.outside.got} == {"GET /v1/today HTTP/1.1"}


def test_what_is_configured_as_if_it_were_ours_gets_nothing_of_ours_all_the_same(world: Egress) -> None:
    """Without `txn: none` Deputy makes a transaction token; this Envoy lets none out."""
    assert world.ask("/v1/today", world.bearer("forgotten"), host=FORGOTTEN).status == 200
    assert world.records()[-1]["txn_jti"] is not None
    nothing_of_ours(only(world))


def test_where_tokens_come_from_is_answered_here_and_asked_nobody(world: Egress) -> None:
    answer = world.ask("/.well-known/oauth-protected-resource", host=MODELS)
    assert (answer.status, answer.json["resource"]) == (200, f"https://{MODELS}")
    assert world.outside.got == []


# ---- refused


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"model": "large-1"}, "DPT-TOOL-UNKNOWN"),
        ({"max_tokens": 101}, "DPT-ARGUMENT-LIMIT"),
        ({"fallbacks": ["large-1"]}, "DPT-LLM-BODY"),
    ],
    ids=["model", "limit", "another-model-besides"],
)
def test_another_model_or_more_than_the_limit_is_refused(
    world: Egress, members: dict[str, Any], code: str
) -> None:
    answer = world.model(**members)
    assert answer.status in {400, 403}
    assert refused(answer) == code
    assert world.outside.got == []


def test_an_agent_without_a_right_on_the_host_is_refused(world: Egress) -> None:
    answer = world.model(agent="triage")
    assert (answer.status, world.outside.got) == (403, [])
    assert refused(answer).startswith("DPT-AGENT-")


def test_a_token_for_one_host_is_none_for_another(world: Egress) -> None:
    answer = world.ask("/v1/today", world.bearer("models"), host=WEATHER)
    assert (answer.status, refused(answer), world.outside.got) == (401, "DPT-TOKEN-AUDIENCE", [])


def test_without_a_token_nothing_leaves(world: Egress) -> None:
    answer = world.ask("/v1/today", host=WEATHER)
    assert (answer.status, refused(answer), world.outside.got) == (401, "DPT-TOKEN-MISSING", [])


@pytest.mark.parametrize(
    "host",
    [
        "unknown.example",
        "169.254.169.254",
        "localhost",
        "127.0.0.1:443",
        f"{WEATHER}.",
        f"{WEATHER}:8443",
        f"{WEATHER}.evil.example",
        f"a.{WEATHER}",
        "nowhere",
        "*",
    ],
)
def test_a_host_that_no_service_names_is_refused_and_recorded(world: Egress, host: str) -> None:
    answer = world.today(host=host)
    assert refused(answer) == ("DPT-REQUEST-MALFORMED" if host == "*" else UNKNOWN)
    assert world.outside.got == []


def test_the_record_of_an_unknown_host_names_it(world: Egress) -> None:
    world.today(host="unknown-for-the-record.example")
    record = world.records()[-1]
    assert (record["code"], record["peer"]) == (UNKNOWN, str(RUNNER))
    assert "unknown-for-the-record.example" in record["detail"]


def test_nothing_is_looked_up_but_what_is_listed(world: Egress) -> None:
    world.today(host="unknown.example")
    clusters = json.loads(world.envoy.admin("/clusters?format=json"))["cluster_statuses"]
    ours = {"deputy", "deputy-answers"}
    assert {each["name"] for each in clusters} == ours | {f"outside-{name}" for name in PROTOCOLS}
    assert b"dns_cache" not in world.envoy.admin("/stats")


def test_a_host_whose_certificate_has_another_name_gets_nothing(world: Egress) -> None:
    answer = world.ask("/v1/today", world.bearer("forged"), host=FORGED)
    assert (answer.status, world.outside.got) == (503, [])


# ---- tricks


@pytest.mark.parametrize(
    "header",
    [
        ("x-envoy-original-dst-host", "127.0.0.1:1"),
        ("x-forwarded-host", MODELS),
        ("x-original-host", MODELS),
        ("x-host", MODELS),
        ("forwarded", f"host={MODELS}"),
        ("x-envoy-original-path", "/v1/secret"),
        ("x-envoy-decorator-operation", MODELS),
        ("x-envoy-upstream-alt-stat-name", "x"),
    ],
    ids=lambda header: str(header[0]),
)
def test_no_header_leads_elsewhere(world: Egress, header: tuple[str, str]) -> None:
    assert world.today(header).status == 200
    got = only(world)
    assert (got.server_name, got.values("host"), got.values("authorization")) == (WEATHER, [WEATHER], [])


@pytest.mark.parametrize(
    "hosts",
    [f"Host: {WEATHER}\r\nHost: {MODELS}", f"Host: {MODELS}\r\nHost: {WEATHER}", "X-A: b"],
    ids=["two", "two-turned", "none"],
)
def test_two_hosts_or_none_are_no_host(world: Egress, hosts: str) -> None:
    name, value = world.bearer("weather")
    request = f"GET /v1/today HTTP/1.1\r\n{hosts}\r\n{name}: {value!s}\r\nConnection: close\r\n\r\n"
    assert b" 200 " not in world.raw(request.encode()).partition(b"\r\n")[0]
    assert world.outside.got == []


def test_the_url_decides_where_a_proxy_request_has_another_host_header(world: Egress) -> None:
    """RFC 9112 section 3.2.2; the check and the route read the same."""
    answer = world.today(host=WEATHER, target=f"http://{MODELS}/v1/today")
    assert (refused(answer), world.outside.got) == ("DPT-TOKEN-AUDIENCE", [])
    answer = world.today(host=MODELS, target=f"http://{WEATHER}/v1/today")
    assert answer.status == 200
    assert only(world).values("host") == [WEATHER]


def test_a_url_with_a_user_names_no_host_of_ours(world: Egress) -> None:
    answer = world.today(target=f"http://{WEATHER}@unknown.example/v1/today")
    assert answer.status != 200
    assert world.outside.got == []


def test_in_http2_the_authority_decides_and_the_host_beside_it_is_nothing(world: Egress) -> None:
    name, value = world.bearer("weather")
    for authority, host, status in ((WEATHER, MODELS, "200"), (MODELS, WEATHER, "401")):
        world.outside.got.clear()
        said = world.http2(
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", "/v1/today"),
            ("host", host),
            (name, str(value)),
        )
        assert said[":status"] == status
        seen = [(got.values("host"), got.server_name) for got in world.outside.got]
        assert seen == ([([WEATHER], WEATHER)] if status == "200" else [])


def test_connect_is_refused_and_nobody_is_asked(world: Egress) -> None:
    """Nobody could read what is inside of a tunnel."""
    before = len(world.records())
    name, value = world.bearer("weather")
    for target in (f"{WEATHER}:443", "unknown.example:443"):
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{name}: {value!s}\r\n\r\n"
        assert world.raw(request.encode()).split(b" ")[1] == b"404"
    said = world.http2((":method", "CONNECT"), (":authority", f"{WEATHER}:443"))
    assert said[":status"] == "404"
    assert (world.outside.got, world.records()[before:]) == ([], [])


def test_an_upgrade_is_no_way_out(world: Egress) -> None:
    headers = (("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "AA=="))
    answer = world.today(*headers)
    assert (answer.status, world.outside.got) == (403, [])


def test_an_answer_from_outside_does_not_speak_as_deputy(world: Egress) -> None:
    forged = ("x-deputy-reason", "DPT-ALLOWED"), ("x-deputy-decision", "01M"), ("alt-svc", 'h3=":443"')
    world.outside.answer_headers = (*forged, ("www-authenticate", 'Bearer realm="elsewhere"'), ("x-own", "1"))
    try:
        headers = world.today().headers
    finally:
        world.outside.answer_headers = ()
    assert headers["x-own"] == "1"
    assert headers["x-deputy-decision"] == world.flow_world.sink.entries[-1].id
    assert headers.keys().isdisjoint({"x-deputy-reason", "alt-svc", "www-authenticate"})


def test_the_key_is_in_no_log(world: Egress) -> None:
    world.model()
    logs = world.envoy.log.read_text() + world.access_log.read_text()
    assert KEY not in logs + json.dumps(world.records())
    assert KEY.encode() not in world.envoy.admin("/config_dump?include_eds")


def test_a_new_key_counts_without_a_restart(world: Egress) -> None:
    world.write_key("sk-new-0123456789")
    try:
        until(lambda: world.model().status == 200 and f"{KEY}" not in str(world.outside.got[-1].headers))
        assert world.outside.got[-1].values("authorization") == ["Bearer sk-new-0123456789"]
    finally:
        world.write_key(KEY)
