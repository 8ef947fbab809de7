"""A refusal on its way to the answer and the record: the denial, and its name in OAuth.

- The OAuth errors are those of RFC 6749 section 5.2 and RFC 8693 section 2.2.2 (TX-06): a token that is bad
  or that the policy refuses is `invalid_request`, a service `invalid_target`, a scope `invalid_scope`, a
  client `invalid_client`; what we cannot know is `temporarily_unavailable`.
- What the caller reads is the sentence of the reason code, or a sentence of ours about the form of the
  request. What the policy says about itself stays in the record.
"""

from typing import Final, Literal, cast, get_args

from authz.authenticate import code_of
from authz.codes import Code, find_code
from authz.decision import Deny, denied, denied_by, refused
from authz.errors import AuthzError, CodedError
from authz.form import Form
from authz.policy.verdict import Verdict
from identity.errors import DpopError, ExchangeError, TokenError

OAuthError = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_scope",
    "invalid_target",
    "invalid_authorization_details",
    "invalid_dpop_proof",
    "use_dpop_nonce",
    "unsupported_grant_type",
    "unsupported_token_type",
    "temporarily_unavailable",
]

_TARGETS: Final = frozenset({Code.SERVICE_UNKNOWN, Code.AGENT_NOT_GRANTED})
_EXCHANGE_CODES: Final = {
    "invalid_target": Code.SERVICE_UNKNOWN,
    "invalid_scope": Code.SCOPE_MISSING,
    "invalid_authorization_details": Code.DETAILS,
}


class RefusedError(AuthzError):
    """A refusal; `description` is for the caller, the rest of the denial for the record."""

    def __init__(self, deny: Deny, oauth: OAuthError | None = None, description: str = "") -> None:
        """Name the denial as OAuth does, where its code says how."""
        super().__init__(deny.detail or deny.message)
        self.deny = deny
        self.oauth: OAuthError = oauth or _oauth(deny)
        self.description = description or _sentence(deny.code)


def refuse(
    code: Code, detail: str = "", *, oauth: OAuthError | None = None, description: str = ""
) -> RefusedError:
    """Refuse with one of our own codes."""
    return RefusedError(denied(code, detail), oauth, description)


def malformed(description: str, oauth: OAuthError = "invalid_request") -> RefusedError:
    """Refuse the form of a request; the description holds nothing of the request itself."""
    return refuse(Code.REQUEST_MALFORMED, description, oauth=oauth, description=description)


def refused_client(error: Exception) -> RefusedError:
    """Refuse a client whom we do not know, or who may not act now."""
    refusal = refusal_of(error)
    return RefusedError(refusal.deny, "invalid_client", refusal.description)


def refused_by_policy(verdict: Verdict) -> RefusedError:
    """Refuse because the policy did; its first reason is the code."""
    return RefusedError(denied_by(verdict))


def refusal_of(error: Exception) -> RefusedError:
    """Turn whatever was raised into a refusal; what is not ours tells its name to the record only."""
    match error:
        case RefusedError():
            return error
        case CodedError():
            return RefusedError(refused(error))
        case DpopError():
            return refuse(
                Code.DPOP_INVALID,
                str(error),
                oauth=oauth_error(error.error),
                description="the proof does not count",
            )
        case TokenError():
            return refuse(code_of(error), str(error))
        case ExchangeError():
            code = _EXCHANGE_CODES.get(error.error, Code.TOKEN_CLAIMS)
            return refuse(
                code, error.description, oauth=oauth_error(error.error), description=error.description
            )
        case _:
            return refuse(Code.INTERNAL, f"{type(error).__name__} in the broker")


def oauth_error(text: str) -> OAuthError:
    """Return an OAuth error of ours; one that we do not know is a bad request."""
    return cast("OAuthError", text) if text in get_args(OAuthError) else "invalid_request"


def _oauth(deny: Deny) -> OAuthError:
    if deny.form is Form.UNAVAILABLE:
        return "temporarily_unavailable"
    if deny.code == Code.SCOPE_MISSING:
        return "invalid_scope"
    return "invalid_target" if find_code(deny.code) in _TARGETS else "invalid_request"


def _sentence(code: str) -> str:
    return (find_code(code) or Code.DENIED).sentence
