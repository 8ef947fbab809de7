"""What cannot be seen of our own broker, and from which side: a skip that nobody expects hides a finding."""

# The broker takes no secrets and no `private_key_jwt`, and asks nobody for an approval yet.
NOT_OURS = {
    "CA-04/challenge",
    "CA-01/audience-signed",
    "CA-01/issuer-alone",
    *(f"CA-03/{name}" for name in ("names", "key", "times", "long", "name", "replayed")),
    "CA-06/anonymous",
    "CA-06/pending",
}
# A person's ID token is of another issuer, is bound to nobody, and holds neither scopes nor actors.
FIRST_HOP = {
    "TX-08/subject-act",
    "TX-11/never-unbound",
    "CL-06/txn-kept",
    "ID-01/sub-kept",
    "ID-04/not-truncated",
    "ID-05/unchanged",
    "NR-02/scope-omitted",
    "ID-06/inner-presenter",
    "ID-07/unclassified",
    "ID-07/client-profile",
}
# The token is for the actor, about whom the client need not be told.
OF_THE_ACTOR = {
    *("TX-07/impersonation", "CL-08/bound", "CA-07/introspect", "CA-07/revoke"),
    *("CA-05/bound", "CA-05/resource", "ID-07/not-inferred"),
}
BY_ASSERTION = {"CA-01/forged", "CA-01/untyped", "CA-01/wrong-audience"}
BY_CERTIFICATE = {"CA-02/issued-by-leaf", "CA-02/client-id"}
# A JWT-SVID counts once with a proof.
ONCE = {"CA-05/replayed", "CA-05/resource", "JW-09/at-once"}
TRANSACTIONS = {
    *(f"CL-02/{name}" for name in ("answer", "claims", "incomplete")),
    "CL-07/transaction",
    *(f"CL-03/{name}" for name in ("no-inbound-token", "no-credential")),
    *(f"CL-04/{name}" for name in ("kept", "regained")),
}
