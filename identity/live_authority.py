"""The authority as it lives: its keys change, are kept, and everybody hears of it.

- `current` is one frozen value; whoever signs or verifies asks for it each time and never keeps it.
- A change is on disk before it counts, and the private part of a key that signs no more is destroyed after.
  Where that fails, the change counts all the same and everybody hears of it; it is tried again at the next.
- One process writes: the directory is locked; others may only read what is published, or follow it (see
  identity/followed_keys.py).
- A crash between two steps leaves a state that was, or a private key that nobody knows: that one is destroyed
  at the next start.
- Where it is said how long a key lives, it is one number for all roles (KeyLife).
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Final, Self

from identity.authority import Authority
from identity.bundle import REFRESH_HINT, Bundle
from identity.certificate_authority import CertificateAuthority
from identity.errors import AuthorityStateError, KeyMaterialError
from identity.feed import Feed
from identity.key_directory import KeyDirectory
from identity.key_document import KeyDocument
from identity.key_files import FileKeyStore, KeyStore
from identity.key_ring import KeyChange, KeyLife, KeyRing, KeySlot, Role, Stage
from identity.keys import SigningKey
from identity.spiffe import TrustDomain

STATE_FILE: Final = "state.json"
# What an earlier version wrote; its keys lived for ninety days in one file.
_EARLIER_FILE: Final = "authority.json"


@dataclass(frozen=True, slots=True)
class AuthoritySettings:
    """What the configuration says of an authority."""

    life: KeyLife = field(default_factory=KeyLife)
    refresh_hint: int = REFRESH_HINT
    jwt_issuer: str | None = None
    wit: bool = False

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that have keys."""
        return ("x509", "jwt", "tokens", "wit") if self.wit else ("x509", "jwt", "tokens")


class LiveAuthority:
    """The current authority, and the steps of its keys."""

    def __init__(
        self,
        document: KeyDocument,
        keys: dict[str, SigningKey],
        settings: AuthoritySettings,
        store: KeyStore | None,
        directory: KeyDirectory | None,
    ) -> None:
        """Take what `open` or `fixed` read."""
        self.settings = settings
        self.feed = Feed()
        self._lock = Lock()
        self._document = document
        self._keys = keys
        self._gone: set[str] = set()
        self._store = store
        self._directory = directory
        self._current: Authority | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        trust_domain: TrustDomain,
        settings: AuthoritySettings,
        now: datetime,
        store: KeyStore | None = None,
        *,
        begin: bool = True,
    ) -> Self:
        """Read the authority of a directory, or make one where there is none yet, and claim it.

        Private keys are kept in files beside the state, or in the `store` that is given. Who records each
        step before it is taken says `begin=False`, takes those that are due, and has a `current` only then.

        Raises:
            KeyMaterialError: with a sentence that says what to do, if the directory or a file in it is not
                ours alone, is damaged, is of another trust domain, or is in use by another process.
        """
        directory = KeyDirectory.open(path)
        try:
            directory.lock()
            document = _read(directory, trust_domain) or KeyDocument.empty(trust_domain)
            files = FileKeyStore(directory)
            kept: KeyStore = store if store is not None else files
            signing = [
                slot for ring in document.rings.values() for slot in ring if slot.stage is not Stage.RETIRED
            ]
            keys = {slot.kid: kept.load(slot.kid) for slot in signing}
            files.destroy_others(frozenset(keys) if store is None else frozenset())
            live = cls(document, keys, settings, kept, directory)
            # What a crash kept from being destroyed, in a store that cannot say what it holds.
            live._gone = {slot.kid for ring in document.rings.values() for slot in ring} - keys.keys()
            with suppress(KeyMaterialError):  # said at the next step, which tries it again
                live._destroy()
            while begin and (due := live.due(now)):
                live.apply(due, now)
            live._show()
        except BaseException:
            directory.close()
            raise
        return live

    @classmethod
    def fixed(cls, authority: Authority) -> Self:
        """Return an authority whose keys stay as they are, in memory."""
        document = KeyDocument(authority.trust_domain, authority.sequence, authority.rings)
        settings = AuthoritySettings(
            refresh_hint=authority.refresh_hint, jwt_issuer=authority.jwt_issuer, wit="wit" in authority.rings
        )
        live = cls(document, dict(authority.keys), settings, None, None)
        live._current = authority
        return live

    @property
    def current(self) -> Authority:
        """The authority as it is now."""
        if self._current is None:
            raise AuthorityStateError("an authority without keys")
        return self._current

    def trust_bundle(self) -> Bundle:
        """Return what verifies our SVIDs now."""
        return self.current.trust_bundle()

    def due(self, now: datetime) -> tuple[KeyChange, ...]:
        """Return the steps that time asks for, in order."""
        life, roles = self.settings.life, self.settings.roles
        on = [change for role in roles for change in self._ring(role).due(now, life)]
        off = [ring for role, ring in self._document.rings.items() if role not in roles]
        return (*on, *(change for ring in off for change in ring.due_when_off(now)))

    def check(self, change: KeyChange, *, force: bool = False) -> None:
        """Refuse a step that the state does not allow, before anybody records it.

        Raises:
            AuthorityStateError: with a sentence that says which step comes first.
        """
        _stepped(self._ring(change.role), change, force=force)

    def apply(self, changes: Iterable[KeyChange], now: datetime, *, force: bool = False) -> None:
        """Take steps, one after the other; each is on disk before it counts. This blocks for the disk.

        Raises:
            AuthorityStateError: if the state does not allow a step; those before it stay taken.
            KeyMaterialError: if something cannot be kept; the step has not happened then. Or, as it says, if
                the step has happened, and a private key that signs no more cannot be destroyed.
        """
        for change in changes:
            with self._lock:
                self._apply(change, now, force=force)
                self.feed.publish()
                self._destroy()

    def close(self) -> None:
        """Let go of the directory."""
        with self._lock:  # a step that is under way writes into it
            if self._directory is not None:
                self._directory.close()
                self._directory = None

    def _apply(self, change: KeyChange, now: datetime, *, force: bool) -> None:
        ring, keys = self._ring(change.role), dict(self._keys)
        if change.action == "prepare":
            if ring.prepared is not None:
                raise AuthorityStateError(f"a key of role {change.role!r} is prepared already")
            key = self._required_store().make()
            keys[key.kid] = key
            ring = ring.with_prepared(self._slot(change.role, key, now))
        else:
            ring = _stepped(ring, change, force=force)
        signing = {slot.kid for slot in ring if slot.stage is not Stage.RETIRED}
        others = {
            slot.kid for role, other in self._document.rings.items() if role != change.role for slot in other
        }
        gone = keys.keys() - signing - others
        # To take over or to be marked changes nothing that is published, and tokens are not in the bundle.
        published = change.action not in {"activate", "taint"} and change.role != "tokens"
        document = replace(
            self._document,
            sequence=self._document.sequence + (1 if published else 0),
            rings=MappingProxyType({**self._document.rings, change.role: ring}),
        )
        if self._directory is not None:
            self._directory.write(STATE_FILE, document.encode())
        self._document, self._keys = document, {kid: key for kid, key in keys.items() if kid not in gone}
        self._gone |= gone
        self._show()

    def _destroy(self) -> None:
        for kid in sorted(self._gone):
            try:
                self._required_store().destroy(kid)
            except KeyMaterialError as error:
                text = f"the private key {kid!r} signs no more, but cannot be destroyed yet: {error}"
                raise KeyMaterialError(text) from error
            self._gone.discard(kid)

    def _slot(self, role: Role, key: SigningKey, now: datetime) -> KeySlot:
        lifetime = self.settings.life.lifetime
        if role != "x509":
            return KeySlot(role, Stage.PREPARED, key.public, now, now + lifetime)
        certificate = CertificateAuthority.certify(
            key, self._document.trust_domain, now, lifetime
        ).certificate
        return KeySlot(role, Stage.PREPARED, key.public, now, certificate.not_valid_after_utc, certificate)

    def _show(self) -> None:
        """Make the frozen value, once every role has a key that signs."""
        rings = self._document.rings
        if any(role not in rings or rings[role].active is None for role in self.settings.roles):
            return
        self._current = Authority(
            trust_domain=self._document.trust_domain,
            rings=rings,
            keys=MappingProxyType(dict(self._keys)),
            sequence=self._document.sequence,
            refresh_hint=self.settings.refresh_hint,
            jwt_issuer=self.settings.jwt_issuer,
        )

    def _ring(self, role: Role) -> KeyRing:
        return self._document.rings.get(role) or KeyRing(role)

    def _required_store(self) -> KeyStore:
        if self._store is None:
            raise AuthorityStateError("an authority whose keys stay as they are")
        return self._store


