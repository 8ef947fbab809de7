"""The keys of an authority that another process of the same user keeps: read, followed, and never written.

- There is nothing here to rotate, taint or revoke with: whoever follows can only obey.
- It signs with the active key of the authority's tokens and issues with its active root; no other private key
  is read. Keys in a PKCS#11 token cannot be followed: they are no files.
- A key that was destroyed between the reading of the state and its own is no error: the state is read again.
- Keys only go forward: a state in which a key that was revoked is back, signs again or is no longer tainted,
  or whose sequence number went back, is an older one. A backup was restored, and is not obeyed.
- They count for some seconds after the last reading; then there is no authority until they could be read
  again.
"""

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Final, Self

from identity.authority import Authority
from identity.bundle import Bundle
from identity.errors import IssuanceUnavailableError, KeyMaterialError
from identity.feed import Feed
from identity.followed_file import Boottime, FollowedFile, boottime
from identity.key_directory import KeyDirectory
from identity.key_document import KeyDocument
from identity.key_files import FileKeyStore
from identity.key_ring import KeySlot, Role, Stage
from identity.keys import SigningKey
from identity.live_authority import STATE_FILE, parse_state
from identity.spiffe import TrustDomain

MAX_AGE_SECONDS: Final = 5.0

_ROLES: Final[frozenset[Role]] = frozenset({"x509", "tokens"})
_ORDER: Final = (Stage.PREPARED, Stage.ACTIVE, Stage.RETIRED)
# Each attempt is one more rotation that went on between two readings.
_ATTEMPTS: Final = 4
_MAX_GONE: Final = 4096


class FollowedKeys:
    """The authority as its own process last wrote it."""

    def __init__(
        self,
        path: Path,
        trust_domain: TrustDomain,
        *,
        max_age: float = MAX_AGE_SECONDS,
        clock: Boottime = boottime,
    ) -> None:
        """Follow a directory; nothing is read yet."""
        self.feed = Feed()
        self._trust_domain = trust_domain
        self._max_age = max_age
        self._lock = Lock()
        self._document: KeyDocument | None = None
        self._gone: dict[str, None] = {}
        self._file: FollowedFile[Authority] = FollowedFile(path, STATE_FILE, self._parse, clock)

    @classmethod
    def open(
        cls,
        path: Path,
        trust_domain: TrustDomain,
        *,
        max_age: float = MAX_AGE_SECONDS,
        clock: Boottime = boottime,
    ) -> Self:
        """Read the keys for the first time.

        Raises:
            KeyMaterialError: with a sentence that says what to do, if there are none yet, or they are not
                what they should be.
        """
        followed = cls(path, trust_domain, max_age=max_age, clock=clock)
        followed.poll()
        return followed

    @property
    def current(self) -> Authority:
        """The authority as it was read last; the same object until it changed.

        Raises:
            IssuanceUnavailableError: if that was too long ago.
        """
        if self._file.age > self._max_age:
            raise IssuanceUnavailableError(
                f"the keys of the authority could not be read for {self._max_age:.0f} s"
            )
        return self._file.value

    @property
    def age(self) -> float:
        """How many seconds ago the last good reading began."""
        return self._file.age

    def trust_bundle(self) -> Bundle:
        """Return what verifies SVIDs of the authority now."""
        return self.current.trust_bundle()

    def poll(self) -> bool:
        """Read what changed, and say whether anything did. This blocks for the disk.

        Raises:
            KeyMaterialError: if it cannot be read; what was read before counts a while longer.
        """
        with self._lock:
            changed = self._file.poll()
        if changed:
            self.feed.publish()
        return changed

    def _parse(self, directory: KeyDirectory, data: bytes | None) -> Authority:
        store = FileKeyStore(directory)
        attempts = _ATTEMPTS
        while True:
            document = self._read(directory, data)
            try:
                keys = {slot.kid: store.load(slot.kid) for slot in _active(document)}
            except KeyMaterialError:
                # Destroyed since the state was read? Then the state is another one by now.
                data, before = directory.read(STATE_FILE), data
                attempts -= 1
                if data == before or not attempts:
                    raise
            else:
                return self._take(document, keys)

    def _read(self, directory: KeyDirectory, data: bytes | None) -> KeyDocument:
        if data is None:
            raise KeyMaterialError(f"no keys in {str(directory.path)!r} yet: start its authority first")
        document = parse_state(directory, data, self._trust_domain)
        if missing := _ROLES - {slot.role for slot in _active(document)}:
            raise KeyMaterialError(f"no key of role {min(missing)!r} signs yet: wait for the authority")
        if self._document is not None:
            _refuse_older(self._document, document, frozenset(self._gone))
        return document

    def _take(self, document: KeyDocument, keys: dict[str, SigningKey]) -> Authority:
        authority = Authority(
            self._trust_domain, document.rings, MappingProxyType(keys), sequence=document.sequence
        )
        if self._document is not None:
            kept = {slot.kid for slot in _slots(document)}
            self._gone.update(dict.fromkeys(s.kid for s in _slots(self._document) if s.kid not in kept))
            while len(self._gone) > _MAX_GONE:
                del self._gone[next(iter(self._gone))]
        self._document = document
        return authority


def _slots(document: KeyDocument) -> Iterator[KeySlot]:
    return (slot for ring in document.rings.values() for slot in ring)


def _active(document: KeyDocument) -> Iterator[KeySlot]:
    return (slot for slot in _slots(document) if slot.role in _ROLES and slot.stage is Stage.ACTIVE)


def _refuse_older(known: KeyDocument, read: KeyDocument, gone: frozenset[str]) -> None:
    """Refuse a state in which something that happened has not happened.

    Raises:
        KeyMaterialError: naming what is undone in it.
    """
    if read.sequence < known.sequence:
        raise KeyMaterialError(
            f"the state of the authority went back from sequence {known.sequence} to {read.sequence}: "
            "a backup was restored; restart whoever follows it"
        )
    slots = {slot.kid: slot for slot in _slots(known)}
    for slot in _slots(read):
        before = slots.get(slot.kid)
        is_undone = before is not None and (
            _ORDER.index(slot.stage) < _ORDER.index(before.stage) or (before.tainted and not slot.tainted)
        )
        if is_undone or slot.kid in gone:
            raise KeyMaterialError(
                f"the key {slot.kid!r} of the authority is back as it was before: a backup was restored; "
                "restart whoever follows it"
            )
