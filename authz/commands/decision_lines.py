"""A record of the audit log, in lines for people."""

from collections.abc import Mapping
from typing import Any

from authz.audit.filter import DECISIONS
from authz.codes import find_code

Line = tuple[str, object]


def lines_of(record: Mapping[str, Any]) -> list[Line]:
    """Say what a record says: a decision with its reasons, anything else member by member."""
    place = ("record", f"number {record['seq']} of the log, {record['kind']} {record['id']}")
    if record["kind"] not in DECISIONS or record["kind"] == "drift":
        named = [(name, value) for name, value in record.items() if value and name not in _OF_THE_LOG]
        return [*named, place]
    return [*_verdict(record), *_circumstances(record), place]


_OF_THE_LOG = frozenset({"id", "kind", "prev", "seq", "v"})


def _verdict(record: Mapping[str, Any]) -> list[Line]:
    code = str(record.get("code") or "")
    known = find_code(code)
    title = "WITHDRAWN" if record["kind"] == "withdrawn" else str(record.get("effect")).upper()
    lines: list[Line] = [(title, code or f"{record.get('count')} calls that nobody authenticated")]
    if code:
        lines.append(("because", known.sentence if known else "a code of the policy's own"))
    if record.get("effect") == "deny" and code:
        lines.append(("would allow", known.fix if known else "see the policy"))
    if len(record.get("codes") or []) > 1:
        lines.append(("also", ", ".join(record["codes"][1:])))
    if record.get("detail"):
        lines.append(("detail", record["detail"]))
    return lines


def _circumstances(record: Mapping[str, Any]) -> list[Line]:
    chain = [f"{hop['agent']} ({hop['task']})" for hop in reversed(record.get("chain") or [])]
    human = record.get("human")
    nobody = "nobody" if record.get("autonomous") else "no person named"
    who = [f"{human['issuer']}#{human['subject']}" if human else nobody] if human or chain else ["not known"]
    resource, action = record.get("resource") or {}, record.get("action") or {}
    method = action.get("method") or record.get("method")
    what = [resource.get("service") or record.get("service"), resource.get("name")]
    through = f" through {record['asker']}" if record.get("asker") else ""
    bound = f", bound by {record['binding']}" if record.get("binding") else ""
    lines: list[Line] = [
        ("who", " → ".join([*who, *chain])),
        ("from", f"{record.get('peer') or 'not known'}{through}{bound}"),
        ("what", f"{method or '-'} {'/'.join(str(part) for part in what if part) or '-'}"),
    ]
    if issued := record.get("issued"):
        lines.append(("issued", f"{issued['kind']} for {issued['subject']}, until {issued['expires_at']}"))
    if record.get("rule"):
        lines.append(("rule", record["rule"]))
    if record.get("approval"):
        lines.append(("approval", record["approval"]))
    lines.append(("policy", record.get("policy") or "not asked"))
    latency = f", {record['latency_us']} µs" if "latency_us" in record else ""
    lines.append(("time", f"{record['time']}{latency}"))
    return lines