def read_published(path: Path, trust_domain: TrustDomain) -> KeyDocument:
    """Read what an authority publishes, whether a process has claimed it or not.

    Raises:
        KeyMaterialError: if there is none, or it is not what it should be.
    """
    directory = KeyDirectory.open(path, create=False)
    try:
        document = _read(directory, trust_domain)
    finally:
        directory.close()
    if document is None:
        raise KeyMaterialError(f"no keys in {str(path)!r} yet: start the service first")
    return document


def _read(directory: KeyDirectory, trust_domain: TrustDomain) -> KeyDocument | None:
    data = directory.read(STATE_FILE)
    if data is None:
        if _EARLIER_FILE in directory.names():
            raise KeyMaterialError(
                f"{directory.named(_EARLIER_FILE)} is of an earlier version: "
                "move it away, and give everybody the new roots"
            )
        return None
    return parse_state(directory, data, trust_domain)


def parse_state(directory: KeyDirectory, data: bytes, trust_domain: TrustDomain) -> KeyDocument:
    """Read the state of an authority, which was found in a directory.

    Raises:
        KeyMaterialError: if it is damaged, or of another trust domain.
    """
    try:
        document = KeyDocument.parse(data)
    except KeyMaterialError as error:
        raise KeyMaterialError(
            f"{directory.named(STATE_FILE)} is damaged ({error}): restore it from a backup"
        ) from error
    if document.trust_domain != trust_domain:
        raise KeyMaterialError(
            f"{directory.named(STATE_FILE)} is of the trust domain {document.trust_domain.name!r}, "
            f"not of {trust_domain.name!r}: use another data directory"
        )
    return document


def _stepped(ring: KeyRing, change: KeyChange, *, force: bool) -> KeyRing:
    """Return the ring after a step that makes no key."""
    match change.action, change.kid:
        case "prepare", _:
            if ring.prepared is not None:
                raise AuthorityStateError(f"a key of role {change.role!r} is prepared already")
            return ring
        case "activate", _:
            return ring.activated()
        case "prune", str(kid):
            return ring.without(kid)
        case "taint", str(kid):
            return ring.tainted(kid)
        case "revoke", str(kid):
            return ring.revoked(kid, force=force)
    raise AuthorityStateError(f"a step without the key that it is about: {change.action!r}")
