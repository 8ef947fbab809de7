"""Attestation of pods: TokenReview, asked of a server that speaks the real wire format over real TLS."""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from identity.errors import AttestationError, IdentityError, IssuanceUnavailableError
from identity.kubernetes import MAX_AT_ONCE, MAX_WAITING, ApiServer, KubernetesAttestor
from identity.pod_identity import MAX_ANSWER, MAX_TOKEN, PodIdentity, token_review
from identity.spiffe import TrustDomain
from tests.identity_world import TD
from tests.kube_api import API_AUDIENCE, AUDIENCE, OTHER_CA, KubeApi, failure, review, user_of

POD, UID = "runner-7d4b9c5f6-x2x1z", "0b9c0f3e-7a0e-4f0f-9d57-2a4b7c1f0c11"
RUNNER = PodIdentity("agents", "runner", POD, UID)


def in_cluster(directory: Path, scenario: Callable[[KubeApi], Awaitable[None]], **serving: Any) -> None:
    async def run() -> None:
        async with KubeApi(directory).serving(**serving) as api:
            await scenario(api)

    asyncio.run(run())


async def refused(
    api: KubeApi, token: str, error: type[IdentityError] = AttestationError, **settings: Any
) -> str:
    """Attest a token that must not pass, and return why; no secret is in the error or what caused it."""
    with pytest.raises(error) as caught:
        await KubernetesAttestor(api.settings(**settings), timeout_seconds=20).attest(token)
    cause: BaseException | None = caught.value
    while cause is not None:
        for secret in (token, api.token_file.read_text() if api.token_file.is_file() else ""):
            assert len(secret) < 5 or secret[-60:] not in f"{cause!r} {cause}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return str(caught.value)


# ---------------------------------------------------------------- who is who


def test_token_of_a_pod_names_its_account_and_the_pod(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        token = api.token()
        pod = await KubernetesAttestor(api.settings()).attest(token)
        assert pod == RUNNER
        assert str(pod.workload(TD)) == "spiffe://mesh.example/ns/agents/sa/runner"
        # What we asked: about this token and exactly our audience.
        assert api.reviews == [
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token, "audiences": [AUDIENCE]},
            }
        ]

    in_cluster(tmp_path, scenario)


