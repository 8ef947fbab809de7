"""What each reason code says: the form of its answer, a sentence for the refused, what to do about it.

- A sentence tells nothing of the policy's insides; what the operator needs stands in the audit record.
- Each code of authz/codes.py has a text here, and each text its code; a test compares them.
"""

from collections.abc import Mapping
from typing import Final

from authz.code_text import Text
from authz.code_texts_request import REQUEST_TEXTS
from authz.form import Form

TEXTS: Final[Mapping[str, Text]] = {
    "DPT-ALLOWED": Text(Form.ALLOWED, "allowed", "nothing to do"),
    **REQUEST_TEXTS,
    # Who is calling
    "DPT-PEER-MISSING": Text(
        Form.TOKEN, "no workload identity came with the connection", "connect with mTLS and an X.509-SVID"
    ),
    "DPT-TOKEN-MISSING": Text(
        Form.TOKEN, "no token was sent", "exchange the person's token at the broker and send it as Bearer"
    ),
    "DPT-TOKEN-MALFORMED": Text(Form.TOKEN, "the token cannot be read", "send the token as it was issued"),
    "DPT-TOKEN-TYPE": Text(
        Form.TOKEN, "this kind of token does not count here", "send a delegation token of the broker"
    ),
    "DPT-TOKEN-ALG": Text(
        Form.TOKEN, "the token is signed with an algorithm that is not accepted", "send a token of the broker"
    ),
    "DPT-TOKEN-KEY": Text(Form.TOKEN, "the token's key is not known", "get a new token at the broker"),
    "DPT-TOKEN-SIGNATURE": Text(
        Form.TOKEN, "the token's signature is wrong", "get a new token at the broker"
    ),
    "DPT-TOKEN-EXPIRED": Text(Form.TOKEN, "the token has expired", "get a new token at the broker"),
    "DPT-TOKEN-NOT-YET": Text(
        Form.TOKEN, "the token is not valid yet", "check the clocks of this machine and the broker's"
    ),
    "DPT-TOKEN-ISSUER": Text(Form.TOKEN, "the token's issuer is not accepted", "use the broker"),
    "DPT-TOKEN-AUDIENCE": Text(
        Form.TOKEN, "the token is meant for another service", "get a token for this service at the broker"
    ),
    "DPT-TOKEN-CLAIMS": Text(
        Form.TOKEN, "the token lacks something or contradicts itself", "get a new token at the broker"
    ),
    "DPT-NOT-BOUND": Text(
        Form.TOKEN, "the token belongs to another caller", "use a token that was issued to this very task"
    ),
    "DPT-HUMAN-MISSING": Text(
        Form.TOKEN,
        "this task acts for a person, whose token is missing",
        "exchange the person's token at the broker and send the delegation token",
    ),
    "DPT-CHAIN-DEPTH": Text(Form.TOKEN, "the chain of delegations is too long", "delegate over fewer agents"),
    "DPT-CHAIN-CYCLE": Text(
        Form.TOKEN,
        "an agent comes back in the chain of delegations",
        "do not delegate back to an agent of the chain",
    ),
    "DPT-AGENT-UNKNOWN": Text(
        Form.TOKEN,
        "the agent is not registered, or retired",
        "an operator registers it: 'deputy agents register'",
    ),
    "DPT-AGENT-EXPIRED": Text(
        Form.TOKEN,
        "the agent's registration has expired",
        "its owner asks an operator to renew it: 'deputy agents change'",
    ),
    "DPT-AGENT-HOST": Text(
        Form.TOKEN,
        "this workload may not host the agent",
        "an operator adds the workload to the agent's hosts: 'deputy agents change'",
    ),
    "DPT-TASK-UNKNOWN": Text(Form.TOKEN, "the task is not known", "start a task"),
    "DPT-TASK-ENDED": Text(Form.TOKEN, "the task has ended", "start a new task"),
    "DPT-TASK-MISMATCH": Text(
        Form.TOKEN, "the task was started for somebody else", "start a task for this agent and this person"
    ),
    "DPT-CLIENT-UNREGISTERED": Text(
        Form.TOKEN,
        "the person's token was issued to an application that is not this agent's",
        "sign in through a client that is registered for this agent",
    ),
    "DPT-MAY-ACT": Text(
        Form.REFUSED,
        "the person's token names somebody else who may act",
        "use a token whose may_act names this agent",
    ),
    "DPT-CONSENT-MISSING": Text(
        Form.REFUSED,
        "the person has not granted this to the agent",
        "the person grants it: 'deputy grants create'",
    ),
    "DPT-SESSION-OTHERS": Text(
        Form.REFUSED,
        "the session belongs to somebody else",
        "open a session of your own: send initialize without mcp-session-id",
    ),
    "DPT-DPOP-MISSING": Text(
        Form.TOKEN,
        "the token is bound to a key, and no proof of that key came with it",
        "send Authorization: DPoP and one DPoP header with a fresh proof",
    ),
    "DPT-DPOP-INVALID": Text(
        Form.TOKEN,
        "the proof of the key does not count",
        "make a new proof for this method, URL and token, with the nonce that was given",
    ),
    "DPT-REPLAYED": Text(Form.TOKEN, "this was presented before", "make a new one for each request"),
    "DPT-DETAILS": Text(
        Form.REFUSED,
        "the token does not cover this tool with these arguments",
        "get a token whose authorization_details cover the call",
    ),
    "DPT-REVOKED": Text(Form.TOKEN, "this was revoked", "start again: sign in, get a new token"),
    "DPT-CONTAINED": Text(
        Form.REFUSED,
        "an operator has stopped this",
        "ask an operator; 'deputy agents release' ends it",
    ),
    # What the policy says
    "DPT-TOOL-UNKNOWN": Text(
        Form.POLICY,
        "the tool is not listed for this service",
        "an operator lists the tool and its class in grants.yaml",
    ),
    "DPT-HUMAN-NOT-GRANTED": Text(
        Form.POLICY,
        "the person may not do this, so nobody may do it for them",
        "an operator grants it to one of the person's groups in grants.yaml",
    ),
    "DPT-HUMAN-REQUIRED": Text(
        Form.POLICY, "this tool is only used for a person", "call it in a task that was started for a person"
    ),
    "DPT-AGENT-NOT-GRANTED": Text(
        Form.POLICY,
        "the agent may not use this service",
        "an operator adds the service to the agent's grants in grants.yaml",
    ),
    "DPT-AGENT-TIER": Text(
        Form.POLICY,
        "the agent's tier does not reach this far",
        "use an agent of a higher tier, or its owner asks an operator to raise it",
    ),
    "DPT-CHAIN-NARROWED": Text(
        Form.POLICY,
        "an agent of the chain may not do this, and delegating does not add rights",
        "let an agent that may do it act for the person directly",
    ),
    "DPT-SCOPE-MISSING": Text(
        Form.SCOPE, "the token's scope does not cover this", "get a token with the scope at the broker"
    ),
    "DPT-ARGUMENT-LIMIT": Text(
        Form.POLICY,
        "an argument is outside its limits",
        "keep the argument within the limits of the tool; an operator sets them in grants.yaml",
    ),
    "DPT-TOOL-CHANGED": Text(
        Form.POLICY,
        "the tool is not what it was: its description or its schema has changed",
        "an operator looks at 'deputy mcp drift', and accepts the change with 'deputy mcp pin'",
    ),
    "DPT-TOOL-UNPINNED": Text(
        Form.POLICY,
        "nobody has accepted this tool yet",
        "an operator looks at 'deputy mcp drift', and accepts the tool with 'deputy mcp pin'",
    ),
    "DPT-BINDING-WEAK": Text(
        Form.POLICY,
        "this tool needs a token that is bound to the agent's own key",
        "connect with the task's own X.509-SVID",
    ),
    "DPT-PAYLOAD": Text(
        Form.POLICY,
        "what is sent holds data of a kind that may not go there",
        "leave it out, or send it where it may go; an operator says in grants.yaml what may go where",
    ),
    "DPT-APPROVAL-REQUIRED": Text(
        Form.POLICY,
        "this needs approval by a person",
        "ask a person who may approve it ('deputy approvals approve'), then send the same call again",
    ),
    "DPT-APPROVAL-DENIED": Text(
        Form.POLICY, "a person denied this call", "do not try it again; ask the person what they want instead"
    ),
    "DPT-APPROVAL-LIMIT": Text(
        Form.POLICY,
        "too many calls wait for a person's approval",
        "wait until the person has decided on those that wait, or they have expired",
    ),
    "DPT-APPROVAL-SIZE": Text(
        Form.POLICY,
        "the call is too long to be shown to the person who would approve it",
        "do it in several calls with less in each",
    ),
    "DPT-DENIED": Text(Form.POLICY, "no rule allows this", "an operator grants it in grants.yaml"),
    "DPT-NOT-PERMITTED": Text(
        Form.REFUSED,
        "you may not administer this",
        "ask an operator; the admin section of the grants says who may",
    ),
    "DPT-CHANGED": Text(
        Form.REFUSED, "what this was decided on was changed meanwhile", "read it again, and order it again"
    ),
    "DPT-POLICY-SHAPE": Text(
        Form.UNAVAILABLE, "the policy gave no valid answer", "an operator runs 'deputy policy check'"
    ),
    # We cannot know
    "DPT-POLICY-UNAVAILABLE": Text(
        Form.UNAVAILABLE,
        "the policy engine does not answer",
        "try again later; an operator looks at the policy engine",
    ),
    "DPT-POLICY-REVISION": Text(
        Form.UNAVAILABLE, "the policy engine runs another revision", "try again in a moment"
    ),
    "DPT-AUDIT-UNAVAILABLE": Text(
        Form.UNAVAILABLE,
        "the decision could not be recorded",
        "try again later; an operator looks at the audit log's disk",
    ),
    "DPT-PROVIDER-UNAVAILABLE": Text(
        Form.UNAVAILABLE,
        "the person's identity provider does not answer",
        "try again later; an operator looks at the provider",
    ),
    "DPT-WITHDRAWN": Text(Form.UNAVAILABLE, "rights were withdrawn meanwhile", "try again"),
    "DPT-STALE": Text(
        Form.UNAVAILABLE,
        "it cannot be known now whether rights were withdrawn",
        "try again in a moment; an operator looks at the state that this replica follows",
    ),
    "DPT-REPLAY-UNKNOWN": Text(
        Form.UNAVAILABLE,
        "it cannot be known now whether this was presented before",
        "try again in a moment with a new proof; if it goes on, an operator looks at the replay memory",
    ),
    "DPT-PINS-UNKNOWN": Text(
        Form.UNAVAILABLE,
        "it cannot be known now whether the tool has changed",
        "try again in a moment; if it goes on, an operator looks at the file of pins",
    ),
    "DPT-SESSION-UNKNOWN": Text(
        Form.UNAVAILABLE,
        "it cannot be known now whose session this is",
        "try again in a moment; if it goes on, an operator looks at the file of sessions",
    ),
    "DPT-PASSAGE-MISSING": Text(
        Form.UNAVAILABLE,
        "it cannot be known whose call this is the answer to",
        "an operator puts ext_proc behind ext_authz, and forwards its metadata (mesh-config/envoy)",
    ),
    "DPT-ANSWER-UNREADABLE": Text(
        Form.UNAVAILABLE,
        "the service's list cannot be read, so it is not passed on",
        "an operator compares what the service answers with the protocol",
    ),
    "DPT-APPROVAL-UNKNOWN": Text(
        Form.UNAVAILABLE,
        "it cannot be known now whether a person approved this",
        "try again in a moment; if it goes on, an operator looks at the file of approvals",
    ),
    "DPT-OVERLOADED": Text(
        Form.UNAVAILABLE, "too many decisions are asked for at once", "try again in a moment"
    ),
    "DPT-INTERNAL": Text(
        Form.UNAVAILABLE, "the request could not be decided", "tell an operator the id of the decision"
    ),
}
