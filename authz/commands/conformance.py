"""`deputy conformance`: does an authorization server keep the rules of delegation?"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer
from typer.models import OptionInfo

from authz.commands.group import examples, group
from authz.conformance.situation import Profile

app = group("Examine an authorization server from outside, as any client could.")


class ReportForm(StrEnum):
    """A form of the report."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"


class SecretMethod(StrEnum):
    """Where a client secret is sent."""

    BASIC = "basic"
    POST = "post"


def _text(help_text: str, metavar: str, *names: str) -> OptionInfo:
    return cast("OptionInfo", typer.Option(*names, help=help_text, metavar=metavar))


def _file(help_text: str) -> OptionInfo:
    return cast("OptionInfo", typer.Option(help=help_text, metavar="FILE"))


_TYPE = "access_token, id_token, jwt, saml2 …, or a whole URN."
TokenEndpoint = Annotated[str | None, _text("The token endpoint. http:// on this machine only.", "URL")]
Issuer = Annotated[str | None, _text("The issuer; its metadata is looked up below it (RFC 8414).", "URL")]
Metadata = Annotated[str | None, _text("The metadata, where it is somewhere else.", "URL")]
Ca = Annotated[Path | None, _file("Roots for the server's certificate; else those of the system.")]
ClientId = Annotated[str | None, _text("The client's id.", "ID")]
SecretFile = Annotated[Path | None, _file("The client's secret.")]
Method = Annotated[SecretMethod, _text("Send the secret in the header, or in the form.", "basic|post")]
Cert = Annotated[Path | None, _file("The client's certificate with its chain, PEM (mTLS).")]
Key = Annotated[Path | None, _file("The key of that certificate, PEM.")]
AssertionFile = Annotated[
    Path | None, _file("A client assertion that counts more than once, a JWT-SVID say.")
]
AssertionType = Annotated[
    str | None, _text("jwt-spiffe, jwt-bearer or a whole URN; else what its sub says.", "TYPE")
]
SubjectFile = Annotated[Path | None, _file("The subject token of the good request.")]
SubjectType = Annotated[str, _text(f"Its type: {_TYPE}", "TYPE")]
SubjectJwks = Annotated[Path | None, _file("A key set with the public key of the subject token, for JW-01.")]
ActorFile = Annotated[Path | None, _file("The actor token of the good request.")]
ActorType = Annotated[str, _text("Its type.", "TYPE")]
Audience = Annotated[list[str] | None, _text("A target of the good request (audience).", "NAME")]
Resource = Annotated[list[str] | None, _text("A target of the good request (resource, RFC 8707).", "URL")]
Scope = Annotated[str | None, _text("The scopes of the good request.", "SCOPES")]
RequestedType = Annotated[str | None, _text("Its requested_token_type.", "TYPE")]
WiderScope = Annotated[str | None, _text("A scope that exists and the subject does not have.", "SCOPE")]
UnknownAudience = Annotated[str | None, _text("A target that does not exist.", "URL", "--unknown-audience")]
OtherId = Annotated[str | None, _text("A second client, who must not use tokens that it finds.", "ID")]
OtherSecret = Annotated[Path | None, _file("The second client's secret.")]
OtherCert = Annotated[Path | None, _file("The second client's certificate.")]
OtherKey = Annotated[Path | None, _file("The key of that certificate.")]
OtherAssertion = Annotated[Path | None, _file("The second client's assertion.")]
WrongAssertion = Annotated[Path | None, _file("An assertion of the client for another audience.")]
SecondFile = Annotated[Path | None, _file("A subject token that is bound (cnf) to a key of somebody else.")]
SecondType = Annotated[str, _text("Its type.", "TYPE")]
Ungranted = Annotated[Path | None, _file("A subject token of a person who granted this client nothing.")]
Expired = Annotated[Path | None, _file("A subject token that has expired.")]
AssertionKey = Annotated[
    Path | None,
    _file("The key by which the client signs an assertion for each request (private_key_jwt), PEM."),
]
AssertionKid = Annotated[str | None, _text("The kid of those assertions.", "KID")]
AssertionAudience = Annotated[
    str | None, _text("Their audience; else the issuer, else the token endpoint.", "URL")
]
DpopKey = Annotated[Path | None, _file("Send a DPoP proof of this key, PEM, with each request.")]
SubjectKey = Annotated[
    Path | None,
    _file("The private key of the subject token, PEM: on a test system, what is wrong is signed with it."),
]
Details = Annotated[Path | None, _file("authorization_details that are granted, a JSON list (RFC 9396).")]
IdJagAudience = Annotated[str | None, _text("A server for which an ID-JAG is made for this client.", "URL")]
TxnAudience = Annotated[str | None, _text("The audience of transaction tokens: a trust domain.", "NAME")]
RequestDetails = Annotated[Path | None, _file("Their request_details, JSON.")]
NextDetails = Annotated[Path | None, _file("The request_details of the service that replaces one.")]
ServiceId = Annotated[str | None, _text("A service that may replace a transaction token.", "ID")]
ServiceSecret = Annotated[Path | None, _file("The service's secret.")]
ServiceCert = Annotated[Path | None, _file("The service's certificate, and its key in the same file.")]
ProtectedResource = Annotated[
    str | None,
    _text("A resource of this server, for DM-02 and proofs of possession; it is sent GETs.", "URL"),
]
LoginHint = Annotated[str | None, _text("A person who is asked for an approval (CIBA), once.", "NAME")]
ProfileOption = Annotated[
    Profile,
    typer.Option(
        help="Whose rules are errors: of the RFCs, of the drafts for agents too, or all. What only others "
        "require is a warning."
    ),
]
Only = Annotated[list[str] | None, _text("Run these alone: TX, TX-06, TX-06/garbage; repeat it.", "RULE")]
Skip = Annotated[list[str] | None, _text("Leave these out; repeat it.", "RULE")]
ListOption = Annotated[bool, typer.Option("--list", help="Print the checklist; send nothing.")]
FormOption = Annotated[
    ReportForm, typer.Option("--output", "-o", help="table for people; json and junit for machines.")
]


