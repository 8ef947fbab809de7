"""What the broker says about itself as a transmitter of security events (SSF 1.0 section 7.1): what exists.

- Streams are configured by operators of both sides, so there is no endpoint to manage one.
- A receiver must not take the end of one session for the end of all: both members of our complex subjects are
  critical (section 3.6).
"""

from typing import Final

from authz.broker.deps import Settings

WELL_KNOWN_EVENTS: Final = "/.well-known/ssf-configuration"


def event_metadata(settings: Settings) -> dict[str, object]:
    """Return the transmitter configuration metadata."""
    return {
        "spec_version": "1_0",
        "issuer": settings.issuer,
        "jwks_uri": f"{settings.issuer.rstrip('/')}/jwks",
        "delivery_methods_supported": ["urn:ietf:rfc:8935"],
        "critical_subject_members": ["user", "session"],
        "default_subjects": "ALL",
    }
