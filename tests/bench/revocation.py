"""The kill switch across processes: from the command until the last replica denies.

- An authority, replicas that are `deputy serve` processes, and a client that keeps all of them busy: on two
  cores they wait for each other, as on a machine that is too small.
- The clock starts before the command writes; it stops with the first denial that a caller got from the last
  replica. What the barrier took, which `--wait` waits for, stands beside it.
"""

import asyncio
import time
from dataclasses import dataclass

from authz.store.barrier import BarrierResult, barrier
from authz.store.leases import LeaseFiles
from identity.withdrawal import Withdrawal
from tests.bench.measure import percentile
from tests.bench.messages import Peer, write_requests
from tests.bench.place import Presenter
from tests.bench.settings import Settings
from tests.replica_processes import Mesh, open_mesh

# Calls that each replica is asked at once, beside the probe.
IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """One withdrawal; seconds since the command."""

    written: float
    first: float
    last: float
    barrier: float


@dataclass(frozen=True, slots=True)
class Revocation:
    """All withdrawals of a run, and the load that there was."""

    replicas: int
    withdrawals: tuple[Withdrawn, ...]
    rate: float
    p50: float
    p99: float

    def percentile(self, name: str, percent: int) -> float:
        return percentile([float(getattr(each, name)) for each in self.withdrawals], percent)


async def measure_revocation(settings: Settings) -> Revocation:
    """Withdraw one run after the other."""
    async with open_mesh(settings.replicas) as mesh:
        write_requests(mesh.place.directory / "load.bin", mesh.place.calls(mesh.place.presenter()))
        with Peer.start("tests.bench.revocation_client") as client:
            client.ask(
                do="load",
                targets=[replica.target for replica in mesh.replicas],
                requests=str(mesh.place.directory / "load.bin"),
                in_flight=IN_FLIGHT,
            )
            found = [await _withdraw(mesh, client) for _ in range(settings.withdrawals)]
            load = client.ask(do="stop")
    if load["denied"]:
        raise RuntimeError(f"{load['denied']} of {load['calls']} calls of others were denied")
    rate = load["calls"] / load["seconds"]
    return Revocation(settings.replicas, tuple(found), rate, load["p50"], load["p99"])


async def _withdraw(mesh: Mesh, client: Peer) -> Withdrawn:
    presenter, path = mesh.place.presenter(), mesh.place.directory / "probe.bin"
    write_requests(path, mesh.place.calls(presenter, 1))
    await asyncio.to_thread(client.ask, do="probe", requests=str(path))
    began = time.monotonic()
    epoch = await asyncio.to_thread(_command, mesh, presenter)
    written = time.monotonic() - began
    result = await _wait(mesh, epoch)
    waited = time.monotonic() - began
    times = (await asyncio.to_thread(client.ask, do="denied"))["at"]
    if not result.is_obeyed or len(times) != len(mesh.replicas):
        raise RuntimeError(f"a replica does not obey: {result}")
    return Withdrawn(written, min(times) - began, max(times) - began, waited)


def _command(mesh: Mesh, presenter: Presenter) -> int:
    now = mesh.place.parts.clock()
    task = presenter.delegation.chain[0].task
    return mesh.place.parts.state.withdraw(Withdrawal("task", task, None, "a drill", "the bench", now), now)


async def _wait(mesh: Mesh, epoch: int) -> BarrierResult:
    return await barrier(LeaseFiles(mesh.data), term=mesh.place.parts.state.term, epoch=epoch)
