"""The policy on OPA: a real one for what works, a faulty one for what must not.

Whatever a faulty OPA answers, nothing is allowed: each fault is an error, and an error is a denial.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authz.audit.facts import PolicyFacts
from authz.errors import CodedError, PolicyLoadError, PolicyRevisionError, PolicyUnavailableError
from authz.policy.grants import Grants
from authz.policy.live import LivePolicy
from authz.policy.modules import shipped_modules
from authz.policy.opa import FAULTS_TO_UNREADY, MAX_ANSWER_BYTES, OpaAddress, OpaClient, OpaPolicy
from authz.policy.opa_bundle import write_bundle
from authz.policy.opa_process import OpaProcess, find_opa, start_opa
from tests.policy_questions import CLOSE, EXPECTED, GRANTS_FILE, READ, demo_grants, question

MODULES = shipped_modules()
ALLOW = {"effect": "allow", "reasons": [], "obligations": {}}


@asynccontextmanager
async def _policy(url: str, grants: Grants | None = None, seconds: float = 2.0) -> AsyncIterator[OpaPolicy]:
    client = OpaClient(OpaAddress(url, seconds))
    policy = OpaPolicy(client, MODULES.digest, grants or demo_grants())
    try:
        yield policy
    finally:
        await policy.close()
        await client.close()


@pytest.fixture
def opa(opa_binary: Path, tmp_path: Path) -> OpaProcess:  # type: ignore[misc]  # a generator fixture
    with start_opa(opa_binary, tmp_path / "opa", MODULES) as running:
        yield running


def test_decides_as_the_shipped_policy_says(opa: OpaProcess) -> None:
    async def run() -> None:
        async with _policy(opa.url) as policy:
            await policy.activate()
            assert policy.ready
            for query, effect in EXPECTED:
                verdict = await policy.decide(query)
                assert (verdict.effect, verdict.revision) == (effect, policy.revision)

    asyncio.run(run())


def test_says_what_to_look_for_without_asking() -> None:
    """They are Deputy's own data, so a call is looked through also where OPA is slow."""
    rules = GRANTS_FILE.read_bytes().replace(b"  tickets:\n", b"  tickets:\n    payload: {secret: deny}\n", 1)

    async def run() -> None:
        async with _policy("unix:///nowhere", Grants.parse(rules)) as policy:
            assert policy.payload_classes("tickets") == {"secret"}
            assert policy.payload_classes("billing") == frozenset()
            assert "read_ticket" in policy.tool_names("tickets")

    asyncio.run(run())


def test_an_opa_without_our_data_denies_and_gets_it(opa: OpaProcess) -> None:
    async def run() -> None:
        async with _policy(opa.url) as policy:
            with pytest.raises(PolicyRevisionError):
                await policy.decide(READ)
            assert not policy.ready
            await policy.maintain()
            assert (await policy.decide(READ)).effect == "allow"

    asyncio.run(run())


def test_a_stopped_opa_denies_and_a_restarted_one_answers_again(opa_binary: Path, tmp_path: Path) -> None:
    async def run() -> None:
        first = start_opa(opa_binary, tmp_path / "opa", MODULES)
        try:
            async with _policy(first.url) as policy:
                await policy.activate()
                first.stop()
                for _ in range(3):
                    with pytest.raises(PolicyUnavailableError):
                        await policy.decide(READ)
                assert not policy.ready
                await policy.maintain()
                with start_opa(opa_binary, tmp_path / "opa", MODULES):
                    await policy.maintain()
                    assert (await policy.decide(READ)).effect == "allow"
        finally:
            first.stop()

    asyncio.run(run())


def test_old_data_does_not_answer_for_new(opa: OpaProcess) -> None:
    """Two revisions on one OPA: the one that is not there denies, and neither answers for the other."""

    async def run() -> None:
        changed = GRANTS_FILE.read_bytes().replace(
            b"close_ticket: {class: write}", b"close_ticket: {class: read}"
        )
        async with _policy(opa.url) as old, _policy(opa.url, Grants.parse(changed)) as new:
            await old.activate()
            await new.activate()
            assert (await new.decide(CLOSE)).effect == "allow"
            with pytest.raises(PolicyRevisionError):
                await old.decide(CLOSE)

    asyncio.run(run())


def test_another_policy_than_ours_is_found_at_start(opa_binary: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "x.rego").write_text(f"package deputy\ndecision := {json.dumps(ALLOW)}")
    directory = tmp_path / "opa"

    async def run() -> None:
        with start_opa(opa_binary, directory, MODULES) as running:
            async with _policy(running.url) as policy:
                policy._expected = type(policy._expected)("0" * 64, policy._expected.data)
                with pytest.raises(PolicyLoadError, match="another policy"):
                    await policy.activate()
                with pytest.raises(PolicyRevisionError):
                    await policy.decide(READ)

    asyncio.run(run())


def test_a_directory_with_other_rego_is_not_mixed_with_ours(tmp_path: Path) -> None:
    (tmp_path / "theirs.rego").write_text("package deputy\ndecision := 1")
    with pytest.raises(PolicyLoadError, match=r"theirs\.rego"):
        write_bundle(MODULES, tmp_path)


