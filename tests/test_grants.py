"""grants.yaml: what is read, what is refused, and in which words; the JSON Schema says the same."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from authz.errors import GrantsError
from authz.payload.classes import PAYLOAD_CLASSES
from authz.policy import schema
from authz.policy.grants import MAX_BYTES, Grants
from authz.policy.grants_service import A2A_METHODS, METHODS
from authz.policy.patterns import is_whole_pattern
from authz.policy.yaml_strict import load_yaml
from authz.protocols import a2a_methods, grpc_call, llm_facts
from authz.protocols import mcp_target as aim
from authz.protocols.mcp_methods import REQUESTS
from identity.canonical import canonical_json, sha256_hex
from identity.names import parse_agent_name

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "authz/demo/grants.yaml", ROOT / "tests/policy/grants/full.yaml"]


def base() -> dict[str, Any]:
    """Return small grants that are accepted; the tests break one part."""
    return {
        "version": 1,
        "tiers": {
            "observer": {"allow": ["read"]},
            "contributor": {"allow": ["read"], "approve": ["destroy"]},
        },
        "services": {
            "tickets": {
                "tools": {
                    "read_ticket": {"class": "read", "human": "required"},
                    "refund": {"class": "write", "arguments": {"/amount": {"min": 0, "max": 100}}},
                },
                "methods": {"resources/read": "read"},
                "a2a": {"GetTask": "read"},
                "models": {"gpt-4o": "write"},
                "grpc": {"/ledger.v1.Ledger/Get": "read"},
                "payload": {"secret": "deny", "email": "record"},
                "http": [
                    {"methods": ["GET", "POST"], "paths": ["/v1/items", "/v1/items/*"], "class": "read"}
                ],
            },
        },
        "humans": {
            "groups": {"lead": {"tickets": ["read", "write"]}},
            "subjects": {"https://idp.example#sam": {"tickets": ["read"]}},
        },
        "agents": {"triage": {"tier": "observer", "services": ["tickets"]}},
    }


def broken(path: str, value: object) -> dict[str, Any]:
    """Set one place of the small grants, named by keys with `|` between; `...` takes the key out."""
    grants = base()
    *parents, last = path.split("|")
    place: Any = grants
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return grants


def parse(grants: object) -> Grants:
    """Read grants that are given as a value: JSON is YAML."""
    return Grants.parse(json.dumps(grants).replace("\x7f", "\\u007f").encode())


TOOLS = "services|tickets|tools"
LIMITS = "services|tickets|tools|refund|arguments"
HTTP = "services|tickets|http"
A2A = "services|tickets|a2a"
MODELS = "services|tickets|models"
GRPC = "services|tickets|grpc"
PAYLOAD = "services|tickets|payload"
CORRECT = "list it there, or correct the name"
NEVER = "so no value would ever be allowed: keep one"
MIN_MAX = "min is above max, so no value would ever be allowed: correct one of them"
AT_AMOUNT = "line 1, services.tickets.tools.refund.arguments./amount"
SUBJECTS = "humans|subjects"

# Each breaks a rule that the JSON Schema knows as well.
SHAPES: dict[str, tuple[str, object]] = {
    "unknown key": ("rules", {}),
    "no version": ("version", ...),
    "other version": ("version", 2),
    "version as text": ("version", "1"),
    "version as boolean": ("version", True),
    "no tiers": ("tiers", ...),
    "empty tiers": ("tiers", {}),
    "tiers as list": ("tiers", ["observer"]),
    "tier without classes": ("tiers|observer", {}),
    "tier with empty allow": ("tiers|observer|allow", []),
    "tier with an unknown class": ("tiers|observer|allow", ["reed"]),
    "tier with a wildcard": ("tiers|observer|allow", ["*"]),
    "tier with a class twice": ("tiers|observer|allow", ["read", "read"]),
    "tier with an unknown key": ("tiers|observer|deny", ["read"]),
    "tier with text for a list": ("tiers|observer|allow", "read"),
    "tier in capitals": ("tiers|Observer", {"allow": ["read"]}),
    "no services": ("services", ...),
    "empty services": ("services", {}),
    "service that offers nothing": ("services|tickets", {}),
    "service as null": ("services|tickets", None),
    "service with empty tools": (TOOLS, {}),
    "service with an unknown key": ("services|tickets|rules", {}),
    "service with a colon in its name": ("services|a:b", {"tools": {"x": {"class": "read"}}}),
    "service with an empty name": ("services|", {"tools": {"x": {"class": "read"}}}),
    "service with a dash at its end": ("services|a-", {"tools": {"x": {"class": "read"}}}),
    "service with a long name": ("services|" + "a" * 64, {"tools": {"x": {"class": "read"}}}),
    "tool without class": (f"{TOOLS}|x", {}),
    "tool as class": (f"{TOOLS}|x", "read"),
    "tool with an unknown class": (f"{TOOLS}|x", {"class": "admin"}),
    "tool with an unknown key": (f"{TOOLS}|x", {"class": "read", "limits": {}}),
    "tool with a wildcard": (f"{TOOLS}|*", {"class": "read"}),
    "tool with a space": (f"{TOOLS}|a b", {"class": "read"}),
    "tool with a slash": (f"{TOOLS}|a/b", {"class": "read"}),
    "tool with another alphabet": (f"{TOOLS}|r\u0435ad", {"class": "read"}),
    "tool with an empty name": (f"{TOOLS}|", {"class": "read"}),
    "tool with a long name": (f"{TOOLS}|" + "a" * 129, {"class": "read"}),
    "human that is optional": (f"{TOOLS}|read_ticket|human", "optional"),
    "human as boolean": (f"{TOOLS}|read_ticket|human", True),
    "no arguments": (LIMITS, {}),
    "argument without slash": (f"{LIMITS}|amount", {"max": 1}),
    "argument with an empty step": (f"{LIMITS}|/a//b", {"max": 1}),
    "whole arguments": (f"{LIMITS}|", {"max": 1}),
    "argument too deep": (f"{LIMITS}|/a/b/c/d/e", {"max": 1}),
    "argument with a wrong escape": (f"{LIMITS}|/a~2", {"max": 1}),
    "argument without limit": (f"{LIMITS}|/a", {}),
    "unknown limit": (f"{LIMITS}|/a", {"maximum": 1}),
    "max as text": (f"{LIMITS}|/a", {"max": "1"}),
    "max as boolean": (f"{LIMITS}|/a", {"max": True}),
    "max as null": (f"{LIMITS}|/a", {"max": None}),
    "equals null": (f"{LIMITS}|/a", {"equals": None}),
    "equals a list": (f"{LIMITS}|/a", {"equals": [1]}),
    "equals a long text": (f"{LIMITS}|/a", {"equals": "a" * 1025}),
    "one of nothing": (f"{LIMITS}|/a", {"one_of": []}),
    "one of text": (f"{LIMITS}|/a", {"one_of": "EUR"}),
    "one of null": (f"{LIMITS}|/a", {"one_of": [None]}),
    "one of the same": (f"{LIMITS}|/a", {"one_of": [1, 1]}),
    "one of the same number": (f"{LIMITS}|/a", {"one_of": [1, 1.0]}),
    "prefix that is empty": (f"{LIMITS}|/a", {"prefix": ""}),
    "prefix as number": (f"{LIMITS}|/a", {"prefix": 1}),
    "too many arguments": (LIMITS, {f"/a{number}": {"max": 1} for number in range(17)}),
    "only a text": (f"{LIMITS}|/a", {"only": "EUR"}),
    "only lists": (f"{LIMITS}|/a", {"only": [["EUR"]]}),
    "only too many": (f"{LIMITS}|/a", {"only": list(range(257))}),
    "matches a number": (f"{LIMITS}|/a", {"matches": 1}),
    "matches nothing": (f"{LIMITS}|/a", {"matches": ""}),
    "matches a long pattern": (f"{LIMITS}|/a", {"matches": "a" * 257}),
    "below nothing": (f"{LIMITS}|/a", {"below": ""}),
    "below a file": (f"{LIMITS}|/a", {"below": "docs"}),
    "below two slashes": (f"{LIMITS}|/a", {"below": "docs//"}),
    "below slashes": (f"{LIMITS}|/a", {"below": "//"}),
    "below a parent": (f"{LIMITS}|/a", {"below": "../docs/"}),
    "below a parent within": (f"{LIMITS}|/a", {"below": "docs/../"}),
    "below the working directory": (f"{LIMITS}|/a", {"below": "./"}),
    "below an escape": (f"{LIMITS}|/a", {"below": "docs%2f/"}),
    "below a backslash": (f"{LIMITS}|/a", {"below": "docs\\"}),
    "below what is long": (f"{LIMITS}|/a", {"below": "a" * 128 + "/"}),
    "below another alphabet": (f"{LIMITS}|/a", {"below": "d\u043ecs/"}),
    "agent without methods": (f"{A2A}", {}),
    "agent with tenants alone": (f"{A2A}", {"tenants": ["acme"]}),
    "agent with an older name of a method": (f"{A2A}|message/send", "write"),
    "agent with a method in small letters": (f"{A2A}|getTask", "read"),
    "agent with a wildcard of methods": (f"{A2A}|*", "read"),
    "agent with the public card as a call": (f"{A2A}|GetAgentCard", "read"),
    "agent's method with an unknown class": (f"{A2A}|ListTasks", "see"),
    "agent's method with an unknown key": (f"{A2A}|ListTasks", {"class": "read", "tenants": ["x"]}),
    "agent's method without class": (f"{A2A}|ListTasks", {"human": "required"}),
    "no tenants": (f"{A2A}|tenants", []),
    "tenants as text": (f"{A2A}|tenants", "acme"),
    "any tenant": (f"{A2A}|tenants", ["*"]),
    "tenant of nothing": (f"{A2A}|tenants", [""]),
    "tenant with a slash": (f"{A2A}|tenants", ["a/b"]),
    "tenant twice": (f"{A2A}|tenants", ["acme", "acme"]),
    "no models": (MODELS, {}),
    "any model": (f"{MODELS}|*", "read"),
    "models by beginning": (f"{MODELS}|gpt-*", "read"),
    "model with a space": (f"{MODELS}|gpt 4", "read"),
    "model of nothing": (f"{MODELS}|", "read"),
    "model with a long name": (f"{MODELS}|" + "a" * 257, "read"),
    "model with an unknown class": (f"{MODELS}|gpt", "use"),
    "no methods of gRPC": (GRPC, {}),
    "gRPC without slash": (f"{GRPC}|ledger.v1.Ledger/Get", "read"),
    "gRPC without method": (f"{GRPC}|/ledger.v1.Ledger", "read"),
    "gRPC with any method": (f"{GRPC}|/ledger.v1.Ledger/*", "read"),
    "gRPC with an empty step": (f"{GRPC}|/ledger..Ledger/Get", "read"),
    "gRPC with three parts": (f"{GRPC}|/a.B/C/D", "read"),
    "gRPC with a long path": (f"{GRPC}|/a.B/" + "c" * 252, "read"),
    "gRPC with arguments": (f"{GRPC}|/a.B/C", {"class": "read", "arguments": {"/a": {"max": 1}}}),
    "no rules for data": (PAYLOAD, {}),
    "rules for data alone": ("services|tickets", {"payload": {"secret": "deny"}}),
    "rule for unknown data": (f"{PAYLOAD}|passwords", "deny"),
    "rule for any data": (f"{PAYLOAD}|*", "deny"),
    "data that are allowed": (f"{PAYLOAD}|email", "allow"),
    "rules for data as a list": (PAYLOAD, ["secret"]),
    "method that is unknown": ("services|tickets|methods|resources/reed", "read"),
    "method that calls tools": ("services|tickets|methods|tools/call", "read"),
    "method with an unknown class": ("services|tickets|methods|resources/read", "see"),
    "no methods": ("services|tickets|methods", {}),
    "no HTTP rules": (HTTP, []),
    "HTTP as mapping": (HTTP, {"/v1": "read"}),
    "HTTP without paths": (f"{HTTP}|0|paths", ...),
    "HTTP with only paths": (HTTP, [{"paths": ["/v1"]}]),
    "HTTP without class": (f"{HTTP}|0|class", ...),
    "HTTP with any method": (f"{HTTP}|0|methods", ["*"]),
    "HTTP method in small letters": (f"{HTTP}|0|methods", ["get"]),
    "HTTP path without slash": (f"{HTTP}|0|paths", ["v1"]),
    "HTTP path with a star within": (f"{HTTP}|0|paths", ["/v1/*/parts"]),
    "HTTP path with a star that is no step": (f"{HTTP}|0|paths", ["/v1*"]),
    "HTTP path with dots": (f"{HTTP}|0|paths", ["/v1/../admin"]),
    "HTTP path with a dot": (f"{HTTP}|0|paths", ["/v1/./x"]),
    "HTTP path that ends in dots": (f"{HTTP}|0|paths", ["/v1/.."]),
    "HTTP path with two slashes": (f"{HTTP}|0|paths", ["//v1"]),
    "HTTP path with an escape": (f"{HTTP}|0|paths", ["/v1%2fx"]),
    "HTTP path with a query": (f"{HTTP}|0|paths", ["/v1?x=1"]),
    "HTTP with too many paths": (f"{HTTP}|0|paths", [f"/{number}" for number in range(9)]),
    "too many HTTP rules": (HTTP, [{"methods": ["GET"], "paths": ["/"], "class": "read"}] * 33),
    "unknown key of humans": ("humans|roles", {}),
    "group with nothing": ("humans|groups|lead", {}),
    "group as list": ("humans|groups|lead", ["tickets"]),
    "group with no classes": ("humans|groups|lead|tickets", []),
    "group with a wildcard": ("humans|groups|lead|tickets", ["*"]),
    "group with an empty name": ("humans|groups|", {"tickets": ["read"]}),
    "group with a control character": ("humans|groups|a\nb", {"tickets": ["read"]}),
    "group with a long name": ("humans|groups|" + "a" * 65, {"tickets": ["read"]}),
    "subject without issuer": (f"{SUBJECTS}|sam", {"tickets": ["read"]}),
    "subject without subject": (f"{SUBJECTS}|https://idp.example#", {"tickets": ["read"]}),
    "subject of an unsafe issuer": (f"{SUBJECTS}|http://idp.example#sam", {"tickets": ["read"]}),
    "subject with a space": (f"{SUBJECTS}|https://idp.example#sam b", {"tickets": ["read"]}),
    "no agents": ("agents", ...),
    "empty agents": ("agents", {}),
    "agent without tier": ("agents|triage|tier", ...),
    "agent without services": ("agents|triage|services", ...),
    "agent with empty services": ("agents|triage|services", []),
    "agent with a service twice": ("agents|triage|services", ["tickets", "tickets"]),
    "agent with a wildcard": ("agents|triage|services", ["*"]),
    "agent with an unknown key": ("agents|triage|owner", "me"),
    "agent in capitals": ("agents|Triage", {"tier": "observer", "services": ["tickets"]}),
}

# Each is refused for what the schema cannot know: what other parts of the file say.
MEANINGS: dict[str, tuple[str, object, str]] = {
    "tier that is not there": (
        "agents|triage|tier",
        "observr",
        "line 1, agents.triage.tier: 'observr' is not a tier of this file: use one of contributor, observer",
    ),
    "agent's service that is not there": (
        "agents|triage|services",
        ["tickets", "billing"],
        "line 1, agents.triage.services.1: the service 'billing' is not listed under services: " + CORRECT,
    ),
    "group's service that is not there": (
        "humans|groups|lead",
        {"billing": ["read"]},
        "line 1, humans.groups.lead.billing: the service 'billing' is not listed under services: " + CORRECT,
    ),
    "class that is allowed and asked for": (
        "tiers|contributor|approve",
        ["read"],
        "line 1, tiers.contributor.approve.0: the class read is in allow and in approve: keep one",
    ),
    "pattern that engines read differently": (
        f"{LIMITS}|/amount",
        {"matches": "[A-Z]\\d+"},
        f"{AT_AMOUNT}.matches: '\\\\d' at character 6 is not read alike by every engine: write [0-9]",
    ),
    "a number and a text": (
        f"{LIMITS}|/amount",
        {"max": 1, "prefix": "x"},
        f"{AT_AMOUNT}.max: nothing is within max and within prefix, {NEVER}",
    ),
    "a list and a text": (
        f"{LIMITS}|/amount",
        {"only": ["x"], "equals": "x"},
        f"{AT_AMOUNT}.only: nothing is within only and within equals, {NEVER}",
    ),
    "min above max": (
        f"{LIMITS}|/amount",
        {"min": 2, "max": 1},
        f"{AT_AMOUNT}.min: {MIN_MAX}",
    ),
}


def test_accepts_the_small_grants() -> None:
    assert schema.problems("grants", base()) == ()
    parse(base())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accepts_the_shipped_grants(path: Path) -> None:
    data = path.read_bytes()
    Grants.parse(data)
    assert schema.problems("grants", load_yaml(data, MAX_BYTES)) == ()


@pytest.mark.parametrize("name", SHAPES)
def test_refuses_what_has_another_shape_and_so_does_the_schema(name: str) -> None:
    grants = broken(*SHAPES[name])
    with pytest.raises(GrantsError, match=r"\Aline 1"):
        parse(grants)
    assert schema.problems("grants", grants) != ()


@pytest.mark.parametrize("name", MEANINGS)
def test_refuses_what_contradicts_the_rest_of_the_file(name: str) -> None:
    path, value, sentence = MEANINGS[name]
    with pytest.raises(GrantsError) as caught:
        parse(broken(path, value))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("path", ["humans", "humans|groups", "humans|subjects"])
def test_accepts_grants_that_name_nobody(path: str) -> None:
    grants = broken(path, {})
    assert schema.problems("grants", grants) == ()
    parse(grants)


@pytest.mark.parametrize(
    "path", ["humans", "humans|groups", "humans|subjects", HTTP, A2A, MODELS, GRPC, PAYLOAD, TOOLS]
)
def test_accepts_grants_without_what_is_optional(path: str) -> None:
    grants = broken(path, ...)
    assert schema.problems("grants", grants) == ()
    parse(grants)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"# only a comment\n", b"---\n", b"null", b"[]", b"{}", b"1", b"\xff"]
)
def test_refuses_empty_grants(text: bytes) -> None:
    with pytest.raises(GrantsError, match=r"\Aline \d: "):
        Grants.parse(text)


def test_a_refusal_is_one_sentence_that_names_line_and_key() -> None:
    text = (
        b"version: 1\ntiers:\n  observer: {allow: [read]}\nservices:\n  tickets:\n    tols: {}\nagents: {}\n"
    )
    with pytest.raises(GrantsError) as caught:
        Grants.parse(text)
    assert str(caught.value) == (
        "line 6, services.tickets.tols: an unknown key; known here: "
        "tools, methods, a2a, models, grpc, http, payload"
    )


def test_a_refusal_shows_control_characters_escaped() -> None:
    with pytest.raises(GrantsError) as caught:
        parse(broken(f"{TOOLS}|x\x1b[2J", {"class": "read"}))
    assert str(caught.value).isprintable()


def test_data_are_keyed_by_what_the_policy_looks_up() -> None:
    data: Any = parse(base()).data
    assert data == {
        "grants": {
            "tiers": {"observer": {"read": "allow"}, "contributor": {"read": "allow", "destroy": "approve"}},
            "services": {
                "tickets": {
                    "tools": {
                        "read_ticket": {"class": "read", "human": True, "limits": []},
                        "refund": {
                            "class": "write",
                            "human": False,
                            "limits": [
                                _limit("min", 0, "at least 0"),
                                _limit("max", 100, "at most 100"),
                            ],
                        },
                    },
                    "methods": {"resources/read": _operation("read")},
                    "a2a": {"GetTask": _operation("read")},
                    "tenants": {"tickets": True},
                    "models": {"gpt-4o": _operation("write")},
                    "grpc": {"/ledger.v1.Ledger/Get": _operation("read")},
                    "payload": {"secret": "deny", "email": "record"},
                    "http": {"GET": [_rule("/v1/items", below=False), _rule("/v1/items/", below=True)]}
                    | {"POST": [_rule("/v1/items", below=False), _rule("/v1/items/", below=True)]},
                }
            },
            "groups": {"lead": {"tickets": {"read": True, "write": True}}},
            "subjects": {"https://idp.example#sam": {"tickets": {"read": True}}},
            "agents": {"triage": {"tier": "observer", "services": {"tickets": True}}},
        }
    }


def _operation(name: str) -> dict[str, object]:
    return {"class": name, "human": False, "limits": []}


def _limit(kind: str, value: int, text: str) -> dict[str, object]:
    return {"pointer": "/amount", "path": ["arguments", "amount"], "kind": kind, "value": value, "text": text}


def _rule(path: str, *, below: bool) -> dict[str, object]:
    return {"class": "read", "human": False, "limits": [], "path": path, "below": below}


def test_pointers_are_taken_apart_as_rfc_6901_says() -> None:
    data: Any = parse(broken(LIMITS, {"/a~1b/~0c/~01": {"equals": True}})).data
    (limit,) = data["grants"]["services"]["tickets"]["tools"]["refund"]["limits"]
    assert limit["path"] == ["arguments", "a/b", "~c", "~1"]
    assert (limit["kind"], limit["value"], limit["text"]) == ("one_of", [True], "exactly true")


def _limits_of(limits: dict[str, object]) -> Any:
    data: Any = parse(broken(LIMITS, {"/a": limits})).data
    return data["grants"]["services"]["tickets"]["tools"]["refund"]["limits"]


def test_patterns_match_whole_values() -> None:
    (limit,) = _limits_of({"matches": "a|b"})
    assert (limit["kind"], limit["value"], limit["pattern"]) == ("matches", "a|b", "^(?:a|b)$")
    assert limit["text"] == 'text that matches "a|b"'


def test_a_directory_becomes_a_pattern_with_nothing_of_it_left_to_mean_more() -> None:
    (limit,) = _limits_of({"below": "/a.b/(c|d)+$/"})
    assert limit["pattern"].startswith(r"^(?:/a\.b/\(c\|d\)\+\$/")
    assert limit["text"] == 'a plain path below "/a.b/(c|d)+$/"'
    assert is_whole_pattern(limit["pattern"])
    assert re.match(limit["pattern"], "/a.b/(c|d)+$/x")
    assert not re.match(limit["pattern"], "/axb/(c|d)+$/x")


@pytest.mark.parametrize(
    "path", ["/", "docs/", "/srv/docs/", ".a/", "[x]^-_{1,2}?*/", "a b/c/", "a" * 127 + "/"]
)
def test_accepts_directories_and_admits_their_patterns(path: str) -> None:
    grants = broken(LIMITS, {"/a": {"below": path}})
    assert schema.problems("grants", grants) == ()
    (limit,) = _limits_of({"below": path})
    assert is_whole_pattern(limit["pattern"])
    assert re.fullmatch(limit["pattern"], f"{path}a/.b")
    for beyond in (path, f"{path}..", f"{path}a//b", f"{path}a/./b", f"{path}a\n"):
        assert not re.fullmatch(limit["pattern"][1:-1], beyond), beyond


def test_a_list_may_have_to_be_empty() -> None:
    assert schema.problems("grants", broken(LIMITS, {"/a": {"only": []}})) == ()
    (limit,) = _limits_of({"only": []})
    assert (limit["kind"], limit["value"], limit["text"]) == ("only", [], "an empty list")


def test_names_are_those_that_the_inspectors_give() -> None:
    assert set(A2A_METHODS) == set(a2a_methods.METHODS)
    for model in ("a", "meta-llama/Llama-3.1-8B", "ft:gpt-4o:org::id", "claude@20250101", "a" * 256):
        assert llm_facts.MODEL_NAME.fullmatch(model)
        parse(broken(f"{MODELS}|{model}", "read"))
    for path in ("/a/b", "/grpc.health.v1.Health/Check", "/_a.B2/C_"):
        assert grpc_call._PATH.fullmatch(path)
        parse(broken(f"{GRPC}|{path}", "read"))


def test_an_operation_may_be_its_class_or_say_more() -> None:
    more = {"class": "write", "human": "required", "arguments": {"/message/role": {"equals": "ROLE_USER"}}}
    for path in (f"{A2A}|SendMessage", f"{MODELS}|meta/llama-3.1:8b"):
        grants = broken(path, more)
        assert schema.problems("grants", grants) == ()
        kind, name = path.split("|")[-2:]
        data: Any = parse(grants).data
        found = data["grants"]["services"]["tickets"][kind][name]
        assert (found["class"], found["human"], len(found["limits"])) == ("write", True, 1)


def test_tenants_are_those_that_are_listed_or_none() -> None:
    grants = broken(f"{A2A}|tenants", ["acme", "tickets"])
    assert schema.problems("grants", grants) == ()
    data: Any = parse(grants).data
    assert data["grants"]["services"]["tickets"]["tenants"] == {"acme": True, "tickets": True}
    assert "tenants" not in data["grants"]["services"]["tickets"]["a2a"]
    data = parse(broken(f"{A2A}|tenants", ["acme"])).data
    assert data["grants"]["services"]["tickets"]["tenants"] == {"acme": True}


def test_what_to_look_for_in_a_call_is_what_has_a_rule() -> None:
    assert parse(base()).payload_classes() == {"tickets": {"secret", "email"}}
    assert parse(broken(PAYLOAD, ...)).payload_classes() == {}


def test_the_tools_of_a_service_are_named() -> None:
    tools = parse(base()).tool_names()
    assert tools["tickets"] == tuple(parse(base()).data["grants"]["services"]["tickets"]["tools"])  # type: ignore[index]  # grants


def test_grants_without_what_is_new_have_the_data_that_they_had() -> None:
    grants = base()
    for key in ("a2a", "models", "grpc", "payload"):
        del grants["services"]["tickets"][key]
    data: Any = parse(grants).data
    assert data["grants"]["services"]["tickets"].keys() == {"tools", "methods", "http"}


def test_the_schemas_know_the_same_classes_of_data() -> None:
    written = schema.schema("grants")["$defs"]["service"]["properties"]["payload"]["properties"]  # type: ignore[index]  # a JSON Schema
    asked = schema.schema("input")["properties"]["payload"]  # type: ignore[index]  # a JSON Schema
    assert tuple(sorted(written)) == tuple(asked["items"]["enum"]) == tuple(sorted(PAYLOAD_CLASSES))
    assert asked["maxItems"] == len(PAYLOAD_CLASSES)


def test_sentences_about_limits_are_printable_and_short() -> None:
    values = ["\u200b", "\x7f", "a" * 1000, "\n"]
    data: Any = parse(broken(LIMITS, {f"/a{at}": {"equals": value} for at, value in enumerate(values)})).data
    for limit in data["grants"]["services"]["tickets"]["tools"]["refund"]["limits"]:
        assert limit["text"].isprintable()
        assert len(limit["text"]) < 200


def test_the_digest_names_the_data_and_not_their_spelling() -> None:
    grants = parse(base())
    spaced = Grants.parse(json.dumps(base(), indent=4).encode())
    assert grants == spaced
    assert grants.digest == sha256_hex(canonical_json(grants.data))
    assert grants.digest != parse(broken("agents|triage|tier", "contributor")).digest


def test_grants_cannot_be_changed() -> None:
    grants = parse(base())
    with pytest.raises(dataclasses.FrozenInstanceError):
        grants.digest = ""  # type: ignore[misc]  # what is tested
    data: Any = grants.data
    data["grants"]["agents"].clear()
    assert grants.data != data


def test_refuses_a_file_that_is_too_large() -> None:
    with pytest.raises(GrantsError, match="larger than"):
        Grants.parse(b"#" * (MAX_BYTES + 1))


def test_reads_large_grants() -> None:
    grants = base()
    grants["agents"] = {
        f"agent-{number}": {"tier": "observer", "services": ["tickets"]} for number in range(5_000)
    }
    data: Any = parse(grants).data
    assert len(data["grants"]["agents"]) == 5_000


def test_methods_are_those_of_the_inspector_that_name_an_item() -> None:
    elsewhere = {aim.lifecycle, aim.listing, aim.tool}
    assert set(METHODS) == {name for name, method in REQUESTS.items() if method.read_target not in elsewhere}


def test_names_of_agents_are_those_of_the_registry() -> None:
    for name in ("a", "a-b", "0", "a" * 63):
        assert parse_agent_name(name) == name
        parse(broken(f"agents|{name}", {"tier": "observer", "services": ["tickets"]}))