def test_api_server_behind_a_proxy_with_a_path_of_its_own(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        for path in ("/k8s/clusters/c-1", "/k8s/clusters/c-1/", "/"):
            assert await KubernetesAttestor(api.settings(url=api.base + path)).attest(api.token()) == RUNNER

    in_cluster(tmp_path, scenario)


def test_own_token_and_authority_are_read_anew(tmp_path: Path) -> None:
    """The kubelet writes a new token before the old one ends; a link leads to it."""

    async def scenario(api: KubeApi) -> None:
        attestor = KubernetesAttestor(api.settings())
        good, ca = api.token_file.read_text(), api.ca_file.read_bytes()
        api.token_file.write_text(api.own_token(seconds=-60))
        with pytest.raises(IssuanceUnavailableError, match="our own ServiceAccount token"):
            await attestor.attest(api.token())
        (api.directory / "..data").mkdir()
        (api.directory / "..data/token").write_text(good + "\n")
        api.token_file.unlink()
        api.token_file.symlink_to("..data/token")
        assert await attestor.attest(api.token()) == RUNNER
        api.ca_file.write_bytes(OTHER_CA.certificate_pem())
        with pytest.raises(IssuanceUnavailableError):
            await attestor.attest(api.token())
        api.ca_file.write_bytes(ca + OTHER_CA.certificate_pem())
        assert await attestor.attest(api.token()) == RUNNER

    in_cluster(tmp_path, scenario)


# ---------------------------------------------------------------- tokens that are not ours


@pytest.mark.parametrize("audiences", [[API_AUDIENCE], ["billing"], ["deputy.example"], [AUDIENCE.upper()]])
def test_refuses_token_of_another_audience(tmp_path: Path, audiences: list[str]) -> None:
    async def scenario(api: KubeApi) -> None:
        await refused(api, api.token(audiences=audiences))
        assert api.reviews[0]["spec"]["audiences"] == [AUDIENCE]

    in_cluster(tmp_path, scenario)


def test_refuses_every_token_of_an_api_server_that_does_not_know_audiences(tmp_path: Path) -> None:
    """It says yes to the token of another audience too; only the missing `status.audiences` tells."""

    async def scenario(api: KubeApi) -> None:
        api.knows_audiences = False
        for token in (api.token(), api.token(audiences=["billing"])):
            assert "does not know audiences" in await refused(api, token)

    in_cluster(tmp_path, scenario)


def test_refuses_token_that_is_bound_to_no_pod(tmp_path: Path) -> None:
    """A `kubectl create token`, or one of the old secrets: whoever copied it may hold it."""

    async def scenario(api: KubeApi) -> None:
        assert "not bound to one pod" in await refused(api, api.token(pod=None))

    in_cluster(tmp_path, scenario)


def test_refuses_token_of_a_pod_that_was_deleted(tmp_path: Path) -> None:
    """Also when a new pod has its name, and when the token was good a moment ago: nothing is remembered."""

    async def scenario(api: KubeApi) -> None:
        attestor, token = KubernetesAttestor(api.settings()), api.token()
        assert await attestor.attest(token) == RUNNER
        api.pods[POD] = "77777777-7a0e-4f0f-9d57-2a4b7c1f0c11"
        with pytest.raises(AttestationError):
            await attestor.attest(token)
        del api.pods[POD]
        with pytest.raises(AttestationError):
            await attestor.attest(token)

    in_cluster(tmp_path, scenario)


def test_refuses_expired_and_forged_tokens(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        await refused(api, api.token(seconds=-60))
        await refused(api, api.token(key=rsa.generate_private_key(65537, 2048)))
        await refused(api, api.token()[:-4] + "AAAA")

    in_cluster(tmp_path, scenario)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "a.b.c\n",
        "a.b.c ",
        "a.b.c\r\nX-Remote-User: admin",
        "a.é.c",
        "a.b=.c",
        "..",
        "a.b." + "c" * MAX_TOKEN,
        'a.b."}}',
        "\x00.b.c",
    ],
)
def test_what_is_no_token_is_sent_nowhere(tmp_path: Path, token: str) -> None:
    async def scenario(api: KubeApi) -> None:
        await refused(api, token)
        assert api.reviews == []

    in_cluster(tmp_path, scenario)


# ---------------------------------------------------------------- servers that are not as they should be


def test_api_server_of_another_cluster_is_not_asked(tmp_path: Path) -> None:
    """Its certificate is of another authority, or for another name; our own token does not reach it."""

    async def other(api: KubeApi) -> None:
        await refused(api, api.token(), IssuanceUnavailableError)
        assert api.reviews == []

    async def misnamed(api: KubeApi) -> None:
        await refused(
            api, api.token(), IssuanceUnavailableError, url=api.base.replace("127.0.0.1", "localhost")
        )
        assert api.reviews == []

    in_cluster(tmp_path, other, ca=OTHER_CA)
    in_cluster(tmp_path, misnamed)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(tmp_path: Path, status: int) -> None:
    """It would carry the tokens of all pods to wherever it points."""

    async def scenario(api: KubeApi) -> None:
        followed = []

        async def answer(request: web.Request) -> web.Response:
            followed.append(request.path)
            return web.Response(status=status, headers={"Location": f"{api.base}/k8s/clusters/c-1"})

        api.answer = answer
        assert str(status) in await refused(api, api.token(), IssuanceUnavailableError)
        assert len(followed) == 1

    in_cluster(tmp_path, scenario)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (204, "x"),
    ],
)
def test_failure_of_the_api_server_is_no_answer(tmp_path: Path, code: int, reason: str) -> None:
    """`kind: Status`; whoever asks may come again."""

    async def scenario(api: KubeApi) -> None:
        async def answer(_request: web.Request) -> web.Response:
            return failure(code, reason, f"it quotes {api.token_file.read_text()}")

        api.answer = answer
        await refused(api, api.token(), IssuanceUnavailableError)

    in_cluster(tmp_path, scenario)


