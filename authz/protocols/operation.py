"""What a request asks for, as policy sees it.

- One operation a request; what asks for several things at once is refused before this.
- `lifecycle` keeps a session going, `list` asks what there is, `call` uses one named thing.
- For lifecycle and list the resource is the server itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from identity.quick_init import quick_init

Protocol = Literal["mcp", "a2a", "llm", "http", "grpc"]
Phase = Literal["lifecycle", "list", "call"]
ResourceType = Literal["tool", "resource", "prompt", "task", "server", "path", "agent", "model", "rpc"]
# In which form the client expects its answers.
Wire = Literal["json_rpc", "http", "grpc"]


@quick_init
@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that is asked for."""

    protocol: Protocol
    method: str
    phase: Phase
    resource_type: ResourceType
    resource_name: str
    # What an agent sends may be personal or secret: policy reads it, no log does.
    arguments: Mapping[str, object] | None = field(default=None, repr=False)
    arguments_sha256: str | None = None
    # The id of a JSON-RPC request that waits for an answer; None for everything else.
    rpc_id: str | int | None = None
    # What the hashes of the arguments are taken of: made once, since it costs more than a hash.
    canonical_arguments: bytes | None = field(default=None, repr=False)
    wire: Wire = "http"
    # All that data may leave in, where that is more than the arguments.
    payload: object = field(default=None, repr=False)
    # Whether the client says that it can show a URL to its person; what it then answers proves nothing.
    elicits_urls: bool = False

    @property
    def is_json_rpc(self) -> bool:
        """Say whether a refusal is answered in JSON-RPC."""
        return self.wire == "json_rpc"