_HELP = """Run the checklist of delegation (RFC 8693 and what agents need) against a token endpoint.

Give it a token request that is granted. It sends that one, looks at the answer, and sends hundreds that
differ from it in one thing and must be refused. It needs no key of the server. A case whose input you do
not give is skipped, and says what it needs. Secrets come from files and are never printed.

The report says something of each of the 52 rules: of those that nobody can see from outside, why.

Exit code 0: every rule of the profile was kept. 3: there are findings. 1: it could not run.
"""


@app.command(
    "delegation",
    help=_HELP,
    epilog=examples(
        "deputy conformance delegation --list",
        "a client with a secret exchanges a person's ID token:",
        "deputy conformance delegation --token-endpoint https://as.example/token --issuer https://as.example "
        "--client-id agent --client-secret-file secret --subject-token-file alice.jwt "
        "--subject-token-type id_token --audience https://tickets.example --scope tickets:read",
        "a client that signs its logins, proofs of possession, and tools that a token is limited to:",
        "deputy conformance delegation --token-endpoint https://as.example/token --issuer https://as.example "
        "--client-id agent --client-assertion-key-file agent.key --dpop-key-file proof.key "
        "--authorization-details-file details.json --subject-token-file alice.jwt "
        "--audience https://tickets.example --scope tickets:read --only CA --only NR-04",
        "an agent with a certificate, a second agent, an actor, and all that the checklist can use:",
        "deputy conformance delegation --token-endpoint https://broker.example/token "
        "--issuer https://broker.example --ca roots.pem --client-cert agent.pem --client-key agent.key "
        "--other-client-cert other.pem --other-client-key other.key --subject-token-file token.jwt "
        "--actor-token-file actor.jwt --audience https://tickets.example --scope tickets:read "
        "--wider-scope tickets:admin --profile deputy -o junit",
    ),
)
def delegation(
    *,
    token_endpoint: TokenEndpoint = None,
    issuer: Issuer = None,
    metadata: Metadata = None,
    ca: Ca = None,
    client_id: ClientId = None,
    client_secret_file: SecretFile = None,
    client_secret_method: Method = SecretMethod.BASIC,
    client_cert: Cert = None,
    client_key: Key = None,
    client_assertion_file: AssertionFile = None,
    client_assertion_type: AssertionType = None,
    subject_token_file: SubjectFile = None,
    subject_token_type: SubjectType = "access_token",  # noqa: S107 - the name of a type
    subject_jwks: SubjectJwks = None,
    actor_token_file: ActorFile = None,
    actor_token_type: ActorType = "jwt",  # noqa: S107 - the name of a type
    audience: Audience = None,
    resource: Resource = None,
    scope: Scope = None,
    requested_token_type: RequestedType = None,
    wider_scope: WiderScope = None,
    unknown_audience: UnknownAudience = None,
    other_client_id: OtherId = None,
    other_client_secret_file: OtherSecret = None,
    other_client_cert: OtherCert = None,
    other_client_key: OtherKey = None,
    other_client_assertion_file: OtherAssertion = None,
    wrong_audience_assertion_file: WrongAssertion = None,
    subject_token_2_file: SecondFile = None,
    subject_token_2_type: SecondType = "access_token",  # noqa: S107 - the name of a type
    ungranted_subject_token_file: Ungranted = None,
    expired_subject_token_file: Expired = None,
    client_assertion_key_file: AssertionKey = None,
    client_assertion_kid: AssertionKid = None,
    client_assertion_audience: AssertionAudience = None,
    dpop_key_file: DpopKey = None,
    subject_key_file: SubjectKey = None,
    authorization_details_file: Details = None,
    id_jag_audience: IdJagAudience = None,
    txn_audience: TxnAudience = None,
    request_details_file: RequestDetails = None,
    next_request_details_file: NextDetails = None,
    service_client_id: ServiceId = None,
    service_client_secret_file: ServiceSecret = None,
    service_client_cert: ServiceCert = None,
    protected_resource: ProtectedResource = None,
    login_hint: LoginHint = None,
    profile: ProfileOption = Profile.RFC8693,
    only: Only = None,
    skip: Skip = None,
    list_: ListOption = False,
    output: FormOption = ReportForm.TABLE,
) -> None:
    """Run the checklist of delegation; the options are named as the fields of `Given`."""
    given = dict(locals())
    from authz.commands.conformance_run import examine  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(examine(given))
