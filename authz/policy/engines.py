"""Which engine: chosen by the configuration, made anew for other grants.

- A directory of Rego of one's own replaces the shipped policy whole.
- The embedded engine takes only what may run there (admission); a real OPA takes all Rego.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authz.config import OpaConfig, PolicyConfig
from authz.policy.admission import admit
from authz.policy.embedded import EmbeddedPolicy, require_regorus
from authz.policy.grants import Grants
from authz.policy.live import Engine, Load
from authz.policy.lock import PolicyLock
from authz.policy.modules import Modules, read_lock, read_modules, shipped_lock, shipped_modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy


def configured_modules(config: PolicyConfig) -> Modules:
    """Return the Rego that the configuration names.

    Raises:
        PolicyLoadError: if it cannot be read.
    """
    return shipped_modules() if config.rego is None else read_modules(config.rego)


def configured_lock(config: PolicyConfig) -> PolicyLock | None:
    """Return the policy lock beside the Rego that the configuration names, None if there is none.

    Raises:
        PolicyLoadError: if it cannot be read.
    """
    data = shipped_lock() if config.rego is None else read_lock(config.rego)
    return None if data is None else PolicyLock.parse(data)


@asynccontextmanager
async def engine_loader(config: PolicyConfig) -> AsyncIterator[Load]:
    """Return what makes an engine of grants, and let its connections go at the end.

    Raises:
        PolicyLoadError: if the Rego cannot be read, or may not run on the engine that is chosen.
    """
    modules = configured_modules(config)
    if config.opa is None:
        require_regorus()
        lock = configured_lock(config)

        def embedded(grants: Grants) -> Engine:
            return EmbeddedPolicy(modules, grants, admit(modules, grants, lock))

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
