"""The headers of A2A that change how a message is read (specification 1.0 section 3.2.6).

- `A2A-Version` stands once or not at all; not at all means 0.3, as the specification says. A version that we
  do not know is refused, and so is one in the query: agents differ in whether they look there.
- `A2A-Tenant`, which no specification has but some agents read, is refused: a tenant is named in the call.
- `A2A-Extensions` stands once and holds URIs; its older name says the same, or it is refused.
"""

import re
from enum import Enum

from authz.codes import Code
from authz.errors import InspectionError
from authz.headers import Headers

VERSION_HEADER = "a2a-version"
EXTENSIONS_HEADER = "a2a-extensions"
OLD_EXTENSIONS_HEADER = "x-a2a-extensions"
TENANT_HEADER = "a2a-tenant"
MAX_EXTENSIONS = 32

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:[!#-+\--~]{1,512}")


class Version(Enum):
    """Which names and shapes a message has."""

    OLD = "0.3"
    NEW = "1.0"


_VERSIONS = {None: Version.OLD, "": Version.OLD, "0.2": Version.OLD, "0.3": Version.OLD, "1.0": Version.NEW}


def read_version(headers: Headers) -> Version:
    """Return the version that the client speaks.

    Raises:
        InspectionError: with A2A_VERSION if it is not known.
        RequestError: if the header stands twice or is not text.
    """
    version = _VERSIONS.get(headers.one(VERSION_HEADER))
    if version is None:
        raise InspectionError(Code.A2A_VERSION, f"an unknown version in {VERSION_HEADER}")
    return version


def check_extensions(headers: Headers) -> None:
    """Check what else the headers ask for.

    Raises:
        InspectionError: with A2A_EXTENSIONS, or with A2A_PARAMS where they name a tenant.
        RequestError: if a header stands twice or is not text.
    """
    if TENANT_HEADER in headers.last:
        raise InspectionError(Code.A2A_PARAMS, f"a tenant in {TENANT_HEADER}")
    new, old = headers.one(EXTENSIONS_HEADER), headers.one(OLD_EXTENSIONS_HEADER)
    if new is not None and old is not None and new != old:
        raise InspectionError(Code.A2A_EXTENSIONS, f"{OLD_EXTENSIONS_HEADER} and {EXTENSIONS_HEADER} differ")
    value = old if new is None else new
    if value is None:
        return
    uris = [uri.strip(" ") for uri in value.split(",")]
    if len(uris) > MAX_EXTENSIONS or not all(map(_URI.fullmatch, uris)):
        raise InspectionError(
            Code.A2A_EXTENSIONS, f"{EXTENSIONS_HEADER} that is no list of at most {MAX_EXTENSIONS} URIs"
        )
