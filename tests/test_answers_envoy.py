"""What Envoy shows of answers and is told: who made one and whose it is, whatever its headers say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.answers.admission import Answers
from authz.answers.arrival import (
    DETAILS,
    EXT_AUTHZ,
    EXT_PROC,
    Arrival,
    Chunk,
    Departure,
    Trailers,
    parse_part,
)
from authz.answers.guard import HeadersAnswer
from authz.answers.reply import (
    body_reply,
    departure_reply,
    headers_reply,
    kept_reply,
    refusal,
    trailers_reply,
)
from authz.codes import Code
from authz.errors import AnswerError, AuthenticationError, CodedError
from authz.headers import MAX_HEADERS
from authz.pb import ext_authz_pb2 as auth
from authz.pb import ext_proc_pb2 as pb
from authz.services import Services
from identity.spiffe import SpiffeId
from identity.withdrawal import Withdrawal, Withdrawals
from tests.fakes import GATEWAY, NOW, World

UPSTREAM = "via_upstream"
OTHER = SpiffeId.parse("spiffe://mesh.example/ns/other/sa/envoy")


def shown(
    *headers: tuple[str, bytes],
    status: bytes = b"200",
    details: str | None = UPSTREAM,
    passage: str | None = None,
    end_of_stream: bool = False,
    body_mode: int = pb.ProcessingMode.STREAMED,
) -> pb.ProcessingRequest:
    """The headers of an answer, as Envoy shows them."""
    message = pb.ProcessingRequest()
    part = message.response_headers
    part.end_of_stream = end_of_stream
    for name, value in ((":status", status), *headers):
        part.headers.headers.add(key=name, raw_value=value)
    message.protocol_config.response_body_mode = body_mode  # type: ignore[assignment]  # an enum is a number
    if details is not None:
        message.attributes[EXT_PROC].fields[DETAILS].string_value = details
    if passage is not None:
        message.metadata_context.filter_metadata[EXT_AUTHZ].fields["passage"].string_value = passage
    return message


def arrived(message: pb.ProcessingRequest) -> Arrival:
    part = parse_part(message.SerializeToString())
    assert isinstance(part, Arrival)
    return part


def code_of(message: pb.ProcessingRequest) -> Code:
    with pytest.raises(CodedError) as caught:
        parse_part(message.SerializeToString())
    return caught.value.code


# ---- what is shown


def test_the_headers_of_an_answer_are_read() -> None:
    message = shown(("content-type", b"application/json"), passage="whose", end_of_stream=True)
    arrival = arrived(message)
    assert (arrival.status, arrival.end_of_stream, arrival.is_local) == (200, True, False)
    assert arrival.headers.one("content-type") == "application/json"
    assert arrival.unverified_passage == "whose"
    assert "whose" not in repr(arrival)


@pytest.mark.parametrize("mode", pb.ProcessingMode.BodySendMode.values())
def test_only_a_proxy_that_sends_whole_bodies_shows_them(mode: int) -> None:
    """One that sends none might go on sending none, whatever it is asked for."""
    whole = {pb.ProcessingMode.STREAMED, pb.ProcessingMode.BUFFERED}
    assert arrived(shown(body_mode=mode)).shows_body == (mode in whole)


def departing(passage: str) -> pb.ProcessingRequest:
    """The headers of a request, as Envoy shows them where it is asked to."""
    message = shown(passage=passage, details=None)
    message.request_headers.headers.headers.add(key=":path", raw_value=b"/ledger.v1.Ledger/Import")
    return message


def test_of_a_call_that_goes_on_only_whose_it_is_is_read() -> None:
    part = parse_part(departing("whose").SerializeToString())
    assert part == Departure(shows_body=True, unverified_passage="whose")
    assert "whose" not in repr(part)


def test_a_call_that_goes_on_is_let_go_as_it_is() -> None:
    response = pb.ProcessingResponse.FromString(departure_reply())
    assert response.WhichOneof("response") == "request_headers"
    assert not response.request_headers.HasField("response")
    assert not response.HasField("mode_override")


def test_an_older_envoy_that_sends_text_is_read_too() -> None:
    message = shown()
    message.response_headers.headers.headers.add(key="content-type", value="text/plain")
    assert arrived(message).headers.one("content-type") == "text/plain"


def test_chunks_and_trailers_are_read() -> None:
    body = pb.ProcessingRequest(response_body=pb.HttpBody(body=b"{}", end_of_stream=True))
    assert parse_part(body.SerializeToString()) == Chunk(b"{}", end_of_stream=True)
    trailers = pb.ProcessingRequest(response_trailers=pb.HttpTrailers())
    assert parse_part(trailers.SerializeToString()) == Trailers()
    assert "{}" not in repr(parse_part(body.SerializeToString()))


@pytest.mark.parametrize(
    "details",
    [
        "ext_authz_denied",
        "ext_authz_error",
        "request_payload_too_large",
        "direct_response",
        "upstream_reset_before_response_started{remote_connection_failure}",
        "rbac_access_denied_matched_policy[none]",
    ],
)
def test_what_envoy_answered_itself_is_known_by_its_details(details: str) -> None:
    assert arrived(shown(details=details)).is_local


@pytest.mark.parametrize(
    "details",
    [
        None,
        "",
        UPSTREAM,
        "response_from_cache_filter",
        "lua_response",
        "{ext_authz_denied}",
        "ext_authz_denied ",
        "ext_authz_denied_not",
        "ext_authz_denied_{",
        "EXT_AUTHZ_DENIED",
        "\N{KELVIN SIGN}",
    ],
)
def test_every_other_answer_is_taken_for_an_upstreams(details: str | None) -> None:
    assert not arrived(shown(details=details)).is_local


def test_no_header_says_who_made_an_answer_or_whose_it_is() -> None:
    """An upstream writes headers as it likes."""
    names = (DETAILS, "x-deputy-reason", "x-deputy-decision", "passage", "response.code_details")
    arrival = arrived(shown(*((name, b"ext_authz_denied") for name in names)))
    assert not arrival.is_local
    assert arrival.unverified_passage == ""


def test_metadata_of_another_filter_says_nothing() -> None:
    message = shown()
    for other in ("envoy.filters.http.mcp", "envoy.filters.http.ext_authz.", "envoy.lb"):
        message.metadata_context.filter_metadata[other].fields["passage"].string_value = "mine"
        message.attributes[other].fields[DETAILS].string_value = "ext_authz_denied"
    message.metadata_context.filter_metadata[EXT_AUTHZ].fields["passage"].number_value = 1
    assert arrived(message).unverified_passage == ""
    assert not arrived(message).is_local


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"600", b"099", b" 200", b"\xb2\xb2\xb2", b"200\n"])
def test_refuses_a_status_that_is_none(status: bytes) -> None:
    assert code_of(shown(status=status)) is Code.ANSWER_UNREADABLE


def test_refuses_more_headers_than_are_read() -> None:
    assert (
        code_of(shown(*[(f"x-{number}", b"") for number in range(MAX_HEADERS + 1)])) is Code.REQUEST_MALFORMED
    )
    assert code_of(shown(("X-Upper", b""))) is Code.REQUEST_MALFORMED


def test_refuses_what_was_never_asked_for() -> None:
    assert code_of(pb.ProcessingRequest()) is Code.PASSAGE_MISSING
    # `request_body` and `request_trailers` of Envoy's own message.
    for number in (4, 6):
        with pytest.raises(AnswerError):
            parse_part(bytes([number << 3 | 2, 0]))


def test_refuses_a_proxy_that_does_not_wait() -> None:
    message = shown(passage="whose")
    message.observability_mode = True
    assert code_of(message) is Code.PASSAGE_MISSING


@given(st.binary(max_size=200))
def test_any_bytes_are_a_part_or_our_error(data: bytes) -> None:
    try:
        part = parse_part(data)
    except CodedError:
        return
    assert isinstance(part, Departure | Arrival | Chunk | Trailers)


# ---- what is said


def said(answer: HeadersAnswer, *, end_of_stream: bool = False) -> pb.ProcessingResponse:
    return pb.ProcessingResponse.FromString(headers_reply(answer, end_of_stream=end_of_stream))


def test_what_passes_changes_nothing_and_asks_for_nothing() -> None:
    response = said(HeadersAnswer("pass"))
    assert response.WhichOneof("response") == "response_headers"
    assert response.mode_override.response_body_mode == pb.ProcessingMode.NONE
    assert response.mode_override.response_trailer_mode == pb.ProcessingMode.SKIP
    assert not response.response_headers.HasField("response")


def test_what_is_watched_stays_open_and_shows_no_body() -> None:
    mode = said(HeadersAnswer("watch")).mode_override
    assert mode.response_body_mode == pb.ProcessingMode.NONE
    assert mode.response_trailer_mode == pb.ProcessingMode.SEND


def test_what_is_written_anew_shows_its_body_and_has_no_length() -> None:
    response = said(HeadersAnswer("rewrite", (("cache-control", "private"),), ("etag",)))
    assert response.mode_override.response_body_mode == pb.ProcessingMode.STREAMED
    assert response.mode_override.response_trailer_mode == pb.ProcessingMode.SEND
    mutation = response.response_headers.response.header_mutation
    assert list(mutation.remove_headers) == ["etag", "content-length"]
    (header,) = mutation.set_headers
    assert (header.header.key, header.header.raw_value, header.header.value) == (
        "cache-control",
        b"private",
        "",
    )
    assert header.append_action == auth.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


@pytest.mark.parametrize("kind", ["pass", "watch", "rewrite"])
def test_after_the_end_nothing_is_asked_for(kind: str) -> None:
    answer = replace(HeadersAnswer("watch", (("cache-control", "private"),)), kind=kind)  # type: ignore[arg-type]  # of the literal
    response = said(answer, end_of_stream=True)
    assert not response.HasField("mode_override")
    assert len(response.response_headers.response.header_mutation.set_headers) == 1


def test_a_refusal_replaces_the_whole_answer() -> None:
    response = said(refusal(AnswerError(Code.PASSAGE_MISSING, "a secret detail"), "01JD"))
    assert response.WhichOneof("response") == "immediate_response"
    immediate = response.immediate_response
    assert immediate.status.code == 503
    headers = {each.header.key: each.header.raw_value for each in immediate.headers.set_headers}
    assert headers["x-deputy-reason"] == b"DPT-PASSAGE-MISSING"
    assert headers["x-deputy-decision"] == b"01JD"
    assert headers["cache-control"] == b"no-store"
    assert b"secret detail" not in response.SerializeToString()


def test_a_refusal_of_nobodys_answer_names_no_decision() -> None:
    immediate = said(refusal(AnswerError(Code.PASSAGE_MISSING, "x"))).immediate_response
    assert "x-deputy-decision" not in {each.header.key for each in immediate.headers.set_headers}


def test_a_chunk_is_replaced_also_by_nothing() -> None:
    """An absent mutation would let the chunk pass."""
    mutation = pb.ProcessingResponse.FromString(body_reply(b"x")).response_body.response.body_mutation
    assert mutation.body == b"x"
    nothing = pb.ProcessingResponse.FromString(body_reply(b"")).response_body.response.body_mutation
    assert nothing.WhichOneof("mutation") == "clear_body"
    assert nothing.clear_body


def test_a_chunk_that_is_kept_has_no_mutation() -> None:
    response = pb.ProcessingResponse.FromString(kept_reply())
    assert response.WhichOneof("response") == "response_body"
    assert not response.response_body.HasField("response")


def test_trailers_pass() -> None:
    response = pb.ProcessingResponse.FromString(trailers_reply())
    assert response.WhichOneof("response") == "response_trailers"


# ---- who may bring it


def guarded() -> World:
    world = World()
    services = tuple(replace(service, is_guarded=True) for service in world.services.by_name.values())
    world.services = Services.of(services, tuple(world.services.askers.values()), None)
    return world


def passage_of(world: World) -> str:
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    return response.dynamic_metadata.fields["passage"].string_value


def admission_code(world: World, passage: str, asker: SpiffeId | None = GATEWAY) -> Code:
    with pytest.raises(CodedError) as caught:
        Answers(world.flow()).admit(arrived(shown(passage=passage)), asker)
    return caught.value.code


def test_a_proxy_brings_the_answer_to_a_call_that_it_asked_about() -> None:
    world = guarded()
    admitted = Answers(world.flow()).admit(arrived(shown(passage=passage_of(world))), GATEWAY)
    assert admitted.passage.decision_id == world.sink.entries[0].id


def test_refuses_an_answer_without_a_passage() -> None:
    assert admission_code(guarded(), "") is Code.PASSAGE_MISSING
    assert admission_code(guarded(), "{}") is Code.PASSAGE_MISSING


def test_refuses_a_proxy_that_nobody_knows() -> None:
    world = guarded()
    passage = passage_of(world)
    assert admission_code(world, passage, OTHER) is Code.ASKER_UNKNOWN
    assert admission_code(world, passage, None) is Code.ASKER_UNKNOWN


def test_refuses_the_answer_of_a_service_that_the_proxy_may_not_ask_about() -> None:
    world = guarded()
    passage = passage_of(world)
    assert admission_code(world, passage.replace('"tickets"', '"billing"')) is Code.ASKER_TARGET
    assert admission_code(world, passage.replace('"tickets"', '"nobody"')) is Code.SERVICE_UNKNOWN


def test_refuses_a_contained_proxy() -> None:
    world = guarded()
    passage = passage_of(world)
    contained = Withdrawal("workload", str(GATEWAY), None, "image not ours", "operator", NOW)
    world.rights.withdrawals = Withdrawals.of((contained,))
    assert admission_code(world, passage) is Code.CONTAINED


def test_that_an_answer_was_ended_is_recorded_with_the_decision_that_allowed_it() -> None:
    world = guarded()
    passage = passage_of(world)
    answers = Answers(world.flow())
    admitted = answers.admit(arrived(shown(passage=passage)), GATEWAY)
    ended = answers.ended(admitted.passage, AuthenticationError(Code.CONTAINED, "x"), GATEWAY)
    assert (ended.kind, ended.fields["code"]) == ("withdrawn", "DPT-CONTAINED")
    decision = world.sink.entries[0]
    assert ended.fields["withdraws"] == decision.id
    for name in ("human", "agent", "chain", "service"):
        assert ended.fields.get(name) == decision.fields.get(name)
