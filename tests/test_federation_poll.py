"""Federation at work: what is written before it counts, what a poll changes, and who hears of it."""

import asyncio
import json
import ssl
import stat
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from authz.identity_service.federation import FILE_NAME, Federation
from identity.authority import Authority
from identity.errors import CertificateError, FederationError, KeyMaterialError
from identity.federation import Relationship
from identity.key_directory import MAX_FILE
from identity.spiffe import SpiffeId, TrustDomain
from tests.federation_world import ENDPOINT, NOW, OURS, THEIRS, URL, FakeFetcher, bundle_bytes, credential

OUR_AUTHORITY = Authority.generate(OURS, NOW)
THEIR_AUTHORITY = Authority.generate(THEIRS, NOW)
WEB = Relationship.parse(THEIRS.name, URL, "https_web")


def kept(directory: Path, fetcher: FakeFetcher) -> Federation:
    return Federation.open(directory, OUR_AUTHORITY.trust_bundle, fetcher=fetcher, jitter=lambda: 0.0)


def run(directory: Path, act: Callable[[Federation, FakeFetcher], Awaitable[None]]) -> None:
    async def scenario() -> None:
        fetcher = FakeFetcher({URL: bundle_bytes(THEIR_AUTHORITY)})
        federation = kept(directory, fetcher)
        try:
            await act(federation, fetcher)
        finally:
            federation.close()

    directory.chmod(0o700)
    asyncio.run(scenario())


def third(number: int) -> Relationship:
    return Relationship.parse(f"td{number}.example", f"https://td{number}.example/", "https_web")


# ---------------------------------------------------------------- what an operator does


