"""An agent and a client of the official A2A SDK: through Envoy and Deputy they do what they do without.

And where an operation is denied, the client gets an error of its SDK, with our sentence, and goes on.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.real_clients import Client, Result, values
from tests.e2e.real_servers import AGENT, GRPC_AGENT
from tests.e2e.real_world import RealWorld, real_world
from tests.real_results import RESULTS

pytestmark = pytest.mark.e2e
BINDINGS = {"JSONRPC": "agent", "HTTP+JSON": "agent", "GRPC": "grpc-agent"}
ALLOWED = ("send", "stream", "get", "cancel")
# Both are known to the agent; one answers at once, the other with a stream.
DENIED = {"list": "ListTasks", "subscribe": "SubscribeToTask"}


@pytest.fixture(scope="module")
def mesh() -> Iterator[RealWorld]:
    with real_world(AGENT, GRPC_AGENT) as made:
        yield made


def client(binding: str) -> Client:
    return Client(binding, "peers/a2a_client.py", {"binding": binding})


@pytest.mark.parametrize("binding", BINDINGS)
def test_an_agent_is_asked_through_deputy_as_it_is_without(mesh: RealWorld, binding: str) -> None:
    without, within = client(binding).both_ways(mesh, BINDINGS[binding], ALLOWED)
    assert within == without
    card, sent, streamed, got, cancelled = [result["ok"] for result in within]
    assert card == ([] if binding == "GRPC" else ["Greet"])
    assert "Hello, Ada" in values(sent)
    assert "Hello, Grace" in values(streamed)
    assert got == sent["task"]
    assert len(streamed) == 4
    assert cancelled["events"] == ["task", "status_update", "status_update"]
    assert cancelled["cancelled"]["status"]["state"] == "TASK_STATE_CANCELED"
    assert len(within) == RESULTS["agents"]["answers"][binding]


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_denied_operation_is_an_error_with_our_sentence_and_the_client_goes_on(
    mesh: RealWorld, binding: str
) -> None:
    service = BINDINGS[binding]
    _, _, *refused, after = client(binding).walk(mesh.access(service), ["send", *DENIED, "get"])
    for operation, result in zip(DENIED.values(), refused, strict=True):
        assert result["error"]["type"] == "A2AClientError"
        assert f"the method {operation} is not listed for {service}" in said(result, binding)
    assert "Hello, Ada" in values(after["ok"])


def said(result: Result, binding: str) -> str:
    """What the error says: in its text, or over HTTP+JSON in the answer that the SDK keeps beside it."""
    error = result["error"]
    return str(error["answer"]["error"]["message"] if binding == "HTTP+JSON" else error["message"])
