"""All rules of the checklist by their IDs, and those of which nothing can be seen from outside.

- A report says something of every rule here: what was found, that it did not run, or why it cannot be seen.
- `PARTLY` says of a rule with cases what of it stays unseen; a pass is no proof of that part.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "TX-01": "the HTTP request and its answer",
        "TX-02": "the grant type",
        "TX-03": "required and repeated parameters",
        "TX-04": "types of tokens",
        "TX-05": "the members of the answer",
        "TX-06": "the names of errors",
        "TX-07": "no impersonation",
        "TX-08": "act is not lost",
        "TX-09": "who may exchange a token",
        "TX-10": "a basis for acting for this person",
        "TX-11": "bound tokens stay bound",
        "TX-12": "no parameter changes a claim",
        "CL-01": "the claims of an access token",
        "CL-02": "the claims of a transaction token",
        "CL-03": "a transaction token is no credential",
        "CL-04": "replacing a transaction token",
        "CL-05": "assertions for another domain (ID-JAG)",
        "CL-06": "jti and txn",
        "CL-07": "lifetimes",
        "CL-08": "the binding of a token (cnf)",
        "ID-01": "the human is sub, the presenter is act",
        "ID-02": "the class and the instance of an agent",
        "ID-03": "iss and sub name an actor",
        "ID-04": "the depth of a chain",
        "ID-05": "inherited actors are unchanged",
        "ID-06": "inner actors decide nothing",
        "ID-07": "profiles of subjects and actors",
        "ID-08": "agents that act for nobody",
        "ID-09": "client_id beside act",
        "NR-01": "scopes only narrow",
        "NR-02": "a scope that is unknown or omitted",
        "NR-03": "one exact target",
        "NR-04": "authorization details only narrow",
        "NR-05": "authority only narrows along a chain",
        "CA-01": "logins with a JWT-SVID",
        "CA-02": "logins with an X.509-SVID",
        "CA-03": "logins with an assertion (private_key_jwt)",
        "CA-04": "one login, and never none",
        "CA-05": "proofs of possession (DPoP)",
        "CA-06": "approval by a person",
        "CA-07": "introspection and revocation",
        "JW-01": "algorithms and keys",
        "JW-02": "headers that name a key",
        "JW-03": "crit, b64, zip and JWE",
        "JW-04": "the type of a token",
        "JW-05": "one reading of a token",
        "JW-06": "clock skew",
        "JW-07": "fetching the keys of others",
        "JW-08": "rotation of the server's own keys",
        "JW-09": "replay",
        "DM-01": "metadata of the server",
        "DM-02": "metadata of a protected resource",
    }
)

NOT_OBSERVABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "JW-07": "how the server fetches and keeps the keys of others passes between it and their issuers, "
        "and a client is at neither end",
        "JW-08": "when a key is published, first signs and is taken away is seen in a rotation only, which "
        "takes longer than a run and is not a client's to start",
    }
)

PARTLY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CL-03": "what services do with a transaction token, and write to their logs, is not seen",
        "CL-04": "that an expired token is not replaced, and how often one may be, takes longer than a run",
        "CL-05": "how the server treats assertions of others is not tried: that takes one for this server",
        "CL-06": "what the server writes to its logs is not seen",
        "CA-02": "certificates with two names, or of a CA for another trust domain, take the key of a CA",
        "CA-06": "what a person is shown, and that nobody approves for themselves, is not seen",
        "ID-06": "chain_complete false counts where others introspect, and a client cannot cause it",
        "JW-06": "seconds around the skew, and clocks of caches, take the server's clock",
        "JW-09": "that it refuses while its memory is down is seen by who takes that down",
        "NR-05": "two hops are looked at, not every chain",
    }
)
