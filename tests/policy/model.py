"""The rules of the shipped policy once more, in Python and from its data only: what Rego must agree with.

Written for reading, not for speed: sets, and the conditions in the order of their precedence.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

CLASSES = {"destroy", "read", "write"}
MAX_ITEMS = 64
MAX_TEXT = 1024


def expected(data: Mapping[str, object], query: Mapping[str, object]) -> tuple[str, str | None]:
    """Return effect and main reason."""
    found = list(failures(cast("Any", data)["grants"], cast("Any", query)))
    if not found:
        return "allow", None
    return ("approve" if found == ["DPT-APPROVAL-REQUIRED"] else "deny"), found[0]


def failures(g: Any, q: Any) -> list[str]:
    """Return the codes of everything that fails."""
    if q["phase"] == "task":
        return _task_failures(g, q)
    name = q["resource"]["service"]
    service = g["services"].get(name)
    calls = q["phase"] == "check" and q["action"]["phase"] == "call"
    operation = _operation(service, q) if service and calls else None
    wanted = ({operation["class"]} if operation else set()) if calls else (CLASSES if service else set())

    human = wanted & _human_classes(g, q, name)
    hops = [_hop_classes(g, hop, name) for hop in q["chain"]]
    authority = human.intersection(*hops)
    claimed = human or wanted
    presented = claimed & hops[0]
    delegated = (presented or claimed).intersection(*hops[1:])
    scopes = {f"{name}:{c}" for c in authority or wanted} & set(q["scopes"])
    free = q["binding"] == "svid" and q["human"] is None
    listed = name in g["agents"].get(q["agent"]["name"], {}).get("services", {})
    limits = operation["limits"] if operation else []

    checks = [
        ("DPT-SERVICE-UNKNOWN", service is None),
        ("DPT-TOOL-UNKNOWN", calls and service is not None and operation is None),
        ("DPT-HUMAN-REQUIRED", q["human"] is None and not _may_go_alone(q, operation)),
        ("DPT-HUMAN-NOT-GRANTED", wanted and not human),
        ("DPT-AGENT-NOT-GRANTED", service is not None and not listed),
        ("DPT-AGENT-TIER", wanted and listed and not presented),
        ("DPT-CHAIN-NARROWED", wanted and not delegated),
        ("DPT-SCOPE-MISSING", q["phase"] == "check" and wanted and not scopes and not free),
        *(("DPT-ARGUMENT-LIMIT", not _within(limit, q)) for limit in limits),
        ("DPT-PAYLOAD", q["phase"] == "check" and _is_withheld(service, q)),
        ("DPT-BINDING-WEAK", operation and operation["class"] == "destroy" and q["binding"] != "key"),
        ("DPT-APPROVAL-REQUIRED", operation and any(_asks(g, hop, operation["class"]) for hop in q["chain"])),
    ]
    return [code for code, failed in checks if failed]


def _task_failures(g: Any, q: Any) -> list[str]:
    agent = g["agents"].get(q["agent"]["name"])
    tiers = [g["tiers"].get(name, {}) for name in (agent and agent["tier"], q["chain"][0]["ceiling"])]
    human = q["human"]
    known = human is None or human["uri"] in g["subjects"] or bool(g["groups"].keys() & set(human["groups"]))
    all_known = all(hop["name"] in g["agents"] for hop in q["chain"])
    checks = [
        ("DPT-HUMAN-REQUIRED", human is None and not _may_go_alone(q, None)),
        ("DPT-HUMAN-NOT-GRANTED", not known),
        ("DPT-AGENT-NOT-GRANTED", agent is None),
        ("DPT-AGENT-TIER", agent is not None and not tiers[0].keys() & tiers[1].keys()),
        (
            "DPT-CHAIN-NARROWED",
            agent is not None and not all_known,
        ),
    ]
    return [code for code, failed in checks if failed]


def _operation(service: Any, q: Any) -> Any:
    method, name = q["action"]["method"], q["resource"]["name"]
    kind = (q["action"]["protocol"], q["resource"]["type"])
    if kind[0] == "http":
        return next((rule for rule in service["http"].get(method, []) if _fits(rule, name)), None)
    if kind == ("a2a", "agent"):
        return service.get("a2a", {}).get(method) if name in service.get("tenants", {}) else None
    if kind == ("llm", "model"):
        return service.get("models", {}).get(name)
    if kind == ("grpc", "rpc"):
        return service.get("grpc", {}).get(name)
    if kind[0] != "mcp":
        return None
    if method == "tools/call":
        return service["tools"].get(name) if q["resource"]["type"] == "tool" else None
    return service["methods"].get(method)


def _is_withheld(service: Any, q: Any) -> bool:
    rules = (service or {}).get("payload", {})
    return any(rules.get(name) == "deny" for name in q["payload"])


def _fits(rule: Any, path: str) -> bool:
    return bool(path.startswith(rule["path"]) if rule["below"] else path == rule["path"])


def _may_go_alone(q: Any, operation: Any) -> bool:
    return q["agent"]["autonomous"] and len(q["chain"]) == 1 and not (operation and operation["human"])


def _human_classes(g: Any, q: Any, service: str) -> set[str]:
    if q["human"] is None:
        return CLASSES
    entries = [g["groups"].get(group, {}) for group in q["human"]["groups"]]
    entries.append(g["subjects"].get(q["human"]["uri"], {}))
    return {name for entry in entries for name in entry.get(service, {})}


def _hop_classes(g: Any, hop: Any, service: str) -> set[str]:
    agent = g["agents"].get(hop["name"])
    if agent is None or service not in agent["services"]:
        return set()
    return set(g["tiers"].get(agent["tier"], {})) & set(g["tiers"].get(hop["ceiling"], {}))


def _asks(g: Any, hop: Any, name: str) -> bool:
    tier = g["agents"].get(hop["name"], {}).get("tier")
    return "approve" in (g["tiers"].get(tier, {}).get(name), g["tiers"].get(hop["ceiling"], {}).get(name))


def _within(limit: Any, q: Any) -> bool:
    value: Any = q
    for step in limit["path"]:
        value = value.get(step) if isinstance(value, dict) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match limit["kind"]:
        case "max":
            return is_number and value <= limit["value"]
        case "min":
            return is_number and value >= limit["value"]
        case "one_of":
            return _is_one(value, limit["value"])
        case "only":
            listed = isinstance(value, list) and len(value) <= MAX_ITEMS
            return listed and all(_is_one(item, limit["value"]) for item in value)
        case "matches":
            # Python's own engine backtracks, but reads what grants.py admits as the others do.
            is_short = isinstance(value, str) and len(value) <= MAX_TEXT
            return is_short and re.compile(limit["pattern"][1:-1]).fullmatch(value) is not None
        case _:
            return isinstance(value, str) and value.startswith(limit["value"])


def _is_one(value: Any, of: Any) -> bool:
    """Compare as JSON does: true is no 1."""
    return value in [one for one in of if isinstance(one, bool) is isinstance(value, bool)]