def test_own_account_without_the_right_is_told_what_to_do(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        api.token_file.write_text(api.token(account="runner", audiences=[API_AUDIENCE]))
        assert "auth-delegator" in await refused(api, api.token(), IssuanceUnavailableError)

    in_cluster(tmp_path, scenario)


@pytest.mark.parametrize("text", ["", "\n", "a b", "a\r\nX-Remote-User: admin", "é", "a" * 17_000])
def test_own_token_that_is_none_is_not_sent(tmp_path: Path, text: str) -> None:
    async def scenario(api: KubeApi) -> None:
        api.token_file.write_text(text)
        assert "our own" in await refused(api, api.token(), IssuanceUnavailableError)
        api.token_file.unlink()
        assert "cannot read" in await refused(api, api.token(), IssuanceUnavailableError)
        os.mkfifo(api.token_file)  # nobody would ever write to it
        await refused(api, api.token(), IssuanceUnavailableError)

    in_cluster(tmp_path, scenario)


def test_missing_authority_file_is_no_reason_to_trust_everybody(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        for text in ("", "junk"):
            api.ca_file.write_text(text)
            await refused(api, api.token(), IssuanceUnavailableError)
        api.ca_file.unlink()
        await refused(api, api.token(), IssuanceUnavailableError)
        assert api.reviews == []

    in_cluster(tmp_path, scenario)


def test_huge_answer_is_not_read(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=201, headers={"Content-Type": "application/json"})
            await response.prepare(request)
            try:
                while True:
                    await response.write(b" " * 65_536)
            except ConnectionError:
                return response

        api.answer = answer
        assert "longer than" in await refused(api, api.token())

    in_cluster(tmp_path, scenario)


def test_slow_server_is_not_waited_for(tmp_path: Path) -> None:
    """Neither for its headers nor for the rest of its body."""

    async def scenario(api: KubeApi) -> None:
        async def silent(_request: web.Request) -> web.Response:
            await asyncio.sleep(60)
            raise AssertionError

        async def dripping(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=201, headers={"Content-Type": "application/json"})
            await response.prepare(request)
            try:
                while True:
                    await response.write(b" ")
                    await asyncio.sleep(0.02)
            except ConnectionError:
                return response

        for api.answer in (silent, dripping):
            with pytest.raises(IssuanceUnavailableError, match="within"):
                await KubernetesAttestor(api.settings(), timeout_seconds=0.3).attest(api.token())

    in_cluster(tmp_path, scenario)


def test_unreachable_server_is_unavailable(tmp_path: Path) -> None:
    async def scenario(api: KubeApi) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"https://127.0.0.1:{taken.getsockname()[1]}"
            await refused(api, api.token(), IssuanceUnavailableError, url=url)

    in_cluster(tmp_path, scenario)


def test_strangers_cannot_flood_the_api_server(tmp_path: Path) -> None:
    """So many at a time, so many that wait, and the others are told to come again."""

    async def scenario(api: KubeApi) -> None:
        asked, full, all_there = 0, asyncio.Event(), asyncio.Event()

        async def answer(_request: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            if asked == MAX_AT_ONCE:
                full.set()
            await all_there.wait()
            return failure(503, "ServiceUnavailable", "x")

        api.answer = answer
        attestor, token = KubernetesAttestor(api.settings(), timeout_seconds=60), api.token()
        tasks = [asyncio.create_task(attestor.attest(token)) for _ in range(MAX_AT_ONCE + MAX_WAITING)]
        await full.wait()
        with pytest.raises(IssuanceUnavailableError, match="too many"):
            await attestor.attest(token)
        assert asked == MAX_AT_ONCE
        all_there.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, IssuanceUnavailableError) for result in results)
        api.answer = None
        assert await attestor.attest(token) == RUNNER

    in_cluster(tmp_path, scenario)


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/vnd.kubernetes.protobuf", "application/yaml"]
)
def test_refuses_answer_in_another_form(tmp_path: Path, media_type: str) -> None:
    async def scenario(api: KubeApi) -> None:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(status=201, body=answer_of(), content_type=media_type)

        async def packed(_request: web.Request) -> web.Response:
            headers = {"Content-Encoding": "gzip"}
            return web.Response(status=201, body=b"x", content_type="application/json", headers=headers)

        for api.answer in (answer, packed):
            await refused(api, api.token())

    in_cluster(tmp_path, scenario)


