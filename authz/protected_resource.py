"""Where a client reads how to get a token for a service: the protected resource metadata of RFC 9728.

- A challenge names the address (section 5.1). It is one of the broker's, for the broker exists already: no
  gateway has to lead there first.
- The service is named in the query by its audience, exactly: services on one host are never confused.
"""

from typing import Final
from urllib.parse import urlencode, urlsplit

WELL_KNOWN_RESOURCE: Final = "/.well-known/oauth-protected-resource"
PARAMETER: Final = "resource"


def metadata_uri(issuer: str, audience: str) -> str:
    """Return the address of a service's document; nothing in it ends a quoted string."""
    broker = urlsplit(issuer)
    query = urlencode({PARAMETER: audience})
    return f"{broker.scheme}://{broker.netloc}{WELL_KNOWN_RESOURCE}?{query}"