def test_a_binary_that_is_not_there_is_said() -> None:
    from authz.errors import ConfigError

    with pytest.raises(ConfigError, match="make opa"):
        find_opa(Path("/nonexistent/opa"))


# ---- faults

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _http(body: bytes, status: str = "200 OK", length: int | None = None) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = len(body) if length is None else length
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body)
        await writer.drain()

    return answer


def _result(**changes: object) -> Answer:
    grants = demo_grants()
    result = {"policy": MODULES.digest, "data_digest": grants.digest, "decision": ALLOW, **changes}
    return _http(json.dumps({"result": {k: v for k, v in result.items() if v is not None}}).encode())


async def _slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    await writer.drain()
    await asyncio.Event().wait()


async def _silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _gone(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


FAULTS = {
    "server error": _http(b"{}", "500 Internal Server Error"),
    "redirect": _http(b"", "307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/"),
    "unauthorized": _http(b"{}", "401 Unauthorized"),
    "garbage": _http(b"\xff\xfe"),
    "not http": _http(b"", "banana"),
    "array": _http(b"[]"),
    "empty": _http(b""),
    "undefined": _http(b"{}"),
    "duplicate key": _http(b'{"result":{},"result":{"decision":{"effect":"allow"}}}'),
    "huge": _http(b" " * (MAX_ANSWER_BYTES + 1)),
    "half": _http(b'{"result":', length=4096),
    "slow": _slow,
    "silent": _silent,
    "gone": _gone,
    "other policy": _result(policy="0" * 64),
    "other data": _result(data_digest="0" * 64),
    "no policy": _result(policy=None),
    "no data": _result(data_digest=None),
    "no decision": _result(decision=None),
    "decision true": _result(decision=True),
    "effect yes": _result(decision={**ALLOW, "effect": "yes"}),
    "more members": _result(decision={**ALLOW, "also": 1}),
}


@asynccontextmanager
async def _faulty(path: Path, answer: Answer) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield f"unix://{path}"
    finally:
        server.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_opa_allows_nothing(fault: str, tmp_path: Path) -> None:
    async def run() -> None:
        async with _faulty(tmp_path / "opa.sock", FAULTS[fault]) as url, _policy(url, seconds=0.2) as policy:
            with pytest.raises(CodedError):
                await policy.decide(READ)

    asyncio.run(run())


def test_the_faulty_opa_would_be_believed_if_it_were_right(tmp_path: Path) -> None:
    """Else the test above would pass for the wrong reason."""

    async def run() -> None:
        async with _faulty(tmp_path / "opa.sock", _result()) as url, _policy(url) as policy:
            assert (await policy.decide(READ)).effect == "allow"

    asyncio.run(run())


def test_a_long_answer_arrives_whole(opa: OpaProcess) -> None:
    """OPA compresses what is larger than 1 KiB, unless it is asked not to."""

    async def run() -> None:
        async with _policy(opa.url) as policy:
            await policy.activate()
            verdict = await policy.decide(question("x" * 900))
            assert verdict.reasons[0].code == "DPT-TOOL-UNKNOWN"
            assert len(repr(verdict)) > 1100

    asyncio.run(run())


def test_grants_reloaded_under_load_deny_nobody(opa: OpaProcess, tmp_path: Path) -> None:
    """Sixteen callers ask while the grants change twenty times; what both revisions allow stays allowed."""
    path = tmp_path / "grants.yaml"
    one, two = GRANTS_FILE.read_bytes(), GRANTS_FILE.read_bytes().replace(b"refund", b"pay_back")

    async def run() -> None:
        client = OpaClient(OpaAddress(opa.url, 5.0))

        async def record(_: PolicyFacts) -> None:
            return None

        path.write_bytes(one)
        live = await LivePolicy.open(path, lambda grants: OpaPolicy(client, MODULES.digest, grants), record)
        done = asyncio.Event()

        async def caller() -> int:
            answered = 0
            while not done.is_set():
                assert (await live.decide(READ)).effect == "allow"
                answered += 1
            return answered

        callers = [asyncio.create_task(caller()) for _ in range(16)]
        for turn in range(20):
            path.write_bytes(two if turn % 2 else one)
            os.utime(path, ns=(turn, turn))
            assert await live.reload() == "loaded"
            await asyncio.sleep(0.02)
        done.set()
        assert min(await asyncio.gather(*callers)) > 0
        await live.close()
        await client.close()

    asyncio.run(run())


def test_one_slow_answer_does_not_turn_the_health(opa: OpaProcess) -> None:
    async def run() -> None:
        async with _policy(opa.url) as policy:
            await policy.activate()
            policy._faults = FAULTS_TO_UNREADY - 1
            assert policy.ready
            policy._faults += 1
            states = [policy.ready]
            assert (await policy.decide(READ)).effect == "allow"
            assert [*states, policy.ready] == [False, True]

    asyncio.run(run())
