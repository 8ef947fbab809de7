"""A token that is bound to a key of proofs, through a real Envoy to the real flow (CA-05)."""

from collections.abc import Iterator

import pytest

from identity.caller import DpopBinding
from tests.dpop_proofs import KEY, proof
from tests.e2e.envoy_world import Answer, Header
from tests.e2e.flow_mesh import Mesh, flow_mesh, refused, upstream
from tests.fakes import LEAD, NOW, TICKETS
from tests.passed_on import call, read

pytestmark = pytest.mark.e2e
SECONDS = int(NOW.timestamp())
READ = call("read_ticket", ticket="T-1")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with flow_mesh(passes_on=False) as made:
        yield made


class Client:
    """An agent with a key of its own; the runner's certificate is that of its connection."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.task = mesh, mesh.run()
        scopes = frozenset({"tickets:read"})
        binding = DpopBinding(KEY.kid)
        self.token = mesh.flow_world.token(
            self.task, binding=binding, audience=TICKETS, human=LEAD, scopes=scopes
        )

    def proof(self, number: int, path: str = "/tickets/mcp") -> Header:
        uri = f"https://localhost:{self.mesh.port}{path}"
        jti = f"{self.task.task.id[-12:]}{number:012d}"
        return "DPoP", proof(self.token, htu=uri, iat=SECONDS, jti=jti)

    def send(self, *headers: Header, scheme: str = "DPoP") -> Answer:
        bearer = ("authorization", f"{scheme} {self.token}")
        return self.mesh.post("tickets", READ, self.mesh.runner, bearer, *headers)


def test_ca05_a_proof_for_each_call(mesh: Mesh) -> None:
    """CA-05: it counts once, and the server sees neither token nor proof."""
    client = Client(mesh)
    answer = client.send(client.proof(1))
    assert answer.status == 200, answer
    assert read(mesh.flow_world, upstream(answer), "tickets").chain == (client.task.hop,)
    assert "dpop" not in {name for name, _ in answer.json["headers"]}
    assert refused(client.send(client.proof(1))) == "DPT-REPLAYED"
    assert client.send(client.proof(2)).status == 200


def test_ca05_without_a_right_proof_nothing_passes(mesh: Mesh) -> None:
    """CA-05: as `Bearer`, without proof, for another path, twice."""
    client = Client(mesh)
    bare = client.send()
    assert refused(bare) == "DPT-DPOP-MISSING"
    assert bare.headers["www-authenticate"].startswith("DPoP ")
    assert refused(client.send(client.proof(3), scheme="Bearer")) == "DPT-DPOP-MISSING"
    assert refused(client.send(client.proof(4, "/billing/mcp"))) == "DPT-DPOP-INVALID"
    assert refused(client.send(client.proof(5), client.proof(6))) == "DPT-HEADER-DUPLICATE"
    assert client.send(client.proof(7)).status == 200
