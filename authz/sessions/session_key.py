"""How a session and its owner are remembered: as digests.

- The id of a session is a credential of sorts: whoever has it may be taken for its owner by the server. It is
  kept nowhere but as a digest, together with the service: the same id at another service is another session.
- An id is 1 to 512 visible ASCII characters (MCP: Session Management). No comma: two headers that a proxy
  joined would be one id to us and the first of the two to the server.
"""

import hashlib
import json
import re
from typing import Final

from authz.sessions.port import Owner

MAX_SESSION_ID: Final = 512

# Visible ASCII, 0x21 to 0x7E, without the comma.
_SESSION_ID: Final = re.compile(r"[!-+\--~]{1,512}")


def is_session_id(unverified_id: str) -> bool:
    """Say whether a text may be the id of a session."""
    return _SESSION_ID.fullmatch(unverified_id) is not None


def session_key(service: str, session_id: str) -> bytes:
    """Return what a session is kept by."""
    # A NUL is in no id, so no service and id run into each other.
    return hashlib.sha256(f"{service}\0{session_id}".encode("utf-8", "surrogatepass")).digest()


def owner_key(owner: Owner) -> bytes:
    """Return what an owner is kept by; as JSON no human and agent run into each other."""
    return hashlib.sha256(json.dumps([owner.human, owner.agent]).encode()).digest()