@pytest.mark.parametrize(
    "url",
    [
        "http://kubernetes.default.svc",
        "https://",
        "https://user@host",
        "https://user:pass@host",
        "https://host?a=b",
        "https://host#a",
        "unix:///x",
        "kubernetes",
        "",
        "https://host:port",
    ],
)
def test_settings_refuse_other_urls(url: str) -> None:
    with pytest.raises(AttestationError):
        ApiServer.parse(url, Path("ca"), Path("token"), AUDIENCE)


def test_settings_refuse_an_empty_audience() -> None:
    """It would ask about the API server's own audience, which every pod's token has."""
    with pytest.raises(AttestationError):
        ApiServer.parse("https://host", Path("ca"), Path("token"), "")


# ---------------------------------------------------------------- what the answer says


USER = user_of(
    {
        "sub": "system:serviceaccount:agents:runner",
        "jti": "x",
        "kubernetes.io": {
            "namespace": "agents",
            "node": {"name": "node-1", "uid": "n"},
            "pod": {"name": POD, "uid": UID},
            "serviceaccount": {"name": "runner", "uid": "s"},
        },
    }
)
GOOD = {"authenticated": True, "user": USER, "audiences": [AUDIENCE]}


def answer_of(**changes: Any) -> bytes:
    status = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    return json.dumps(review({"token": "a.b.c", "audiences": [AUDIENCE]}, status)).encode()


def user(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**USER, **changes}.items() if value is not ...}


def extra(**changes: Any) -> dict[str, Any]:
    named = {
        f"authentication.kubernetes.io/{name.replace('_', '-')}": value for name, value in changes.items()
    }
    return user(extra={name: value for name, value in {**USER["extra"], **named}.items() if value is not ...})


def test_answer_reads_as_the_pod() -> None:
    assert PodIdentity.parse(answer_of(), AUDIENCE) == RUNNER
    assert PodIdentity.parse(answer_of(error=""), AUDIENCE) == RUNNER
    assert PodIdentity.parse(answer_of(audiences=["other", AUDIENCE]), AUDIENCE) == RUNNER


@pytest.mark.parametrize(
    "changes",
    [
        {"authenticated": ...},
        {"authenticated": False},
        {"authenticated": "true"},
        {"authenticated": 1},
        {"error": "token lookup failed"},
        {"error": None},
        {"error": 7},
        {"audiences": ...},
        {"audiences": []},
        {"audiences": None},
        {"audiences": AUDIENCE},
        {"audiences": ["other"]},
        {"audiences": [AUDIENCE, 7]},
        {"audiences": {AUDIENCE: True}},
        {"user": ...},
        {"user": None},
        {"user": {}},
        {"user": []},
    ],
)
def test_refuses_answer_that_is_not_a_plain_yes(changes: dict[str, Any]) -> None:
    """Authenticated with an error beside it, without our audience, or of another type."""
    with pytest.raises(AttestationError):
        PodIdentity.parse(answer_of(**changes), AUDIENCE)


