"""What the clients in Python share: what they are told on stdin, what they say, and their answers."""

import json
import ssl
import sys
from typing import Any

# What the person and the model behind the client would say.
ELICITED = {"name": "Ada", "check": True, "integer": 7}
SAMPLED = "a short answer"
ROOT = "file:///work"


def told() -> dict[str, Any]:
    """Return what this run is to do."""
    found: dict[str, Any] = json.load(sys.stdin)
    return found


def say(results: list[dict[str, Any]]) -> None:
    """Write one result a step."""
    json.dump(results, sys.stdout)


def tls(files: dict[str, str] | None) -> ssl.SSLContext | bool:
    """Return what to verify the server with, and to show it."""
    if files is None:
        return False
    context = ssl.create_default_context(cafile=files["ca"])
    context.load_cert_chain(files["cert"], files["key"])
    return context


def headers(access: dict[str, Any]) -> dict[str, str]:
    """Return what shows who calls, where that is asked."""
    return {"authorization": f"Bearer {access['token']}"} if access.get("token") else {}


def dump(result: Any) -> Any:
    """Return a result as it stood on the wire."""
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)
