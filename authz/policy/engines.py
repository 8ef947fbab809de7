"""Which engine: chosen by the configuration, with what both of them check first.

- A directory of Rego of one's own replaces the shipped policy whole.
- The embedded engine takes only what may run there (admission); a real OPA takes all Rego.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authz.config import OpaConfig, PolicyConfig
from authz.policy.embedded import EmbeddedPolicy, require_regorus
from authz.policy.grants import Grants
from authz.policy.live import Engine, Load
from authz.policy.modules import Modules, read_modules, shipped_modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy


def configured_modules(config: PolicyConfig) -> Modules:
    """Return the Rego that the configuration names.

    Raises:
        PolicyLoadError: if it cannot be read.
    """
    return shipped_modules() if config.rego is None else read_modules(config.rego)


@asynccontextmanager
async def engine_loader(config: PolicyConfig) -> AsyncIterator[Load]:
    """Return what makes an engine of grants, and let its connections go at the end.

    Raises:
        PolicyLoadError: if the Rego cannot be read, or may not run on the engine that is chosen.
    """
    modules = configured_modules(config)
    if config.opa is None:
        require_regorus()

        def embedded(grants: Grants) -> Engine:
            return EmbeddedPolicy(modules, grants)

        yield embedded
        return
    client = OpaClient(_address(config.opa))

    def on_opa(grants: Grants) -> Engine:
        return OpaPolicy(client, modules.digest, grants)

    try:
        yield on_opa
    finally:
        await client.close()


def _address(config: OpaConfig) -> OpaAddress:
    return OpaAddress(config.url, config.timeout_ms / 1000, config.ca, config.certificate, config.key)