def test_nothing_is_federated_at_first(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.poll(NOW)
        assert (federation.relationships(), dict(federation.bundles()), fetcher.asked) == ((), {}, [])
        assert list(federation.trust().all) == [OURS]
        assert not (tmp_path / FILE_NAME).exists()

    run(tmp_path, act)


def test_a_trust_domain_is_added_fetched_and_removed(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        assert dict(federation.bundles()) == {}
        await federation.poll(NOW)
        assert federation.bundles()[THEIRS] == THEIR_AUTHORITY.trust_bundle()
        assert list(federation.trust().all) == [OURS, THEIRS]
        await federation.remove(THEIRS)
        assert (federation.relationships(), dict(federation.bundles())) == ((), {})
        with pytest.raises(FederationError, match="not federated"):
            await federation.remove(THEIRS)

    run(tmp_path, act)


def test_our_own_trust_domain_is_refused(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        with pytest.raises(FederationError, match="our own"):
            await federation.add(Relationship.parse(OURS.name, URL, "https_web"))
        assert federation.relationships() == ()

    run(tmp_path, act)


def test_every_change_of_trust_is_told_once(tmp_path: Path) -> None:
    """Open streams are pushed what changed, and are left alone where nothing did."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        assert federation.feed.version == 0
        await federation.poll(NOW)
        assert federation.feed.version == 1
        same = federation.bundles()
        await federation.poll(NOW + timedelta(hours=1))
        assert (federation.feed.version, len(fetcher.asked)) == (1, 2)
        assert federation.bundles() is same
        fetcher.served[URL] = bundle_bytes(THEIR_AUTHORITY, keys=[], spiffe_sequence=9)
        await federation.poll(NOW + timedelta(hours=2))
        assert federation.feed.version == 2
        await federation.remove(THEIRS)
        assert federation.feed.version == 3

    run(tmp_path, act)


# ---------------------------------------------------------------- the disk


def test_a_restart_knows_what_was_known(tmp_path: Path) -> None:
    async def first(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        await federation.poll(NOW)

    async def second(federation: Federation, fetcher: FakeFetcher) -> None:
        assert federation.bundles()[THEIRS] == THEIR_AUTHORITY.trust_bundle()
        await federation.poll(NOW + timedelta(seconds=1))
        assert fetcher.asked == []
        await federation.poll(NOW + timedelta(hours=1))
        assert fetcher.asked == [URL]
        await federation.remove(THEIRS)

    async def last(federation: Federation, fetcher: FakeFetcher) -> None:
        assert federation.relationships() == ()

    run(tmp_path, first)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    run(tmp_path, second)
    run(tmp_path, last)


@pytest.mark.parametrize("damage", ["truncated", "open to others", "a link", "of another trust domain"])
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path: Path, damage: str) -> None:
    async def add(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)

    async def never(federation: Federation, fetcher: FakeFetcher) -> None:
        pytest.fail("it was read")

    run(tmp_path, add)
    file = tmp_path / FILE_NAME
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-20])
    elif damage == "open to others":
        file.chmod(0o644)
    elif damage == "a link":
        file.rename(tmp_path / "elsewhere.json")
        file.symlink_to(tmp_path / "elsewhere.json")
    else:
        file.write_bytes(file.read_bytes().replace(b'"mesh.example"', b'"else.example"'))
    with pytest.raises((FederationError, KeyMaterialError), match=FILE_NAME):
        run(tmp_path, never)


def test_a_change_that_cannot_be_written_does_not_count(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        await federation.poll(NOW)
        break_disk(federation)
        with pytest.raises(FederationError, match="cannot write"):
            await federation.add(third(1))
        with pytest.raises(FederationError, match="cannot write"):
            await federation.remove(THEIRS)
        assert [each.trust_domain for each in federation.relationships()] == [THEIRS]
        assert THEIRS in federation.bundles()

    run(tmp_path, act)


def test_a_full_disk_does_not_keep_a_revoked_key_alive(tmp_path: Path) -> None:
    """B-1: what the publisher withdrew counts, and the list says that it was not written."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        await federation.poll(NOW)
        break_disk(federation)
        fetcher.served[URL] = bundle_bytes(THEIR_AUTHORITY, keys=[], spiffe_sequence=9)
        await federation.poll(NOW + timedelta(hours=1))
        assert federation.bundles()[THEIRS].roots == ()
        fetcher.served[URL] = bundle_bytes(THEIR_AUTHORITY, spiffe_sequence=10)
        await federation.poll(NOW + timedelta(hours=2))
        assert "cannot write" in federation.relationships()[0].problem

    run(tmp_path, act)


def break_disk(federation: Federation) -> None:
    def write(name: str, data: bytes) -> None:
        raise KeyMaterialError("cannot write the file: no space left on device")

    federation._directory.write = write  # type: ignore[method-assign] # the disk that it stands for is full


def test_large_bundles_of_some_cannot_make_a_file_that_nobody_reads(tmp_path: Path) -> None:
    """Strangers size these documents; what does not fit counts, and is fetched again after a restart."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        for number in range(40):
            await federation.add(third(number))
            fetcher.served[third(number).url] = b'{"keys":[],"more":"' + b"x" * 60_000 + b'"}'
        await federation.poll(NOW)
        assert len(federation.bundles()) == 40
        assert (tmp_path / FILE_NAME).stat().st_size <= MAX_FILE

    async def again(federation: Federation, fetcher: FakeFetcher) -> None:
        assert len(federation.relationships()) == 40

    run(tmp_path, act)
    run(tmp_path, again)


# ---------------------------------------------------------------- polling


def test_b_6_a_failure_keeps_the_bundle_and_waits_for_the_next_interval(tmp_path: Path) -> None:
    """B-6: whatever fails, and however."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        await federation.poll(NOW)
        bundle, now = federation.bundles()[THEIRS], NOW
        for answer in (FederationError("down"), RuntimeError("unforeseen"), b"<html>", b"{}"):
            fetcher.served[URL] = answer
            asked = len(fetcher.asked)
            now += timedelta(minutes=5)
            await federation.poll(now)
            await federation.poll(now + timedelta(seconds=1))
            assert len(fetcher.asked) == asked + 1
            assert federation.bundles()[THEIRS] is bundle
            (relationship,) = federation.relationships()
            assert relationship.problem
            assert relationship.fetched_at == NOW

    run(tmp_path, act)


def test_jitter_is_drawn_once_a_wait(tmp_path: Path) -> None:
    """A new draw at every question would make the shortest wait the rule."""
    drawn: list[float] = []

    def jitter() -> float:
        drawn.append(0.5)
        return 0.5

    async def scenario() -> None:
        fetcher = FakeFetcher({URL: bundle_bytes(THEIR_AUTHORITY, spiffe_refresh_hint=100)})
        federation = Federation.open(tmp_path, OUR_AUTHORITY.trust_bundle, fetcher=fetcher, jitter=jitter)
        await federation.add(WEB)
        for second in range(95):
            await federation.poll(NOW + timedelta(seconds=second))
        assert (len(fetcher.asked), len(drawn)) == (1, 2)
        await federation.poll(NOW + timedelta(seconds=95))
        assert len(fetcher.asked) == 2
        federation.close()

    tmp_path.chmod(0o700)
    asyncio.run(scenario())


def test_one_that_does_not_answer_holds_up_no_other(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        gate = asyncio.Event()
        waiting = 0

        async def hang() -> None:
            nonlocal waiting
            waiting += 1
            await gate.wait()

        for number in range(20):
            await federation.add(third(number))
        fetcher.meanwhile = hang
        polls = [asyncio.create_task(federation.poll(NOW)) for _ in range(3)]
        for _ in range(200):
            await asyncio.sleep(0)
        # A few at the same time, and each of them once, however often the duty comes round.
        assert (waiting, len(set(fetcher.asked))) == (8, 8)
        assert federation.start_due(NOW) == ()
        # An operator does not stand in line.
        await federation.add(WEB)
        fetcher.meanwhile = lambda: None
        after = await federation.refresh(THEIRS, NOW)
        assert after is not None
        assert after.bundle is not None
        gate.set()
        await asyncio.gather(*polls)
        assert sorted(fetcher.asked) == sorted([URL, *(third(number).url for number in range(20))])

    run(tmp_path, act)


def test_what_was_removed_meanwhile_stays_removed(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        fetcher.meanwhile = lambda: federation.remove(THEIRS)
        await federation.poll(NOW)
        assert (federation.relationships(), dict(federation.bundles())) == ((), {})
        assert json.loads((tmp_path / FILE_NAME).read_bytes())["relationships"] == []

    run(tmp_path, act)


def test_a_bundle_from_the_old_endpoint_is_not_kept_for_the_new_one(tmp_path: Path) -> None:
    """Removed and added again with another URL, while the old one still answers."""
    new = "https://new.example/"
    theirs = Authority.generate(THEIRS, NOW)

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        async def replace() -> None:
            fetcher.meanwhile = lambda: None
            await federation.remove(THEIRS)
            await federation.add(Relationship.parse(THEIRS.name, new, "https_web"))

        await federation.add(WEB)
        fetcher.meanwhile = replace
        fetcher.served[new] = bundle_bytes(theirs)
        assert await federation.refresh(THEIRS, NOW) == federation.relationships()[0]
        assert fetcher.asked == [URL, new]
        assert federation.bundles()[THEIRS] == theirs.trust_bundle()

    run(tmp_path, act)


def test_who_asks_while_it_is_under_way_gets_that_answer(tmp_path: Path) -> None:
    """An operator who adds a trust domain sees its bundle, also where the duty was faster."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        asked, gate = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            asked.set()
            await gate.wait()

        fetcher.meanwhile = wait
        await federation.add(WEB)
        polling = asyncio.create_task(federation.poll(NOW))
        impatient = asyncio.create_task(federation.refresh(THEIRS, NOW))
        patient = asyncio.create_task(federation.refresh(THEIRS, NOW))
        await asked.wait()
        impatient.cancel()
        gate.set()
        after = await patient
        await polling
        assert after is not None
        assert after.bundle == THEIR_AUTHORITY.trust_bundle()
        assert len(fetcher.asked) == 1

    run(tmp_path, act)


def test_what_nobody_foresaw_does_not_end_the_polling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for the tasks of a duty, so nothing may be lost in them."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        def write(name: str, data: bytes) -> None:
            raise RuntimeError("secret words")

        await federation.add(WEB)
        federation._directory.write = write  # type: ignore[method-assign] # a fault that it stands for
        (fetching,) = federation.start_due(NOW)
        await fetching
        assert (await federation.refresh(THEIRS, NOW)) == WEB

    run(tmp_path, act)
    assert "federation of other.example: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        fetcher, asked = FakeFetcher(), asyncio.Event()

        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        fetcher.meanwhile = hang
        federation = kept(tmp_path, fetcher)
        await federation.add(WEB)
        polling = asyncio.create_task(federation.poll(NOW))
        await asked.wait()
        federation.close()
        with pytest.raises(asyncio.CancelledError):
            await polling

    tmp_path.chmod(0o700)
    asyncio.run(scenario())


def test_refresh_asks_at_once_and_says_what_came_of_it(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        assert await federation.refresh(THEIRS, NOW) is None
        await federation.add(WEB)
        fetcher.served = {}
        failed = await federation.refresh(THEIRS, NOW)
        assert failed is not None
        assert (failed.bundle, failed.problem) == (None, "nobody there")

    run(tmp_path, act)


# ---------------------------------------------------------------- with what an endpoint is verified


def test_a_self_serving_endpoint_refreshes_its_own_roots(tmp_path: Path) -> None:
    """Federation section 5.2.2.4: the latest bundle verifies the next connection."""
    new = Authority.generate(THEIRS, NOW)
    first = bundle_bytes(THEIR_AUTHORITY)

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(
            Relationship.parse(THEIRS.name, URL, "https_spiffe", endpoint_id=str(ENDPOINT), bundle=first)
        )
        fetcher.served[URL] = bundle_bytes(new, spiffe_sequence=2)
        await federation.poll(NOW)
        await federation.poll(NOW + timedelta(hours=1))
        assert fetcher.roots == [THEIR_AUTHORITY.roots, new.roots]

    run(tmp_path, act)


def test_an_endpoint_is_verified_with_the_roots_of_its_own_trust_domain_only(tmp_path: Path) -> None:
    """X-7: not with those of the bundle that it serves, nor with all that we know."""
    server = SpiffeId.parse("spiffe://td1.example/bundles")
    ours = SpiffeId.parse("spiffe://mesh.example/bundles")

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        mine = Authority.generate(TrustDomain.parse("td1.example"), NOW)
        for domain, endpoint_id in ((THEIRS.name, server), ("third.example", ours)):
            await federation.add(
                Relationship.parse(domain, f"https://{domain}/", "https_spiffe", endpoint_id=str(endpoint_id))
            )
        fetcher.served = {third(1).url: bundle_bytes(mine)}
        await federation.poll(NOW)
        await federation.add(third(1))
        await federation.poll(NOW)
        await federation.poll(NOW + timedelta(hours=1))
        seen = dict(zip(fetcher.asked, fetcher.roots, strict=True))
        assert seen == {
            "https://other.example/": mine.roots,
            "https://third.example/": OUR_AUTHORITY.roots,
            third(1).url: (),
        }

    run(tmp_path, act)


def test_a_bundle_never_counts_for_another_trust_domain(tmp_path: Path) -> None:
    """X-7: their CA, with our name in its leaf, is verified with our roots."""

    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        await federation.poll(NOW)
        for spiffe_id, ok in ((ENDPOINT, True), (SpiffeId.parse("spiffe://mesh.example/x"), False)):
            leaf = ssl.PEM_cert_to_DER_cert(
                credential(THEIR_AUTHORITY.ca, spiffe_id).certificate_chain.decode()
            )
            if ok:
                assert federation.trust().verify_x509([leaf], NOW).spiffe_id == spiffe_id
            else:
                with pytest.raises(CertificateError):
                    federation.trust().verify_x509([leaf], NOW)

    run(tmp_path, act)


def test_no_file_is_left_beside(tmp_path: Path) -> None:
    async def act(federation: Federation, fetcher: FakeFetcher) -> None:
        await federation.add(WEB)
        await federation.poll(NOW)

    run(tmp_path, act)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
