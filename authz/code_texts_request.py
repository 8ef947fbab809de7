"""What the reason codes about the request itself say: it cannot be read, or asks for what is unknown here."""

from collections.abc import Mapping
from typing import Final

from authz.code_text import Text
from authz.form import Form

REQUEST_TEXTS: Final[Mapping[str, Text]] = {
    # The request itself
    "DPT-REQUEST-MALFORMED": Text(
        Form.MALFORMED,
        "the request cannot be read",
        "send a well-formed request; behind Envoy, check the ext_authz filter",
    ),
    "DPT-BODY-TRUNCATED": Text(
        Form.MALFORMED,
        "the body arrived in part only",
        "set allow_partial_message: false and pack_as_bytes: true, or send a smaller body",
    ),
    "DPT-BODY-TOO-LARGE": Text(Form.MALFORMED, "the body is above 1 MiB", "send a smaller body"),
    "DPT-BODY-ENCODING": Text(
        Form.MALFORMED,
        "the body is not plain UTF-8",
        "send UTF-8 without byte order mark and without content-encoding",
    ),
    "DPT-CONTENT-TYPE": Text(
        Form.MALFORMED, "the content type is not application/json", "send content-type: application/json"
    ),
    "DPT-JSON-MALFORMED": Text(Form.MALFORMED, "the body is not JSON", "send one JSON object"),
    "DPT-JSON-DUPLICATE-KEY": Text(
        Form.MALFORMED, "an object in the body has the same key twice", "send each key once"
    ),
    "DPT-JSON-NUMBER": Text(
        Form.MALFORMED,
        "a number in the body is read differently by different programs",
        "keep integers within 2^53 - 1, and send neither NaN nor Infinity",
    ),
    "DPT-JSON-DEPTH": Text(Form.MALFORMED, "the body is nested too deeply", "nest at most 64 levels"),
    "DPT-JSON-SURROGATE": Text(
        Form.MALFORMED, "the body holds half a character", "send no unpaired surrogates"
    ),
    "DPT-JSON-KEYS": Text(Form.MALFORMED, "the body has too many keys", "send at most 4096 keys"),
    "DPT-MCP-BATCH": Text(Form.MALFORMED, "a JSON-RPC batch is refused", "send one message in each request"),
    "DPT-MCP-ENVELOPE": Text(
        Form.MALFORMED,
        "the body is not one JSON-RPC 2.0 message",
        "send jsonrpc, method and params as the protocol says",
    ),
    "DPT-MCP-LOOKALIKE-KEY": Text(
        Form.MALFORMED, "a key looks like one of the protocol but is not", "spell the protocol's keys exactly"
    ),
    "DPT-MCP-ID": Text(
        Form.MALFORMED,
        "the id is missing or not a string or whole number",
        "send a string or an integer as id",
    ),
    "DPT-MCP-VERSION": Text(Form.MALFORMED, "the protocol version is unknown", "use a released MCP revision"),
    "DPT-MCP-HEADER-MISMATCH": Text(
        Form.MALFORMED, "a header and the body name different things", "let the MCP headers repeat the body"
    ),
    "DPT-MCP-PARAMS": Text(
        Form.MALFORMED,
        "the parameters do not fit the method",
        "send the parameters that the MCP schema names",
    ),
    "DPT-JSON-LOOKALIKE-KEY": Text(
        Form.MALFORMED, "a key looks like one of the protocol but is not", "spell the protocol's keys exactly"
    ),
    "DPT-A2A-ENVELOPE": Text(
        Form.MALFORMED,
        "the body is not one JSON-RPC 2.0 request",
        "send one request with jsonrpc, id, method and params in each body",
    ),
    "DPT-A2A-VERSION": Text(
        Form.MALFORMED,
        "the A2A version is unknown or does not fit the method",
        "send A2A-Version: 1.0 with the names of 1.0, and 0.3 or no header with the older ones",
    ),
    "DPT-A2A-EXTENSIONS": Text(
        Form.MALFORMED, "the A2A extensions cannot be read", "send one A2A-Extensions header with URIs"
    ),
    "DPT-A2A-PARAMS": Text(
        Form.MALFORMED,
        "the parameters do not fit the A2A method",
        "send what the A2A specification names, and each push configuration in a call of its own",
    ),
    "DPT-LLM-BODY": Text(
        Form.MALFORMED,
        "the body asks a model for something that is not known here",
        "send the documented parameters of this API, with the model and each tool in plain sight",
    ),
    "DPT-PATH": Text(Form.MALFORMED, "the path is ambiguous", "send a normalised path"),
    "DPT-HEADER-DUPLICATE": Text(
        Form.MALFORMED, "a header that must stand once stands twice", "send the header once"
    ),
    "DPT-HEADER-ENCODING": Text(
        Form.MALFORMED, "a header holds bytes that are not text", "send headers in ASCII"
    ),
    "DPT-SESSION-MALFORMED": Text(
        Form.MALFORMED,
        "what mcp-session-id holds is no id of a session",
        "send it as the server gave it: visible ASCII, no comma, at most 512 characters",
    ),
    # What is asked for is not known here
    "DPT-MCP-METHOD-UNKNOWN": Text(
        Form.REFUSED, "the method is not known here", "use a method of the MCP specification"
    ),
    "DPT-MCP-HTTP-METHOD": Text(Form.REFUSED, "the HTTP method is not one of MCP", "use POST, GET or DELETE"),
    "DPT-A2A-METHOD-UNKNOWN": Text(
        Form.REFUSED,
        "this is no A2A operation that is known here",
        "use an operation of the A2A specification at the agent's own path",
    ),
    "DPT-LLM-PATH": Text(
        Form.REFUSED,
        "this is no model call that is known here",
        "call /v1/chat/completions, /v1/responses, /v1/messages or /v1/models",
    ),
    "DPT-GRPC-PATH": Text(
        Form.REFUSED, "this is no gRPC call", "POST to /package.Service/Method as application/grpc"
    ),
    "DPT-PARSER-DISAGREEMENT": Text(
        Form.REFUSED,
        "two parsers read the request differently",
        "send an unambiguous message; an operator should look at this call",
    ),
    "DPT-SERVICE-UNKNOWN": Text(
        Form.REFUSED,
        "no service is known at this place",
        "check host and path; an operator adds what is missing to services in deputy.yaml",
    ),
    "DPT-ASKER-UNKNOWN": Text(
        Form.REFUSED,
        "this proxy may not ask for decisions",
        "an operator adds its SPIFFE ID to check.callers in deputy.yaml",
    ),
    "DPT-ASKER-TARGET": Text(
        Form.REFUSED,
        "this proxy may not ask about this service",
        "an operator adds the service to the proxy's may_ask in deputy.yaml",
    ),
}