@pytest.mark.parametrize(
    "name",
    [
        ...,
        None,
        "",
        7,
        "admin",
        "system:admin",
        "system:node:node-1",
        "system:serviceaccount:agents",
        "system:serviceaccount:agents:",
        "system:serviceaccount::runner",
        "system:serviceaccount:agents:runner:x",
        "system:serviceaccount:agents:runner\n",
        " system:serviceaccount:agents:runner",
        "System:serviceaccount:agents:runner",
        "system:serviceaccount:agents:../../agent/triage",
        "system:serviceaccount:agents:runner/x",
        "system:serviceaccount:agents:..",
        "system:serviceaccount:agents:-runner",
        "system:serviceaccount:Agents:runner",
        "system:serviceaccount:agents.x:runner",
        "system:serviceaccount:agents:" + "a" * 254,
        "system:serviceaccount:" + "a" * 64 + ":runner",
        "system:serviceaccount:billing:runner",
        "oidc:system:serviceaccount:agents:runner",
    ],
)
def test_refuses_user_who_is_not_that_service_account(name: object) -> None:
    """Another form, another namespace than that of the groups, or a path into the identities of others."""
    with pytest.raises(AttestationError):
        PodIdentity.parse(answer_of(user=user(username=name)), AUDIENCE)


@pytest.mark.parametrize(
    "groups",
    [
        ...,
        None,
        [],
        ["system:authenticated"],
        ["system:serviceaccounts"],
        ["system:serviceaccounts:agents"],
        ["system:serviceaccounts", "system:serviceaccounts:billing"],
        "system:serviceaccounts",
        [7],
    ],
)
def test_refuses_person_with_the_name_of_a_service_account(groups: object) -> None:
    """A cluster that also trusts an OpenID Provider without a prefix: the groups cannot be claimed there."""
    with pytest.raises(AttestationError):
        PodIdentity.parse(answer_of(user=user(groups=groups)), AUDIENCE)


@pytest.mark.parametrize("member", ["pod_name", "pod_uid"])
@pytest.mark.parametrize(
    "value",
    [..., None, [], "x", [""], ["x", "x"], ["x", "y"], [7], ["x\n"], ["X_"], ["x" * 254], [None], [["x"]]],
)
def test_refuses_answer_without_exactly_one_pod(member: str, value: object) -> None:
    with pytest.raises(AttestationError):
        PodIdentity.parse(answer_of(user=extra(**{member: value})), AUDIENCE)


@pytest.mark.parametrize("value", [..., None, [], {}])
def test_refuses_answer_without_extra(value: object) -> None:
    with pytest.raises(AttestationError):
        PodIdentity.parse(answer_of(user=user(extra=value)), AUDIENCE)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        answer_of()[:-1],
        answer_of() * 2,
        b"\xef\xbb\xbf" + answer_of(),
        answer_of().replace(b'"authenticated": true', b'"authenticated": false, "authenticated": true'),
        answer_of().replace(b"TokenReview", b"Status"),
        answer_of().replace(b"k8s.io/v1", b"k8s.io/v1beta1"),
        answer_of() + b" " * MAX_ANSWER,
        b"[" * 10_000,
        b'{"kind": NaN}',
    ],
)
def test_refuses_answer_that_has_not_one_reading(answer: bytes) -> None:
    with pytest.raises(AttestationError) as caught:
        PodIdentity.parse(answer, AUDIENCE)
    assert caught.value.__cause__ is None


def test_account_whose_id_would_be_too_long_has_none() -> None:
    pod = PodIdentity("n" * 63, "a" * 253, POD, UID)
    with pytest.raises(AttestationError):
        pod.workload(TrustDomain.parse("mesh.example"))


def test_question_is_about_one_token_and_our_audience() -> None:
    assert json.loads(token_review("a.b.c", AUDIENCE))["spec"] == {"token": "a.b.c", "audiences": [AUDIENCE]}


def test_attestor_shows_no_token(tmp_path: Path) -> None:
    api = KubeApi(tmp_path)
    api.base = "https://127.0.0.1:1"
    settings = api.settings()
    assert api.token_file.read_text() not in repr(settings) + repr(KubernetesAttestor(settings))
