"""Write docs/reference/configuration.md from the schema; `--check` says whether it is current."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from authz.config import Config
from authz.config_problems import resolve

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"

HEAD = """# The configuration: deputy.yaml

`deputy config validate` checks a file and all that it names; `deputy config schema` prints the JSON Schema of
it for editors. An unknown key is refused, and so is a value of another type: text is no number, `yes` is no
truth. Relative paths are relative to the file. There is no key that turns a check off.

The smallest configuration:

```yaml
trust_domain: mesh.example
data_dir: data
check:
  callers:
    - id: spiffe://mesh.example/ns/mesh/sa/gateway
      may_ask: [tickets]
broker:
  issuer: https://broker.mesh.example
services:
  tickets: {audience: https://tickets.mesh.example}
```

Rules that join several keys:

- `check.listen` is `host:port` with `check.callers` (mTLS), or a Unix socket with `check.local_may_ask`;
  never both.
- `policy.engine: opa` needs `policy.opa`, and only it has one. `https` to OPA takes `ca`, `certificate` and
  `key`; a Unix socket takes none of them.
- `hosts` and `destinations` of a service go together: a host counts only behind a proxy that is named. A host
  has no port: requests are compared without it. One host behind one destination means one service.
- Names of agents, ids of callers, issuers of providers and audiences of services stand once.
- A provider over plain HTTP must be on this machine, and needs `allow_loopback: true`.
- A workload needs a `socket` of its own, or a `uid` and `identity.socket`; `executable_sha256` needs a `uid`.
  A uid is that of workloads or of one agent (`identity.agent_uids`), never of both. Sockets differ.
- `identity.publish_seconds` is a third of `identity.key_seconds` at most, and `limits.x509_svid_seconds` a
  sixth.
- `identity.bundle_endpoint.profile: https_web` takes `certificate` and `key`, `https_spiffe` neither. OpenID
  Connect Discovery is served there where `identity.jwt_issuer` is set.

"""
BOUNDS = (("minimum", "at least"), ("maximum", "at most"))


def page() -> str:
    """Return the page's text."""
    schema = Config.model_json_schema()
    return HEAD + "\n".join(_sections(schema, "", schema)).rstrip("\n") + "\n"


def _sections(part: Mapping[str, Any], path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Describe the keys of one place in a table, then the places below it."""
    members: Mapping[str, Any] = part["properties"]
    required = part.get("required", [])
    rows = [_row(name, member, schema, required=name in required) for name, member in members.items()]
    title = f"## `{path}`\n\n{part['description']}\n\n" if path else "## Top level\n\n"
    yield title + "| key | type | default | description |\n|---|---|---|---|\n" + "".join(rows)
    for name, member in members.items():
        here = f"{path}.{name}" if path else name
        below = resolve(member, schema)
        match below:
            case {"properties": _}:
                yield from _sections(below, here, schema)
            case {"items": {"$ref": _} as items}:
                yield from _sections(resolve(items, schema), f"{here}[]", schema)
            case {"patternProperties": named}:
                (value,) = named.values()
                yield from _sections(resolve(value, schema), f"{here}.<name>", schema)


def _row(name: str, member: Mapping[str, Any], schema: Mapping[str, Any], *, required: bool) -> str:
    default = "required" if required else _default(member)
    return f"| `{name}` | {_type(member, schema)} | {default} | {member['description']} |\n"


def _default(member: Mapping[str, Any]) -> str:
    value = member.get("default")
    if value is None:
        below = "none" if "default" in member else "its own defaults"
        return "empty" if member.get("type") == "array" else below
    return f"`{json.dumps(value)}`"


def _type(member: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    part = resolve(member, schema)
    if "enum" in part:
        return " or ".join(f"`{value}`" for value in part["enum"])
    match part.get("type"):
        case "array":
            least = ", at least one" if part.get("minItems") else ""
            return f"list of {_plural(part['items'], schema)}{least}"
        case "object":
            return "mapping by name" if "patternProperties" in part else "mapping"
        case "integer":
            bounds = [f"{words} {part[key]}" for key, words in BOUNDS if key in part]
            return ", ".join(["whole number", *bounds])
        case "boolean":
            return "`true` or `false`"
        case _:
            return {"path": "path", "date-time": "time with its zone"}.get(part.get("format", ""), "text")


def _plural(member: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return {"text": "texts", "mapping": "mappings"}[_type(member, schema)]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is not current: run {__file__}"
        )
    PAGE.write_text(page(), encoding="utf-8")
