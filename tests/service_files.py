"""The files of a service as it leaves them on disk: configuration, grants, keys and state; real tokens."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import json_format

from authz.config import Config, load_config
from authz.pb import ext_authz_pb2 as pb
from authz.store.private import private_directory
from authz.store.sqlite import Store
from identity.authority import Authority
from identity.key_directory import KeyDirectory
from identity.key_files import FileKeyStore
from identity.key_ring import Stage
from identity.live_authority import AuthoritySettings, LiveAuthority, read_published
from identity.spiffe import TrustDomain
from tests.fakes import DOMAIN, NOW, Run, World

ROOT = Path(__file__).resolve().parent.parent
GRANTS = ROOT / "authz" / "demo" / "grants.yaml"
AT = "2026-11-21T08:00:00Z"  # tests.fakes.NOW

CONFIG = """\
trust_domain: mesh.example
data_dir: data
check:
  callers: [{id: "spiffe://mesh.example/ns/mesh/sa/gateway", may_ask: [tickets, billing]}]
broker: {issuer: "https://broker.mesh.example"}
services:
  tickets: {audience: "https://tickets.mesh.example"}
  billing: {audience: "https://billing.mesh.example"}
agents:
"""

AGENT = """\
  - {{name: {name}, owner: owner, sponsor: sponsor, purpose: purpose, ceiling: contributor,
     autonomous: {autonomous}, hosts: ["spiffe://mesh.example/ns/agents/sa/runner"]}}
"""


def authority_on_disk(directory: Path, trust_domain: TrustDomain) -> Authority:
    """Read an authority with its private keys, beside the process that has claimed it."""
    document, opened = read_published(directory, trust_domain), KeyDirectory.open(directory)
    kids = [slot.kid for ring in document.rings.values() for slot in ring if slot.stage is not Stage.RETIRED]
    keys = {kid: FileKeyStore(opened).load(kid) for kid in kids}
    opened.close()
    return Authority(trust_domain, document.rings, keys, document.sequence)


def config_text(extra: str = "") -> str:
    """Return a valid configuration; `extra` is appended at the top level."""
    agents = "".join(
        AGENT.format(name=name, autonomous=str(name == "nightly-report").lower())
        for name in ("triage", "resolver", "nightly-report")
    )
    return CONFIG + agents + extra


@dataclass
class ServiceFiles:
    """A directory as `deputy serve` would leave it."""

    directory: Path
    extra: str = ""
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        private_directory(self.directory)
        self.path.write_text(config_text(self.extra))
        shutil.copy(GRANTS, self.directory / "grants.yaml")

    @property
    def path(self) -> Path:
        return self.directory / "deputy.yaml"

    def config(self) -> Config:
        return load_config(self.path)

    def run_once(self) -> None:
        """Leave keys and state behind: the agents and tasks of the world."""
        data = self.directory / "data"
        private_directory(data)
        live = LiveAuthority.open(data / "keys", DOMAIN, AuthoritySettings(), NOW)
        live.close()
        self.world.authority = live.current

    def write_state(self) -> None:
        """Write the world's agents and tasks to disk."""
        store = Store.open(self.directory / "data" / "state.db")
        store.register_agents(self.world.rights.agents.values(), NOW)
        for task in self.world.rights.tasks.values():
            store.start_task(task)
        store.close()

    def capture(self, data: bytes, name: str = "capture.json") -> Path:
        """Write a CheckRequest as protobuf JSON."""
        path = self.directory / name
        path.write_text(json_format.MessageToJson(pb.CheckRequest.FromString(data)))
        return path

    def allowed_call(self) -> tuple[Run, Path]:
        """Return a task of triage for lead, and the capture of a call that the policy allows."""
        self.run_once()
        run = self.world.run("triage")
        path = self.capture(self.world.request(self.world.token(run), run))
        self.write_state()
        return run, path
