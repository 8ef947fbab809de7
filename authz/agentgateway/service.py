"""ExtMcp on the one flow: the bytes of a message of agentgateway in, the bytes of its answer out.

- It always answers, and everything but an allow is an AuthorizationError: what cannot be read, a target that
  is unknown, a gateway that may not ask, a fault.
- A request is decided once, and has one record. A question that cannot be read is refused by the flow too,
  which says whether this gateway may ask at all.
- A result goes on when it is the answer to a call that passed here, and its caller still stands: the passage
  that we gave the gateway comes back with it. There is no second decision, and no second record but that an
  answer was withheld.
- Lists are cut by the same guard that stands behind Envoy (authz/answers/guard.py).
- The gateway is authenticated by its certificate, is not contained, and may ask about the service.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from authz.agentgateway.message import Answered, Asked, ExtMcpError
from authz.agentgateway.question import question_of
from authz.agentgateway.targets import Targets
from authz.agentgateway.verdict import (
    Allowed,
    Refusal,
    error_of,
    read_answer,
    request_passes,
    request_refused,
    response_of,
    result_of,
    result_passes,
    result_refused,
    result_replaced,
)
from authz.answers.admission import Admitted, Answers
from authz.answers.arrival import Arrival
from authz.answers.way import is_cut
from authz.codes import Code
from authz.errors import AnswerError, AuditError, AuthenticationError, CodedError
from authz.headers import Headers
from authz.pb import ext_mcp_pb2 as pb
from identity.spiffe import SpiffeId

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ExtMcp"].full_name
CHECK_REQUEST: Final = "CheckRequest"
CHECK_RESPONSE: Final = "CheckResponse"

_JSON: Final = Headers.parse((("content-type", b"application/json"),))
# The gateway found out which request a result is to: of others than lists nothing has to be read.
_UNREAD: Final = Headers.parse(())

Check = Callable[[bytes, SpiffeId | None], Awaitable[bytes]]
"""The one flow."""


# Why a host answers in our place.
Unasked = Literal["failed", "busy", "stranger"]
_UNASKED: Final[Mapping[Unasked, Code]] = {
    "failed": Code.INTERNAL,
    "busy": Code.OVERLOADED,
    "stranger": Code.ASKER_UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class ExtMcp:
    """The service: the flow of calls, the flow of answers, and what the gateway's targets are."""

    check: Check
    answers: Answers
    targets: Targets

    async def check_request(self, data: bytes, asker: SpiffeId | None) -> bytes:
        """Decide one McpRequest."""
        try:
            return await self._decide(Asked.parse(data), asker)
        except ExtMcpError as error:
            return request_refused(await self._unreadable(error, asker))
        except Exception:  # noqa: BLE001 - whatever it is, the gateway must get a refusal
            return request_refused(Refusal.of_code(Code.INTERNAL))

    async def check_response(self, data: bytes, asker: SpiffeId | None) -> bytes:
        """Pass one McpResponse on, cut it, or refuse it."""
        try:
            return await self._guard(Answered.parse(data), asker)
        except ExtMcpError as error:
            return result_refused(await self._unreadable(error, asker))
        except CodedError as error:
            return result_refused(Refusal.of_code(error.code))
        except Exception:  # noqa: BLE001 - as above
            return result_refused(Refusal.of_code(Code.INTERNAL))

    async def _unreadable(self, error: ExtMcpError, asker: SpiffeId | None) -> Refusal:
        """Have the flow refuse what is no question at all, and say what is wrong to whom that may be said."""
        refusal = read_answer(await self.check(b"", asker))
        if isinstance(refusal, Allowed):
            return Refusal.of_code(Code.INTERNAL)
        if refusal.code == pb.AuthorizationError.INVALID:
            return replace(refusal, message=f"{refusal.message}: {error}")
        return refusal

    async def _decide(self, asked: Asked, asker: SpiffeId | None) -> bytes:
        answer = read_answer(await self.check(question_of(asked, self.targets), asker))
        return request_refused(answer) if isinstance(answer, Refusal) else request_passes(answer)

    async def _guard(self, answered: Answered, asker: SpiffeId | None) -> bytes:
        admitted = self._admit(answered, asker)
        try:
            return await _guarded(admitted, answered)
        except CodedError as error:
            if isinstance(error, AuthenticationError):
                # It is withheld, whether that can be written or not.
                with suppress(AuditError):
                    await self.answers.flow.sink.append(self.answers.ended(admitted.passage, error, asker))
            return result_refused(Refusal.of_code(error.code, admitted.passage.decision_id))

    def _admit(self, answered: Answered, asker: SpiffeId | None) -> Admitted:
        """Find out whose call a result is to, which must be a call of this method to this service.

        Raises:
            CodedError: if nobody knows, or the gateway has no business with it.
        """
        admitted = self.answers.admit(_arrival(answered), asker)
        passage = admitted.passage
        if (passage.service, passage.method) != (self.targets.service(answered.targets), answered.method):
            raise AnswerError(Code.PASSAGE_MISSING, "the passage of another call")
        return admitted


def unasked_request(why: Unasked) -> bytes:
    """Return what a host answers to a request that never came here, or of which nothing came back."""
    return request_refused(Refusal.of_code(_UNASKED[why]))


def unasked_result(why: Unasked) -> bytes:
    """Return what a host answers to a result that never came here, or of which nothing came back."""
    return result_refused(Refusal.of_code(_UNASKED[why]))


async def _guarded(admitted: Admitted, answered: Answered) -> bytes:
    """Pass a result on, or cut it.

    Raises:
        AuthenticationError: if its caller may have no more of it.
        AnswerError: if it is a list that cannot be read.
    """
    guard, arrival = admitted.guard, _arrival(answered)
    headers = _JSON if is_cut(admitted.passage) else _UNREAD
    seen = await guard.on_headers(arrival.status, headers, end_of_stream=False)
    if seen.kind == "refuse":
        if isinstance(guard.problem, AuthenticationError):
            raise guard.problem
        return result_refused(error_of(seen.body))
    if seen.kind != "rewrite":
        return result_passes()
    message = await guard.on_body(response_of(answered.result), end_of_stream=True)
    result = result_of(message)
    return result_refused(error_of(message)) if result is None else result_replaced(result)


def _arrival(answered: Answered) -> Arrival:
    """Return the beginning of the answer that a server would have sent; of its length nothing is known."""
    return Arrival(
        status=200,
        headers=_JSON,
        end_of_stream=False,
        is_local=False,
        shows_body=True,
        unverified_passage=answered.passage,
    )
