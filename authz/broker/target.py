"""Which service a token is asked for: `audience` and `resource`, compared as URIs (RFC 8707, NR-03).

- A resource is an absolute http or https URI without fragment.
- Two URIs are one target if their normal forms are equal (RFC 3986 section 6.2); what has a query, or is no
  such URI, is equal to itself alone.
"""

from functools import lru_cache

from identity.errors import IdentityError
from identity.http_uri import HttpUri, HttpUriError


class TargetError(IdentityError):
    """Not one target."""


@lru_cache(maxsize=256)  # the audiences of the configuration, at each request
def normal_target(text: str) -> str:
    """Return the form in which targets are compared."""
    if "?" in text or "#" in text:
        return text
    try:
        return str(HttpUri.parse(text))
    except HttpUriError:
        return text


def one_target(audience: str | None, resource: str | None) -> str | None:
    """Return what a request is about, None if it does not say.

    Raises:
        TargetError: if it names two, or its resource is not an absolute URI without fragment.
    """
    if resource is None:
        return audience
    try:
        HttpUri.parse(resource)
    except HttpUriError as error:
        raise TargetError("resource is not an absolute URI") from error
    if "#" in resource:
        raise TargetError("resource has a fragment")
    if audience is not None and normal_target(audience) != normal_target(resource):
        raise TargetError("audience and resource name two services")
    return audience or resource
