"""Who asks about a token, and whether it concerns them: introspection and revocation (RFC 7662, RFC 7009).

- A task logs in as at the token endpoint; a workload logs in with its certificate.
- A token concerns the task that presents it, the workload that hosts this task, and, where it is only asked
  about, the workloads of the service that it is for. For everybody else it is as if it did not exist (CA-07).
"""

from dataclasses import dataclass
from datetime import datetime

from authz.authenticate import check_standing
from authz.broker.arrival import Arrival
from authz.broker.client import TaskClient, authenticate, workload_client
from authz.broker.deps import Broker
from authz.broker.evidence import Evidence
from authz.broker.form import Form, FormError
from authz.broker.login import log_in
from authz.broker.login_form import login_form
from authz.broker.refusal import RefusedError, malformed, refused_client
from identity.delegation import DelegationToken
from identity.spiffe import SpiffeId, parse_agent_task
from identity.withdrawal import Standing


@dataclass(frozen=True, slots=True)
class Asker:
    """An authenticated client; `client` where it is a task."""

    spiffe_id: SpiffeId
    client: TaskClient | None

    def presents(self, token: DelegationToken, broker: Broker) -> bool:
        """Say whether the token is this task's, or of a task that this workload started."""
        if self.client is not None:
            return self.client.running.hop == token.chain[0]
        task = broker.tasks.task(token.chain[0].task)
        return task is not None and task.workload == self.spiffe_id

    def serves(self, token: DelegationToken, broker: Broker) -> bool:
        """Say whether this is a workload of the service that the token is for."""
        service = broker.services.by_name.get(broker.settings.audiences[token.audience])
        return self.client is None and service is not None and self.spiffe_id in service.workloads


async def read_question(
    arrival: Arrival, evidence: Evidence, broker: Broker, now: datetime
) -> tuple[Form, Asker]:
    """Log the client in, and read the form of its request.

    Raises:
        RefusedError: if it is nobody, or the request is none.
    """
    try:
        form, assertion = _form_of(arrival)
    except RefusedError:
        # Whoever shows a certificate is known by it, whatever the form is.
        if arrival.chain:
            await _logged_in(arrival, None, evidence, broker, now)
        raise
    return form, await _logged_in(arrival, assertion, evidence, broker, now)


def token_of(form: Form) -> str:
    """Return the token that a form asks about.

    Raises:
        RefusedError: if there is none, or a parameter stands twice.
    """
    try:
        # A hint may be wrong (RFC 7009 section 2.1); it must stand once all the same.
        form.one("token_type_hint")
        unverified_token = form.one("token")
    except FormError as error:
        raise malformed(str(error)) from error
    if unverified_token is None:
        raise malformed("token is missing")
    return unverified_token


async def _logged_in(
    arrival: Arrival, assertion: str | None, evidence: Evidence, broker: Broker, now: datetime
) -> Asker:
    try:
        if assertion is None:
            svid = authenticate(arrival.chain, broker, now)
            if parse_agent_task(svid.spiffe_id) is None:
                evidence.peer = workload_client(svid.spiffe_id)
                check_standing(Standing(workloads=(str(evidence.peer),)), broker.tasks)
                return Asker(evidence.peer, None)
        login = await log_in(arrival, assertion, evidence, broker, now)
    except Exception as error:
        raise refused_client(error) from error
    return Asker(login.client.spiffe_id, login.client)


def _form_of(arrival: Arrival) -> tuple[Form, str | None]:
    if arrival.has_query:
        raise malformed("the request has no query")
    return login_form(arrival)
