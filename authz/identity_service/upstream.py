"""An existing SPIRE above us: our own serving identity and its bundles, from its Workload API.

- The PyPI package `spiffe` speaks to the socket, in threads of its own; what it returns counts only after our
  own rules have read it again (authz/upstream_answer.py).
- The start waits for the first answer, but not for ever, and then says in one sentence what is missing.
- Each message is the whole state: what is in it no more is trusted no more (A-1).
- While the socket is lost, what we have stays; when our identity has run out, we are not ready. Who is told
  that it has no identity any more is not ready at once: nothing else in SPIFFE takes a workload's back (A-1).
- JWT bundles are optional, as the Workload API has them; without them no JWT-SVID of SPIRE's counts.
- Each attempt has a connection of its own: gRPC would wait minutes before it tries an old one again.
- Nothing secret is logged; a sentence is logged when it changes, not at each attempt.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Final, Literal, Self

from spiffe.bundle.jwt_bundle.jwt_bundle_set import JwtBundleSet
from spiffe.errors import ArgumentError
from spiffe.workloadapi.workload_api_client import StreamCancelHandler, WorkloadApiClient
from spiffe.workloadapi.x509_context import X509Context

from authz.errors import ConfigError
from authz.hosts.tls import Credential
from authz.upstream_answer import (
    JwtKeys,
    Roots,
    SameTrustDomainError,
    ServingIdentity,
    bundles_of,
    read_jwt_keys,
    read_roots,
    serving_identity,
)
from identity.bundle import Bundle
from identity.errors import IdentityError
from identity.spiffe import SpiffeId, TrustDomain

START_SECONDS: Final = 30.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
# Where JWT-SVIDs are turned off, asking more often would tell nothing new.
_JWT_PAUSE: Final = 10.0
# How long the start waits for JWT bundles once it has an identity.
_JWT_START: Final = 5.0

_IS_SPIRE_THERE: Final = "is the SPIRE agent running, and its socket mounted here?"
_ANOTHER_NAME: Final = (
    "name another trust domain in trust_domain, because two authorities of one name could each sign "
    "the identities of the other"
)

_LOG = logging.getLogger(__name__)

_Stream = Literal["x509", "jwt"]
_Events = SimpleQueue[Literal["x509", "jwt", "stop"]]


class _Client(WorkloadApiClient):
    """The package's client, which hands JWT bundles over as they came.

    Its own reading forgets what a key is for, and one malformed bundle would end the stream of all.
    """

    @staticmethod
    def _create_jwt_bundle_set(  # type: ignore[override]  # the bundles as they came
        resp_bundles: Mapping[str, bytes],
    ) -> Mapping[str, bytes]:
        return dict(resp_bundles)


class Upstream:
    """The Workload API that we stand under, and what it told us last."""

    def __init__(
        self,
        address: str,
        own: TrustDomain,
        clock: Callable[[], datetime],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the address `unix:///path`, the trust domain of our tasks, and whom to tell of changes."""
        self._address, self._own, self._clock, self._changed = address, own, clock, changed
        self._stopped, self._has_identity, self._has_jwt = (threading.Event() for _ in range(3))
        self._events: _Events = SimpleQueue()
        self._lock = threading.Lock()
        self._identity: ServingIdentity | None = None
        self._is_withdrawn = self._is_hopeless = False
        self._roots: Roots = {}
        self._jwt_keys: JwtKeys = {}
        self._bundles: Mapping[TrustDomain, Bundle] = MappingProxyType({})
        self._problems: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)

    @classmethod
    def open(
        cls,
        address: str,
        own: TrustDomain,
        clock: Callable[[], datetime],
        changed: Callable[[], None] = lambda: None,
        start_seconds: float = START_SECONDS,
    ) -> Self:
        """Connect, and wait for our identity; this blocks.

        Raises:
            ConfigError: with a sentence that says what is missing, if there is none in time.
        """
        upstream = cls(address, own, clock, changed)
        upstream._thread.start()
        try:
            upstream._await_start(start_seconds)
        except BaseException:
            upstream.close()
            raise
        return upstream

    @property
    def problem(self) -> str:
        """What is wrong now, in a sentence; empty where nothing is."""
        return "; ".join(list(self._problems.values()))

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who we are."""
        return self._serving.svid.spiffe_id

    @property
    def dns_names(self) -> frozenset[str]:
        """The DNS names in our certificate."""
        return self._serving.dns_names

    def credential(self) -> Credential:
        """Return what our servers present."""
        return Credential(self._serving.chain, self._serving.key)

    def bundles(self) -> Mapping[TrustDomain, Bundle]:
        """Return the bundles of SPIRE and of whom it federates with; one object until they change."""
        return self._bundles

    def is_ready(self, now: datetime) -> bool:
        """Say whether we have an identity that is valid, and that nobody took back."""
        identity = self._identity
        return identity is not None and not self._is_withdrawn and now < identity.svid.not_after

    def close(self) -> None:
        """Let go of the socket."""
        self._stopped.set()
        self._events.put("stop")
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def _serving(self) -> ServingIdentity:
        if self._identity is None:
            raise ConfigError(f"no identity from the Workload API at {self._address!r} yet")
        return self._identity

    def _await_start(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._has_identity.wait(seconds)
        if self._is_hopeless or self._identity is None:
            raise ConfigError(
                self._problems.get("x509")
                or f"the Workload API at {self._address!r} did not answer in {seconds:g} seconds"
            )
        self._has_jwt.wait(min(_JWT_START, max(0.0, deadline - time.monotonic())))

    # ---- the thread that keeps a connection

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopped.is_set():
            events = self._events = SimpleQueue()
            has_identity = self._connect(events)
            pause = _FIRST_PAUSE if has_identity else min(2 * pause, _LONGEST_PAUSE)
            self._stopped.wait(pause)

    def _connect(self, events: _Events) -> bool:
        """Keep both streams open until that of our identity ends; say whether it brought anything."""
        try:
            client = _Client(socket_path=self._address)
        except ArgumentError:
            self._say("x509", f"there is no socket at {self._address!r}: {_IS_SPIRE_THERE}")
            return False
        before = self._identity
        streams: list[StreamCancelHandler] = []
        try:
            streams.append(
                client.stream_x509_contexts(self._take_x509, self._end("x509", events), retry_connect=False)
            )
            self._watch(client, streams, events)
        finally:
            for stream in streams:
                stream.cancel()
            client.close()
        return self._identity is not before

    def _watch(self, client: _Client, streams: list[StreamCancelHandler], events: _Events) -> None:
        while not self._stopped.is_set():
            streams[1:] = [
                client.stream_jwt_bundles(self._take_jwt, self._end("jwt", events), retry_connect=False)
            ]
            if events.get() != "jwt":
                return
            try:
                events.get(timeout=_JWT_PAUSE)
            except Empty:
                continue
            return

    # ---- what the package calls, in threads of its own

    def _take_x509(self, context: X509Context) -> None:
        given = {
            bundle.trust_domain.name: bundle.x509_authorities for bundle in context.x509_bundle_set.bundles
        }
        roots, refused = read_roots(given, self._own)
        self._say("x509 bundles", "; ".join(refused))
        with self._lock:
            self._roots = roots
        svid = context.default_svid
        try:
            self._identity = serving_identity(
                svid.cert_chain, svid.private_key, roots, self._own, self._clock()
            )
        except SameTrustDomainError:
            self._is_hopeless = self._identity is None
            self._say(
                "x509", f"the Workload API at {self._address!r} is of {self._own.name!r} too: {_ANOTHER_NAME}"
            )
        except IdentityError as error:
            self._say("x509", f"the identity from the Workload API at {self._address!r} is refused: {error}")
        else:
            self._is_withdrawn = False
            self._say("x509", "")
        self._publish()
        if self._identity is not None or self._is_hopeless:
            self._has_identity.set()

    def _take_jwt(self, bundles: Mapping[str, bytes] | JwtBundleSet) -> None:
        # Another version of the package may not give them as they came; then none counts.
        given = bundles if isinstance(bundles, dict) else {}
        jwt_keys, refused = read_jwt_keys(given, self._own)
        self._say(
            "jwt", "; ".join(refused) if given is bundles else "this version of spiffe hides JWT bundles"
        )
        with self._lock:
            self._jwt_keys = jwt_keys
        self._publish()
        self._has_jwt.set()

    def _end(self, stream: _Stream, events: _Events) -> Callable[[Exception], None]:
        def end(error: Exception) -> None:
            text = str(error)
            has_none = "PERMISSION_DENIED" in text or "cannot be empty" in text
            if stream == "jwt":
                self._has_jwt.set()
                # What is wrong with the socket or with our entry there, the other stream says.
                if not (has_none or "UNAVAILABLE" in text):
                    self._say("jwt", f"no JWT bundles from the Workload API: {text[:200]!r}")
            else:
                self._is_withdrawn = self._is_withdrawn or has_none
                self._say("x509", self._sentence(text, has_none=has_none))
            events.put(stream)

        return end

    def _sentence(self, text: str, *, has_none: bool) -> str:
        place = f"the Workload API at {self._address!r}"
        if has_none:
            return f"{place} has no identity for this process: register it in SPIRE (uid {os.geteuid()})"
        if "UNAVAILABLE" in text:
            return f"{place} does not answer: {_IS_SPIRE_THERE}"
        return f"{place} failed: {text[:200]!r}"

    def _publish(self) -> None:
        with self._lock:
            bundles = bundles_of(self._roots, self._jwt_keys)
            if bundles == self._bundles:
                return
            self._bundles = MappingProxyType(dict(bundles))
        self._changed()

    def _say(self, about: str, sentence: str) -> None:
        with self._lock:
            if self._problems.get(about, "") == sentence:
                return
            self._problems = {name: text for name, text in self._problems.items() if name != about}
            if sentence:
                self._problems[about] = sentence
        if sentence:
            _LOG.warning("%s", sentence)
        else:
            _LOG.info("the Workload API at %r answers again (%s)", self._address, about)
