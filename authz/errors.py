"""All errors of this package.

AuthzError
├── CodedError               carries a reason code; becomes a refusal
│   ├── RequestError         the CheckRequest
│   ├── InspectionError      what the request asks for
│   ├── AuthenticationError  who is calling
│   ├── ApprovalError        what a person would have to approve
│   ├── PolicyUnavailableError
│   ├── PolicyRevisionError
│   ├── PolicyShapeError
│   └── AuditError
├── ConfigError              deputy.yaml
├── GrantsError              grants.yaml
├── PolicyLoadError          Rego that cannot be loaded here
└── StoreError               the data directory
    └── ChangedError         a change that was decided on what is not so any more

- `detail` is for the audit record; the one who is refused sees the code's sentence only.
- A message never holds a token, a header's value or a body.
"""

from authz.codes import Code


class AuthzError(Exception):
    """Base of every error of this package."""


class CodedError(AuthzError):
    """A refusal with its reason code."""

    def __init__(self, code: Code, detail: str = "") -> None:
        """Keep the code beside the text."""
        super().__init__(detail or code.sentence)
        self.code = code
        self.detail = detail


class RequestError(CodedError):
    """A CheckRequest that cannot be read."""


class InspectionError(CodedError):
    """A request whose meaning is ambiguous or unknown."""

    def __init__(self, code: Code, detail: str = "", rpc_id: str | int | None = None) -> None:
        """Keep the JSON-RPC id, where it could be read safely, for the answer."""
        super().__init__(code, detail)
        self.rpc_id = rpc_id


class AuthenticationError(CodedError):
    """A caller whom we do not know."""


class ApprovalError(CodedError):
    """A call that no person can be asked about now, or has denied."""


class PinError(CodedError):
    """A tool that is not the one that was accepted, or of which that cannot be known."""


class AnswerError(CodedError):
    """An answer that is not passed on."""

    def __init__(self, code: Code, detail: str = "", rpc_id: str | int | None = None) -> None:
        """Keep the JSON-RPC id, where it could be read, for what is sent in its place."""
        super().__init__(code, detail)
        self.rpc_id = rpc_id


class PolicyUnavailableError(CodedError):
    """The policy engine cannot be asked."""

    def __init__(self, detail: str = "") -> None:
        """Set the code."""
        super().__init__(Code.POLICY_UNAVAILABLE, detail)


class PolicyRevisionError(CodedError):
    """The policy engine runs another revision than the one we expect."""

    def __init__(self, detail: str = "") -> None:
        """Set the code."""
        super().__init__(Code.POLICY_REVISION, detail)


class PolicyShapeError(CodedError):
    """The policy's answer is not one."""

    def __init__(self, detail: str = "") -> None:
        """Set the code."""
        super().__init__(Code.POLICY_SHAPE, detail)


class AuditError(CodedError):
    """A record could not be written."""

    def __init__(self, detail: str = "") -> None:
        """Set the code."""
        super().__init__(Code.AUDIT_UNAVAILABLE, detail)


class ConfigError(AuthzError):
    """A configuration that we do not accept."""


class GrantsError(AuthzError):
    """A grants file that we do not accept."""


class PolicyLoadError(AuthzError):
    """Rego that cannot be loaded here."""


class StoreError(AuthzError):
    """A data directory that we do not accept."""


class ChangedError(StoreError):
    """A change that was decided on something that is not so any more."""
