"""`replica:` of `deputy.yaml`: answer `Check` by what another deputy on this machine writes."""

from pydantic import Field

from authz.config_forms import FilePath
from authz.config_sections import Section


class ReplicaConfig(Section):
    """A process that answers `Check` and nothing else, by keys and state of another deputy.

    Agents, providers, sockets and endpoints of the configuration are that deputy's business; what both read
    (trust domain, issuer, services, policy, limits) must be the same in both files.
    """

    of: FilePath = Field(
        description="data_dir of the deputy that writes, of the same user; it is only read, but for the "
        "leases of replicas and the memory of what counts once"
    )
