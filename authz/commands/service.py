"""Run the service: by a configuration, or on the loopback without one."""

import asyncio
from pathlib import Path

from authz.commands.dev_lines import dev_lines
from authz.commands.output import say, tell
from authz.config import Config
from authz.dev import Dev
from authz.serve import serve


def run_service(config: Config) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        AuthzError: if something is missing or cannot be had; nothing listens then.
        IdentityError: if the keys on disk are not what they should be.
    """
    asyncio.run(serve(config, lambda: say(_where(config))))


def run_dev(directory: Path) -> None:
    """Prepare a directory and run on it until SIGTERM or Ctrl-C.

    Raises:
        AuthzError: if something is missing or cannot be had; nothing listens then.
        IdentityError: if the keys on disk are not what they should be.
    """
    dev = Dev.prepare(directory)
    asyncio.run(dev.serve(lambda: tell([_where(dev.config), *dev_lines(dev)])))


def _where(config: Config) -> str:
    if config.replica is not None:
        return f"deputy is ready: ext_authz on {config.check.listen}, a replica of {config.replica.of}"
    return f"deputy is ready: ext_authz on {config.check.listen}, broker on https://{config.broker.listen}"
