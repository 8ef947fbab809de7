"""Who may bring an answer, and whose call it is: what the flow of answers takes from the flow of calls.

- A proxy brings answers of the services that it may ask about, and of no others; one that was contained
  brings none.
- An answer without a passage of ours is refused, whatever it looks like.
- That an answer was ended is recorded, with the decision that had allowed the call.
"""

from dataclasses import dataclass, field

from authz.answers.arrival import Arrival, Departure
from authz.answers.guard import Guard, GuardPorts
from authz.answers.known_lists import KnownLists
from authz.answers.passage import Passage
from authz.audit.entry import Entry, withdrawn
from authz.audit.facts import DecisionFacts
from authz.authenticate import check_standing
from authz.codes import Code
from authz.errors import CodedError, RequestError
from authz.flow import Flow
from identity.caller import Human
from identity.spiffe import SpiffeId
from identity.withdrawal import Standing


@dataclass(frozen=True, slots=True)
class Admitted:
    """An answer that somebody is waiting for, and who looks after it."""

    passage: Passage
    guard: Guard


@dataclass(frozen=True, slots=True)
class Answers:
    """The flow of answers: what it takes besides the answer itself."""

    flow: Flow
    # Of the lists that were read; saves work and decides nothing.
    known: KnownLists = field(default_factory=KnownLists)

    def admit(self, arrival: Arrival | Departure, asker: SpiffeId | None) -> Admitted:
        """Find out whose call an answer is to.

        Raises:
            CodedError: if nobody knows, or the proxy has no business with it.
        """
        self.require_asker(asker)
        known = self.flow.services.asker(asker)
        passage = Passage.parse(arrival.unverified_passage)
        service = self.flow.services.by_name.get(passage.service)
        if service is None:
            raise RequestError(Code.SERVICE_UNKNOWN, f"an answer of {passage.service[:64]!r}")
        if service.name not in known.may_ask:
            raise RequestError(Code.ASKER_TARGET, f"{str(asker)!r} brought an answer of {service.name!r}")
        flow = self.flow
        ports = GuardPorts(
            flow.policy,
            flow.rights,
            flow.clock,
            pins=flow.pins,
            sessions=flow.sessions,
            following=flow.following,
            known=self.known,
        )
        return Admitted(passage, Guard(passage, service, ports))

    def require_asker(self, asker: SpiffeId | None) -> None:
        """Refuse a contained proxy.

        Raises:
            AuthenticationError: with CONTAINED.
        """
        if asker is not None:
            check_standing(Standing(workloads=(str(asker),)), self.flow.rights)

    def ended(self, passage: Passage, error: CodedError, asker: SpiffeId | None) -> Entry:
        """Return the record of an answer that was ended, because its caller may have no more of it."""
        now = self.flow.clock()
        return withdrawn(_facts(passage, error, asker), passage.decision_id, self.flow.new_id(now), now)


def _facts(passage: Passage, error: CodedError, asker: SpiffeId | None) -> DecisionFacts:
    standing = passage.standing
    return DecisionFacts(
        effect="deny",
        code=error.code.value,
        human=Human.parse_uri(standing.human) if standing.human else None,
        agent=standing.agents[0],
        task=standing.tasks[0],
        chain=passage.runs,
        asker=str(asker) if asker is not None else None,
        protocol=passage.protocol,
        method=passage.method,
        phase=passage.phase,
        service=passage.service,
        detail="the answer was ended: its caller may have no more of it",
    )
