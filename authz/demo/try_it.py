"""How to try a call of one's own while the demo runs: files with fresh credentials, and a curl command."""

from pathlib import Path

from authz.demo.agents import AgentTask
from authz.demo.signin import CONSOLE_CLIENT
from authz.demo.world import DemoWorld
from authz.mesh.envoy_process import write_private

MESSAGE = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    '"params":{"name":"read_ticket","arguments":{"ticket":"T-1"}}}'
)


async def how_to_call(world: DemoWorld) -> str:
    """Start tasks of triage and resolver for lead, write what they need, and return what to type."""
    id_token = await world.sign_in("lead")
    task = await world.runner.start("triage", "lead", id_token)
    resolver = await world.runner.start("resolver", "lead", id_token)
    token = await task.exchange(world.audience("tickets"), id_token)
    home = world.directory / "try"
    home.mkdir(mode=0o700, exist_ok=True)
    # For curl, which reads files; an agent itself needs none.
    certificate, key = task.identity.reveal()
    for name, data in (("svid.pem", certificate), ("key.pem", key), ("roots.pem", task.identity.roots)):
        write_private(home / name, data)
    # In files, so that the token is in no process list and no shell history.
    write_private(home / "headers", f"Authorization: Bearer {token.value}\n".encode())
    write_private(home / "curl.conf", _curl_options(home, world.runner.places.gateway).encode())
    # What an agent is given by who starts it, and the sign-in of the person it acts for.
    write_private(home / "id_token", id_token.encode())
    # What no agent is given: with it the person says what agents may do.
    write_private(home / "console_token", (await world.sign_in("lead", CONSOLE_CLIENT)).encode())
    write_private(home / "agent.env", _environment(home, task, resolver).encode())
    return f"""
Everything runs until Ctrl-C. A call as triage, for lead (its credentials are renewed in {home}):

  curl -K {home}/curl.conf --data '{MESSAGE}'

  deputy decisions watch --config {world.directory}/deputy.yaml
"""


def _environment(home: Path, task: AgentTask, resolver: AgentTask) -> str:
    return f"""export SPIFFE_ENDPOINT_SOCKET={task.identity.socket}
export RESOLVER_SOCKET={resolver.identity.socket}
export BROKER={task.places.broker} GATEWAY={task.places.gateway}
export ID_TOKEN_FILE={home}/id_token ROOTS={home}/roots.pem
export CONSOLE_TOKEN_FILE={home}/console_token
"""


def _curl_options(home: Path, gateway: str) -> str:
    return f"""url = "{gateway}/tickets/mcp"
cacert = "{home}/roots.pem"
cert = "{home}/svid.pem"
key = "{home}/key.pem"
header = "@{home}/headers"
header = "Content-Type: application/json"
header = "Accept: application/json, text/event-stream"
silent
show-error
write-out = "\\n"
"""
