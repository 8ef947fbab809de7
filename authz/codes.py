"""The reason codes: one list for the flow, the policy, the command line and the docs.

- A code is stable: it is never renamed, and never means something else later.
- Each has a form (how the answer travels), a sentence for the one who is refused, and what to do about it.
- The sentence tells nothing of the policy's insides; what the operator needs stands in the audit record.
- docs/reference/reason-codes.md lists them all; a test keeps it complete.
"""

from enum import StrEnum, unique
from typing import Self

from authz.form import Form


@unique
class Code(StrEnum):
    """A machine-readable reason."""

    form: Form
    sentence: str
    fix: str

    def __new__(cls, value: str, form: Form, sentence: str, fix: str) -> Self:
        """Keep form, sentence and fix beside the value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.form = form
        member.sentence = sentence
        member.fix = fix
        return member

    ALLOWED = ("DPT-ALLOWED", Form.ALLOWED, "allowed", "nothing to do")

    # The request itself
    REQUEST_MALFORMED = (
        "DPT-REQUEST-MALFORMED",
        Form.MALFORMED,
        "the request cannot be read",
        "send a well-formed request; behind Envoy, check the ext_authz filter",
    )
    BODY_TRUNCATED = (
        "DPT-BODY-TRUNCATED",
        Form.MALFORMED,
        "the body arrived in part only",
        "set allow_partial_message: false and pack_as_bytes: true, or send a smaller body",
    )
    BODY_TOO_LARGE = ("DPT-BODY-TOO-LARGE", Form.MALFORMED, "the body is above 1 MiB", "send a smaller body")
    BODY_ENCODING = (
        "DPT-BODY-ENCODING",
        Form.MALFORMED,
        "the body is not plain UTF-8",
        "send UTF-8 without byte order mark and without content-encoding",
    )
    CONTENT_TYPE = (
        "DPT-CONTENT-TYPE",
        Form.MALFORMED,
        "the content type is not application/json",
        "send content-type: application/json",
    )
    JSON_MALFORMED = ("DPT-JSON-MALFORMED", Form.MALFORMED, "the body is not JSON", "send one JSON object")
    JSON_DUPLICATE_KEY = (
        "DPT-JSON-DUPLICATE-KEY",
        Form.MALFORMED,
        "an object in the body has the same key twice",
        "send each key once",
    )
    JSON_NUMBER = (
        "DPT-JSON-NUMBER",
        Form.MALFORMED,
        "a number in the body is read differently by different programs",
        "keep integers within 2^53 - 1, and send neither NaN nor Infinity",
    )
    JSON_DEPTH = ("DPT-JSON-DEPTH", Form.MALFORMED, "the body is nested too deeply", "nest at most 64 levels")
    JSON_SURROGATE = (
        "DPT-JSON-SURROGATE",
        Form.MALFORMED,
        "the body holds half a character",
        "send no unpaired surrogates",
    )
    JSON_KEYS = ("DPT-JSON-KEYS", Form.MALFORMED, "the body has too many keys", "send at most 4096 keys")
    MCP_BATCH = (
        "DPT-MCP-BATCH",
        Form.MALFORMED,
        "a JSON-RPC batch is refused",
        "send one message in each request",
    )
    MCP_ENVELOPE = (
        "DPT-MCP-ENVELOPE",
        Form.MALFORMED,
        "the body is not one JSON-RPC 2.0 message",
        "send jsonrpc, method and params as the protocol says",
    )
    MCP_LOOKALIKE_KEY = (
        "DPT-MCP-LOOKALIKE-KEY",
        Form.MALFORMED,
        "a key looks like one of the protocol but is not",
        "spell the protocol's keys exactly",
    )
    MCP_ID = (
        "DPT-MCP-ID",
        Form.MALFORMED,
        "the id is missing or not a string or whole number",
        "send a string or an integer as id",
    )
    MCP_VERSION = (
        "DPT-MCP-VERSION",
        Form.MALFORMED,
        "the protocol version is unknown",
        "use a released MCP revision",
    )
    MCP_HEADER_MISMATCH = (
        "DPT-MCP-HEADER-MISMATCH",
        Form.MALFORMED,
        "a header and the body name different things",
        "let the MCP headers repeat the body",
    )
    MCP_PARAMS = (
        "DPT-MCP-PARAMS",
        Form.MALFORMED,
        "the parameters do not fit the method",
        "send the parameters that the MCP schema names",
    )
    PATH = ("DPT-PATH", Form.MALFORMED, "the path is ambiguous", "send a normalised path")
    HEADER_DUPLICATE = (
        "DPT-HEADER-DUPLICATE",
        Form.MALFORMED,
        "a header that must stand once stands twice",
        "send the header once",
    )
    HEADER_ENCODING = (
        "DPT-HEADER-ENCODING",
        Form.MALFORMED,
        "a header holds bytes that are not text",
        "send headers in ASCII",
    )

    # What is asked for is not known here
    MCP_METHOD_UNKNOWN = (
        "DPT-MCP-METHOD-UNKNOWN",
        Form.REFUSED,
        "the method is not known here",
        "use a method of the MCP specification",
    )
    MCP_HTTP_METHOD = (
        "DPT-MCP-HTTP-METHOD",
        Form.REFUSED,
        "the HTTP method is not one of MCP",
        "use POST, GET or DELETE",
    )
    PARSER_DISAGREEMENT = (
        "DPT-PARSER-DISAGREEMENT",
        Form.REFUSED,
        "two parsers read the request differently",
        "send an unambiguous message; an operator should look at this call",
    )
    SERVICE_UNKNOWN = (
        "DPT-SERVICE-UNKNOWN",
        Form.REFUSED,
        "no service is known at this place",
        "check host and path; an operator adds what is missing to services in deputy.yaml",
    )
    ASKER_UNKNOWN = (
        "DPT-ASKER-UNKNOWN",
        Form.REFUSED,
        "this proxy may not ask for decisions",
        "an operator adds its SPIFFE ID to check.callers in deputy.yaml",
    )
    ASKER_TARGET = (
        "DPT-ASKER-TARGET",
        Form.REFUSED,
        "this proxy may not ask about this service",
        "an operator adds the service to the proxy's may_ask in deputy.yaml",
    )

    # Who is calling
    PEER_MISSING = (
        "DPT-PEER-MISSING",
        Form.TOKEN,
        "no workload identity came with the connection",
        "connect with mTLS and an X.509-SVID",
    )
    TOKEN_MISSING = (
        "DPT-TOKEN-MISSING",
        Form.TOKEN,
        "no token was sent",
        "exchange the person's token at the broker and send it as Bearer",
    )
    TOKEN_MALFORMED = (
        "DPT-TOKEN-MALFORMED",
        Form.TOKEN,
        "the token cannot be read",
        "send the token as it was issued",
    )
    TOKEN_TYPE = (
        "DPT-TOKEN-TYPE",
        Form.TOKEN,
        "this kind of token does not count here",
        "send a delegation token of the broker",
    )
    TOKEN_ALG = (
        "DPT-TOKEN-ALG",
        Form.TOKEN,
        "the token is signed with an algorithm that is not accepted",
        "send a token of the broker",
    )
    TOKEN_KEY = ("DPT-TOKEN-KEY", Form.TOKEN, "the token's key is not known", "get a new token at the broker")
    TOKEN_SIGNATURE = (
        "DPT-TOKEN-SIGNATURE",
        Form.TOKEN,
        "the token's signature is wrong",
        "get a new token at the broker",
    )
    TOKEN_EXPIRED = (
        "DPT-TOKEN-EXPIRED",
        Form.TOKEN,
        "the token has expired",
        "get a new token at the broker",
    )
    TOKEN_NOT_YET = (
        "DPT-TOKEN-NOT-YET",
        Form.TOKEN,
        "the token is not valid yet",
        "check the clocks of this machine and the broker's",
    )
    TOKEN_ISSUER = ("DPT-TOKEN-ISSUER", Form.TOKEN, "the token's issuer is not accepted", "use the broker")
    TOKEN_AUDIENCE = (
        "DPT-TOKEN-AUDIENCE",
        Form.TOKEN,
        "the token is meant for another service",
        "get a token for this service at the broker",
    )
    TOKEN_CLAIMS = (
        "DPT-TOKEN-CLAIMS",
        Form.TOKEN,
        "the token lacks something or contradicts itself",
        "get a new token at the broker",
    )
    NOT_BOUND = (
        "DPT-NOT-BOUND",
        Form.TOKEN,
        "the token belongs to another caller",
        "use a token that was issued to this very task",
    )
    HUMAN_MISSING = (
        "DPT-HUMAN-MISSING",
        Form.TOKEN,
        "this task acts for a person, whose token is missing",
        "exchange the person's token at the broker and send the delegation token",
    )
    CHAIN_DEPTH = (
        "DPT-CHAIN-DEPTH",
        Form.TOKEN,
        "the chain of delegations is too long",
        "delegate over fewer agents",
    )
    CHAIN_CYCLE = (
        "DPT-CHAIN-CYCLE",
        Form.TOKEN,
        "an agent comes back in the chain of delegations",
        "do not delegate back to an agent of the chain",
    )
    AGENT_UNKNOWN = (
        "DPT-AGENT-UNKNOWN",
        Form.TOKEN,
        "the agent is not registered, or retired",
        "an operator registers the agent",
    )
    AGENT_EXPIRED = (
        "DPT-AGENT-EXPIRED",
        Form.TOKEN,
        "the agent's registration has expired",
        "the agent's owner asks for its renewal",
    )
    AGENT_HOST = (
        "DPT-AGENT-HOST",
        Form.TOKEN,
        "this workload may not host the agent",
        "an operator adds the workload to the agent's hosts",
    )
    TASK_UNKNOWN = ("DPT-TASK-UNKNOWN", Form.TOKEN, "the task is not known", "start a task")
    TASK_ENDED = ("DPT-TASK-ENDED", Form.TOKEN, "the task has ended", "start a new task")
    TASK_MISMATCH = (
        "DPT-TASK-MISMATCH",
        Form.TOKEN,
        "the task was started for somebody else",
        "start a task for this agent and this person",
    )

    # What the policy says
    TOOL_UNKNOWN = (
        "DPT-TOOL-UNKNOWN",
        Form.POLICY,
        "the tool is not listed for this service",
        "an operator lists the tool and its class in grants.yaml",
    )
    HUMAN_NOT_GRANTED = (
        "DPT-HUMAN-NOT-GRANTED",
        Form.POLICY,
        "the person may not do this, so nobody may do it for them",
        "an operator grants it to one of the person's groups",
    )
    HUMAN_REQUIRED = (
        "DPT-HUMAN-REQUIRED",
        Form.POLICY,
        "this tool is only used for a person",
        "call it in a task that was started for a person",
    )
    AGENT_NOT_GRANTED = (
        "DPT-AGENT-NOT-GRANTED",
        Form.POLICY,
        "the agent may not use this service",
        "an operator adds the service to the agent's grants",
    )
    AGENT_TIER = (
        "DPT-AGENT-TIER",
        Form.POLICY,
        "the agent's tier does not reach this far",
        "use an agent of a higher tier, or ask its owner to raise it",
    )
    CHAIN_NARROWED = (
        "DPT-CHAIN-NARROWED",
        Form.POLICY,
        "an agent of the chain may not do this, and delegating does not add rights",
        "let an agent that may do it act for the person directly",
    )
    SCOPE_MISSING = (
        "DPT-SCOPE-MISSING",
        Form.SCOPE,
        "the token's scope does not cover this",
        "get a token with the scope at the broker",
    )
    ARGUMENT_LIMIT = (
        "DPT-ARGUMENT-LIMIT",
        Form.POLICY,
        "an argument is outside its limits",
        "keep the argument within the limits of the tool",
    )
    BINDING_WEAK = (
        "DPT-BINDING-WEAK",
        Form.POLICY,
        "this tool needs a token that is bound to the agent's own key",
        "connect with the task's own X.509-SVID",
    )
    APPROVAL_REQUIRED = (
        "DPT-APPROVAL-REQUIRED",
        Form.POLICY,
        "this needs approval by a person",
        "ask a person who may approve it",
    )
    DENIED = ("DPT-DENIED", Form.POLICY, "no rule allows this", "an operator grants it")
    POLICY_SHAPE = (
        "DPT-POLICY-SHAPE",
        Form.UNAVAILABLE,
        "the policy gave no valid answer",
        "an operator runs 'deputy policy check'",
    )

    # We cannot know
    POLICY_UNAVAILABLE = (
        "DPT-POLICY-UNAVAILABLE",
        Form.UNAVAILABLE,
        "the policy engine does not answer",
        "try again later; an operator looks at the policy engine",
    )
    POLICY_REVISION = (
        "DPT-POLICY-REVISION",
        Form.UNAVAILABLE,
        "the policy engine runs another revision",
        "try again in a moment",
    )
    AUDIT_UNAVAILABLE = (
        "DPT-AUDIT-UNAVAILABLE",
        Form.UNAVAILABLE,
        "the decision could not be recorded",
        "try again later; an operator looks at the audit log's disk",
    )
    PROVIDER_UNAVAILABLE = (
        "DPT-PROVIDER-UNAVAILABLE",
        Form.UNAVAILABLE,
        "the person's identity provider does not answer",
        "try again later; an operator looks at the provider",
    )
    WITHDRAWN = ("DPT-WITHDRAWN", Form.UNAVAILABLE, "rights were withdrawn meanwhile", "try again")
    OVERLOADED = (
        "DPT-OVERLOADED",
        Form.UNAVAILABLE,
        "too many decisions are asked for at once",
        "try again in a moment",
    )
    INTERNAL = ("DPT-INTERNAL", Form.UNAVAILABLE, "the request could not be decided", "tell an operator")


_BY_VALUE = {code.value: code for code in Code}


def find_code(value: str) -> Code | None:
    """Return the code of ours with this text; a policy may have codes of its own."""
    return _BY_VALUE.get(value)
