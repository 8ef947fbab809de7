"""Federation at work: keeps the bundles of other trust domains, and fetches them again and again.

- What an operator changes is written before it counts; if it cannot be written, nothing changed.
- What was fetched is written too, but counts even where it cannot be: a full disk must not keep a key alive
  that its trust domain has revoked. A restart then begins with the older bundle and fetches at once.
- The file is of mode 0600, appears whole or not at all, and one that is damaged is refused at the start.
- Each change of what is trusted is published, so that open streams get it.
- A poll never raises, and fetches each trust domain once at a time and a few at the same time. An endpoint
  that does not answer holds up the others in line for the client's timeout, and an operator not at all.
- A relationship that was removed while its bundle was under way stays removed.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, Self

from cryptography import x509

from identity.bundle import Bundle
from identity.errors import FederationError, KeyMaterialError
from identity.federation import Profile, Relationship, SpiffeProfile, check_relationships
from identity.federation_client import BundleClient
from identity.federation_document import encode_relationships, parse_relationships
from identity.feed import Feed
from identity.key_directory import MAX_FILE, KeyDirectory
from identity.spiffe import TrustDomain
from identity.trust_bundles import TrustBundles

FILE_NAME: Final = "federation.json"

_AT_ONCE: Final = 8
_LOG = logging.getLogger(__name__)


class BundleFetcher(Protocol):
    """Who fetches bundles."""

    async def fetch(self, url: str, profile: Profile, roots: Sequence[x509.Certificate] = ()) -> bytes:
        """Return what an endpoint serves.

        Raises:
            FederationError: if that cannot be had.
        """


class Federation:
    """The trust domains that we federate with."""

    def __init__(
        self,
        directory: KeyDirectory,
        own: Callable[[], Bundle],
        relationships: Sequence[Relationship],
        *,
        fetcher: BundleFetcher | None = None,
        jitter: Callable[[], float] = random.random,
        feed: Feed | None = None,
    ) -> None:
        """Begin with relationships that `open` read; `own` gives our bundle of the moment."""
        self.feed = Feed() if feed is None else feed
        self._directory = directory
        self._own = own
        self._fetcher = fetcher or BundleClient()
        self._jitter = jitter
        self._writing = asyncio.Lock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._under_way: dict[TrustDomain, asyncio.Task[None]] = {}
        self._early: dict[TrustDomain, float] = {}
        self._relationships: Mapping[TrustDomain, Relationship] = {}
        self._bundles: Mapping[TrustDomain, Bundle] = MappingProxyType({})
        self._set(relationships)

    @classmethod
    def open(
        cls,
        path: Path,
        own: Callable[[], Bundle],
        *,
        fetcher: BundleFetcher | None = None,
        jitter: Callable[[], float] = random.random,
        feed: Feed | None = None,
    ) -> Self:
        """Read what an earlier process kept in a directory of keys.

        Raises:
            KeyMaterialError: if the directory or the file is not ours alone.
            FederationError: if the file is damaged, or is of another trust domain.
        """
        directory = KeyDirectory.open(path)
        try:
            relationships = _read(directory, own().trust_domain)
        except BaseException:
            directory.close()
            raise
        return cls(directory, own, relationships, fetcher=fetcher, jitter=jitter, feed=feed)

    def close(self) -> None:
        """Stop what is under way, and let go of the directory."""
        for fetching in self._under_way.values():
            fetching.cancel()
        self._directory.close()

    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Return the bundles that we have, by trust domain; never our own."""
        return self._bundles

    def trust(self) -> TrustBundles:
        """Return what verifies SVIDs, of every trust domain that is known."""
        return TrustBundles(self._own(), self._bundles)

    def relationships(self) -> tuple[Relationship, ...]:
        """Return every relationship, sorted by trust domain."""
        return tuple(self._relationships.values())

    async def add(self, relationship: Relationship) -> None:
        """Federate with a trust domain; its first bundle is due at once.

        Raises:
            FederationError: if it is our own, known already or one too many, or cannot be written.
        """
        async with self._writing:
            await self._change([*self._relationships.values(), relationship])

    async def remove(self, trust_domain: TrustDomain) -> None:
        """Forget a trust domain: its SVIDs are a stranger's from now on.

        Raises:
            FederationError: if it is not federated, or that cannot be written.
        """
        async with self._writing:
            if trust_domain not in self._relationships:
                raise FederationError(f"{trust_domain.name!r} is not federated")
            self._early.pop(trust_domain, None)
            await self._change([each for each in self.relationships() if each.trust_domain != trust_domain])

    def start_due(self, now: datetime) -> tuple[asyncio.Task[None], ...]:
        """Begin to fetch what is due, a few at the same time, and wait for none of it."""
        due = [each.trust_domain for each in self.relationships() if self._is_due(each, now)]
        return tuple(
            self._start(trust_domain, now, self._slots)
            for trust_domain in due
            if trust_domain not in self._under_way
        )

    async def poll(self, now: datetime) -> None:
        """Fetch what is due. It never raises."""
        await asyncio.gather(*map(asyncio.shield, self.start_due(now)))

    async def refresh(self, trust_domain: TrustDomain, now: datetime) -> Relationship | None:
        """Fetch one bundle now, due or not, and return what is known after that.

        Who asks while it is under way waits for that answer. It never raises; what failed is in `problem`.
        None: it is not federated, or not any more.
        """
        fetching = self._under_way.get(trust_domain)
        # An operator does not stand in line behind endpoints that do not answer.
        fetching = fetching or self._start(trust_domain, now, nullcontext())
        # Who goes away does not take the answer from the others.
        await asyncio.shield(fetching)
        return self._relationships.get(trust_domain)

    def _start(
        self, trust_domain: TrustDomain, now: datetime, slot: AbstractAsyncContextManager[None]
    ) -> asyncio.Task[None]:
        fetching = asyncio.create_task(self._fetch(trust_domain, now, slot))
        self._under_way[trust_domain] = fetching
        fetching.add_done_callback(lambda _: self._under_way.pop(trust_domain))
        return fetching

    async def _fetch(
        self, trust_domain: TrustDomain, now: datetime, slot: AbstractAsyncContextManager[None]
    ) -> None:
        try:
            async with slot:
                # Once more where an operator put another relationship in its place meanwhile.
                while (before := self._relationships.get(trust_domain)) is not None:
                    if await self._keep(before, await self._attempt(before, now)):
                        break
        except Exception as error:  # noqa: BLE001 - nobody may wait for this task, so it says itself what it met
            _LOG.warning("federation of %s: %s", trust_domain, type(error).__name__)

    def _is_due(self, relationship: Relationship, now: datetime) -> bool:
        # One draw for each wait: a new one at every question would make the shortest wait the rule.
        if relationship.trust_domain not in self._early:
            self._early[relationship.trust_domain] = self._jitter()
        return relationship.is_due(now, self._early[relationship.trust_domain])

    async def _attempt(self, relationship: Relationship, now: datetime) -> Relationship:
        try:
            document = await self._fetcher.fetch(
                relationship.url, relationship.profile, self._roots(relationship)
            )
            return relationship.fetched(document, now)
        except FederationError as error:
            return relationship.failed(str(error), now)
        except Exception as error:  # noqa: BLE001 - what nobody foresaw in one answer must not end the polling
            return relationship.failed(f"the fetch failed: {type(error).__name__}", now)

    def _roots(self, relationship: Relationship) -> Sequence[x509.Certificate]:
        """Return the roots of the endpoint's trust domain, as they are now (section 5.2.2.4)."""
        if not isinstance(relationship.profile, SpiffeProfile):
            return ()
        bundle = self.trust().of(relationship.profile.endpoint_id.trust_domain)
        return () if bundle is None else bundle.roots

    async def _keep(self, before: Relationship, after: Relationship) -> bool:
        """Keep what an attempt gave, and say whether it still was about the relationship that there is."""
        async with self._writing:
            if self._relationships.get(before.trust_domain) is not before:
                return False
            try:
                await self._write(self._with(after))
            except FederationError as error:
                after = replace(after, problem=after.problem or str(error))
            self._early.pop(before.trust_domain, None)
            if after.problem and after.problem != before.problem:
                _LOG.warning("federation of %s: %s", before.trust_domain, after.problem)
            self._set(self._with(after))
            return True

    def _with(self, changed: Relationship) -> list[Relationship]:
        return list({**self._relationships, changed.trust_domain: changed}.values())

    async def _change(self, relationships: Sequence[Relationship]) -> None:
        checked = check_relationships(relationships, self._own().trust_domain)
        await self._write(checked)
        self._set(checked)

    async def _write(self, relationships: Sequence[Relationship]) -> None:
        data = encode_relationships(self._own().trust_domain, relationships)
        if len(data) > MAX_FILE:
            # It could not be read again.
            raise FederationError(
                f"the bundles of all federated trust domains take more than {MAX_FILE} bytes"
            )
        try:
            await asyncio.to_thread(self._directory.write, FILE_NAME, data)
        except KeyMaterialError as error:
            raise FederationError(str(error)) from error

    def _set(self, relationships: Sequence[Relationship]) -> None:
        """Let relationships count, and tell the others if it makes a difference to them."""
        self._relationships = {each.trust_domain: each for each in relationships}
        before, after = (
            self._bundles,
            {each.trust_domain: each.bundle for each in relationships if each.bundle},
        )
        # The same object as long as nothing changed: others tell by it whether to look again.
        if after != before:
            for trust_domain in sorted({*before, *after}):
                if before.get(trust_domain) != after.get(trust_domain):
                    _LOG.info("federation of %s: the bundle changed", trust_domain)
            self._bundles = MappingProxyType(after)
            self.feed.publish()


def read_relationships(path: Path, own: TrustDomain) -> tuple[Relationship, ...]:
    """Read what a service keeps in its directory of keys, whether it runs or not.

    Raises:
        KeyMaterialError: if the directory or the file is not ours alone.
        FederationError: if the file is damaged, or is of another trust domain.
    """
    directory = KeyDirectory.open(path, create=False)
    try:
        return _read(directory, own)
    finally:
        directory.close()


def _read(directory: KeyDirectory, own: TrustDomain) -> tuple[Relationship, ...]:
    try:
        data = directory.read(FILE_NAME)
        return () if data is None else parse_relationships(data, own)
    except FederationError as error:
        raise FederationError(
            f"{str(directory.path / FILE_NAME)!r} is {error}: restore it from a backup, or remove it and add "
            "its trust domains again"
        ) from error
