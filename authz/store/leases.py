"""Leases as files: each replica says in one of its own what it obeys.

- `<data_dir of the authority>/replicas/<ULID>.json`, mode 0600 in a directory of 0700, replaced in one step.
  Nothing is synced: after a power cut no replica is alive either.
- A file that is not one of ours (too long, a link, a pipe, other members, open to others) is named, and
  counts for nobody. No more than so many are read.
- A lease that ended a while ago is swept away when a replica joins.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from authz.errors import StoreError
from authz.store.port import LEASE_SECONDS, MAX_REPLICAS, Lease, Listed
from authz.store.private import open_private, private_directory
from identity.followed_file import Boottime, boottime
from identity.strict_json import Limits, StrictJsonError, loads

DIRECTORY: Final = "replicas"
MAX_FILES: Final = 4 * MAX_REPLICAS
MAX_BYTES: Final = 1024

_NAME: Final = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{25})\.json(\.tmp)?")
_MEMBERS: Final = frozenset({"id", "term", "epoch", "boottime", "address", "version"})
_LIMITS: Final = Limits(depth=2)
_SWEEP_SECONDS: Final = 12 * LEASE_SECONDS
_MAX_NAMED: Final = 16


class LeaseFiles:
    """The leases in one directory."""

    def __init__(self, data_dir: Path, clock: Boottime = boottime) -> None:
        """Take the authority's data directory."""
        self._directory = data_dir / DIRECTORY
        self._clock = clock

    def join(self) -> None:
        """Make room for one more replica.

        Raises:
            StoreError: if there are as many as there may be, or the directory is not ours alone.
        """
        private_directory(self._directory)
        now = self._clock()
        for lease in (found := self.listed()).leases:
            if not -_SWEEP_SECONDS < now - lease.boottime < _SWEEP_SECONDS:
                self.end(lease.replica)
        if found.unread or sum(lease.is_live(now) for lease in found.leases) >= MAX_REPLICAS:
            raise StoreError(
                f"{MAX_REPLICAS} replicas are running already: look into {str(self._directory)!r}"
            )

    def acknowledge(self, lease: Lease) -> None:
        """Say what this replica obeys.

        Raises:
            StoreError: if that cannot be written.
        """
        path = self._path(lease.replica)
        draft = path.with_name(f"{path.name}.tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
            with os.fdopen(open_private(draft, flags), "wb") as file:
                file.write(_encode(lease))
            draft.replace(path)
        except OSError as error:
            raise StoreError(f"the lease {str(path)!r} cannot be written: {error.strerror}") from error

    def end(self, replica: str) -> None:
        """Take a lease away; one that is not there stays so."""
        path = self._path(replica)
        for one in (path, path.with_name(f"{path.name}.tmp")):
            with suppress(OSError):
                one.unlink()

    def listed(self) -> Listed:
        """Return every lease.

        Raises:
            StoreError: if the directory cannot be read.
        """
        try:
            names = sorted(os.listdir(self._directory))  # noqa: PTH208 - names, not paths
        except FileNotFoundError:
            return Listed(())
        except OSError as error:
            raise StoreError(
                f"the leases in {str(self._directory)!r} cannot be read: {error.strerror}"
            ) from error
        ours = [name for name in names if (match := _NAME.fullmatch(name)) and not match[2]]
        malformed = [name for name in names if not _NAME.fullmatch(name)]
        leases = []
        for name in ours[:MAX_FILES]:
            try:
                leases.append(self._read(name))
            except FileNotFoundError:
                continue
            except (StoreError, OSError):
                malformed.append(name)
        return Listed(tuple(leases), tuple(malformed[:_MAX_NAMED]), len(ours) > MAX_FILES)

    def _read(self, name: str) -> Lease:
        with os.fdopen(open_private(self._directory / name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            lease = parse_lease(file.read(MAX_BYTES + 1))
        if name != f"{lease.replica}.json":
            raise StoreError(f"the lease {name!r} is another replica's")
        return lease

    def _path(self, replica: str) -> Path:
        name = f"{replica}.json"
        if not _NAME.fullmatch(name):
            raise StoreError(f"not the name of a replica: {replica!r}")
        return self._directory / name


def parse_lease(data: bytes) -> Lease:
    """Read what a replica wrote.

    Raises:
        StoreError: if it is not a lease.
    """
    try:
        value = loads(data, _LIMITS) if len(data) <= MAX_BYTES else None
    except StrictJsonError as error:
        raise StoreError(f"a lease that is not strict JSON: {error}") from error
    if not isinstance(value, dict) or value.keys() != _MEMBERS or True in map(_is_bool, value.values()):
        raise StoreError("a lease with other members than ours")
    match value:
        case {
            "id": str(replica),
            "term": int(term),
            "epoch": int(epoch),
            "boottime": int() | float() as at,
            "address": str(address),
            "version": str(version),
        }:
            return Lease(replica, term, epoch, float(at), address, version)
    raise StoreError("a lease with other members than ours")


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)  # which Python takes for a number


def _encode(lease: Lease) -> bytes:
    value = {
        "id": lease.replica,
        "term": lease.term,
        "epoch": lease.epoch,
        "boottime": lease.boottime,
        "address": lease.address,
        "version": lease.version,
    }
    return json.dumps(value).encode()
