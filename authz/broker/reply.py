"""One request to the broker from decision to answer: decide, record, act, answer.

- The record is written before anything is handed out or changed; where it cannot be written, nothing is.
- The epoch is read before the decision and again after it; if rights were withdrawn in between, whosever, it
  is decided again. It is read once more after the record. If rights were withdrawn since, it is asked again
  whether these here still stand. If they do not, or the change could not be made, a second record says so and
  the answer is a refusal.
- What itself withdraws rights goes on whatever else is withdrawn: who ends many tasks keeps nobody else from
  ending or starting theirs.
- Whatever is raised becomes a refusal: no request ends without an answer, and no answer tells of our insides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from authz.audit.entry import Entry
from authz.audit.strangers import Admission
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.refusal import RefusedError, refusal_of, refuse
from authz.codes import Code
from authz.errors import AuditError
from identity.quick_init import quick_init

# How often one request is decided again before rights that keep moving are taken for withdrawn.
_AGAIN: Final = 4


@quick_init
@dataclass(frozen=True, slots=True)
class Reply:
    """The status and the JSON body of an answer, or a `signed` one; a body may hold a token."""

    status: int
    body: Mapping[str, object] | None = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    signed: str | None = field(default=None, repr=False)


@quick_init
@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided: the record of it, the change to make once it is written, and the answer."""

    entry: Entry
    reply: Reply
    change: Callable[[], object] | None = None
    withdraws: bool = False
    # The answer is that something does not count: where one that counts was recorded, it does not stand.
    is_no: bool = False


class Decide(Protocol):
    """Decides one request."""

    def __call__(self) -> Awaitable[Outcome]:
        """Decide, or raise."""


RefusalReply = Callable[[RefusedError, str], Reply]


async def answer(decide: Decide, evidence: Evidence, broker: Broker, refusal_reply: RefusalReply) -> Reply:
    """Carry one request from decision to answer; this never raises."""
    try:
        epoch, outcome = await _decide(decide, broker)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log a record
        return await _refuse(refusal_of(error), evidence, broker, refusal_reply)
    recorded = evidence
    try:
        await broker.sink.append(outcome.entry)
        if broker.tasks.epoch != epoch and not (outcome.withdraws or outcome.is_no):
            # Whoever asks again fills the evidence again; what the record said stays.
            recorded = replace(evidence)
            if not await _still_stands(epoch, decide, broker):
                return await _withdraw(refuse(Code.WITHDRAWN), recorded, broker, refusal_reply)
        if outcome.change is not None:
            # It waits for the disk, and this loop has other requests.
            await asyncio.to_thread(outcome.change)
    except AuditError as error:
        return refusal_reply(refusal_of(error), evidence.decision_id)
    except Exception as error:  # noqa: BLE001 - as above
        return await _withdraw(refusal_of(error), recorded, broker, refusal_reply)
    return outcome.reply


async def _still_stands(epoch: int, decide: Decide, broker: Broker) -> bool:
    """Say whether what was recorded would be decided again now; what others lost denies nobody else."""
    for _ in range(_AGAIN):
        if broker.tasks.epoch == epoch:
            return True
        epoch = broker.tasks.epoch
        try:
            if (await decide()).is_no:
                return False
        except Exception:  # noqa: BLE001 - whatever it is, it does not stand
            return False
    return False


async def _decide(decide: Decide, broker: Broker) -> tuple[int, Outcome]:
    """Decide on rights that stood still meanwhile, if they ever do; return their epoch, too."""
    epoch, outcome = broker.tasks.epoch, await decide()
    for _ in range(_AGAIN):
        if broker.tasks.epoch == epoch:
            break
        epoch, outcome = broker.tasks.epoch, await decide()
    return epoch, outcome


async def _refuse(
    refusal: RefusedError, evidence: Evidence, broker: Broker, refusal_reply: RefusalReply
) -> Reply:
    now = broker.clock()
    if evidence.of_stranger and broker.strangers.admit(evidence.source, now) is not Admission.RECORD:
        return refusal_reply(refusal, evidence.decision_id)
    return await _recorded(evidence.refused(refusal.deny, now), refusal, evidence, broker, refusal_reply)


async def _withdraw(
    refusal: RefusedError, evidence: Evidence, broker: Broker, refusal_reply: RefusalReply
) -> Reply:
    now = broker.clock()
    entry = evidence.withdrawn(refusal.deny, broker.new_id(now), now)
    return await _recorded(entry, refusal, evidence, broker, refusal_reply)


async def _recorded(
    entry: Entry, refusal: RefusedError, evidence: Evidence, broker: Broker, refusal_reply: RefusalReply
) -> Reply:
    try:
        await broker.sink.append(entry)
    except Exception as error:  # noqa: BLE001 - a sink that fails in whatever way has not recorded
        failed = error if isinstance(error, AuditError) else AuditError(type(error).__name__)
        return refusal_reply(refusal_of(failed), evidence.decision_id)
    return refusal_reply(refusal, evidence.decision_id)
