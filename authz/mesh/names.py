"""The name of a service in an Envoy configuration: a DNS label, which needs no quoting anywhere."""

import re

from authz.errors import ConfigError

_SERVICE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_service_name(name: str) -> None:
    """Refuse what is no DNS label.

    Raises:
        ConfigError: if it is not.
    """
    if not _SERVICE.fullmatch(name):
        raise ConfigError(f"not a service name: {name!r}")
