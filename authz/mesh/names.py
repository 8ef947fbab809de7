"""The name of a service in an Envoy configuration, and how it is spoken with.

- A name is a DNS label, which needs no quoting anywhere.
"""

import re
from typing import Literal

from authz.errors import ConfigError

# `grpc`: decided by its path, before a message is there; only for what Deputy reads as `protocol: grpc`.
# `grpc_whole`: gRPC of which Deputy sees all that the client sends first, as A2A needs it.
Transport = Literal["http", "grpc", "grpc_whole"]

_SERVICE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_service_name(name: str) -> None:
    """Refuse what is no DNS label.

    Raises:
        ConfigError: if it is not.
    """
    if not _SERVICE.fullmatch(name):
        raise ConfigError(f"not a service name: {name!r}")
