"""How to try a call of one's own while the demo runs: files with fresh credentials, and a curl command."""

from pathlib import Path

from authz.demo.world import DemoWorld
from authz.mesh.envoy_process import write_private

MESSAGE = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
    '"params":{"name":"read_ticket","arguments":{"ticket":"T-1"}}}'
)


async def how_to_call(world: DemoWorld) -> str:
    """Start a task of triage for lead, write its credentials, and return what to type."""
    task = await world.runner.start("triage", "lead", await world.sign_in("lead"))
    token = await task.exchange(world.audience("tickets"), await world.sign_in("lead"))
    home = world.directory / "try"
    home.mkdir(mode=0o700, exist_ok=True)
    # For curl, which reads files; an agent itself needs none.
    certificate, key = task.identity.reveal()
    for name, data in (("svid.pem", certificate), ("key.pem", key), ("roots.pem", task.identity.roots)):
        write_private(home / name, data)
    # In files, so that the token is in no process list and no shell history.
    write_private(home / "headers", f"Authorization: Bearer {token.value}\n".encode())
    write_private(home / "curl.conf", _curl_options(home, world.runner.places.gateway).encode())
    return f"""
Everything runs until Ctrl-C. A call as triage, for lead (its credentials are renewed in {home}):

  curl -K {home}/curl.conf --data '{MESSAGE}'

  deputy decisions watch --config {world.directory}/deputy.yaml
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
