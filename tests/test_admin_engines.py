"""Administration on both engines: its own entry point, and never an answer by the rules for calls."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from authz.admin import AdminRequest, admin_query, decide_admin
from authz.decision import Deny
from authz.errors import CodedError, PolicyLoadError, PolicyShapeError
from authz.policy.admission import portability
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import Module, Modules, shipped_modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy
from authz.policy.opa_bundle import bundle_modules
from authz.policy.opa_check import Question, check_policy
from authz.policy.opa_process import start_opa
from authz.policy.port import Policy
from authz.policy.portability import NotPortableError, Runtime
from tests.admin_world import AGENT, GRANTS, person, uri
from tests.policy_questions import READ

ALLOW = '{"effect": "allow", "reasons": [], "obligations": {}}'
OLGA = uri("olga")
REQUEST = AdminRequest("policy/reload")
ASKED = admin_query(person("olga"), REQUEST)
HELD = Grants.parse(GRANTS)
CALLS_ONLY = [Module("p.rego", f"package deputy\n\ndecision := {ALLOW}\n")]
ADMIN = f'package deputy.admin\n\ndecision := {ALLOW} if input.actor.kind == "human"\n'


def _embedded(modules: list[Module], runtime: Runtime = "rvm") -> EmbeddedPolicy:
    return EmbeddedPolicy(Modules.of(modules), HELD, runtime)


async def _on_opa(modules: Modules, opa: Path, directory: Path, query: Mapping[str, object]) -> str:
    with start_opa(opa, directory / "opa", modules) as process:
        client = OpaClient(OpaAddress(process.url, 10.0))
        try:
            policy = OpaPolicy(client, modules.digest, HELD)
            await policy.activate()
            try:
                return (await policy.decide(query)).effect
            except CodedError as error:
                return error.code.value
        finally:
            await client.close()


# ---- a policy without rules about administration


@pytest.mark.parametrize("runtime", ["rvm", "engine"])
def test_a_policy_for_calls_never_answers_about_administration(runtime: Runtime) -> None:
    policy = _embedded(CALLS_ONLY, runtime)

    assert asyncio.run(policy.decide(READ)).effect == "allow"
    for _ in range(3):
        with pytest.raises(PolicyShapeError, match="the policy has no answer"):
            policy.evaluate(ASKED)
    assert asyncio.run(policy.decide(READ)).effect == "allow"


def test_a_policy_for_calls_never_answers_about_administration_on_opa(
    opa_binary: Path, tmp_path: Path
) -> None:
    modules = Modules.of(CALLS_ONLY)

    assert asyncio.run(_on_opa(modules, opa_binary, tmp_path, ASKED)) == "DPT-POLICY-SHAPE"


def test_an_opa_with_an_older_directory_has_no_answer(
    opa_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rules for calls would have allowed it: they need not look at the version."""
    modules = Modules.of(CALLS_ONLY)
    *_, revision = bundle_modules(modules)
    lines = [line.partition(" if ")[0] for line in revision.text.splitlines() if not line.startswith("admin")]
    older = Module(revision.name, "\n".join(lines) + "\n")
    monkeypatch.setattr("authz.policy.opa_bundle.bundle_modules", lambda _: (*modules.modules, older))

    assert asyncio.run(_on_opa(modules, opa_binary, tmp_path, READ)) == "allow"
    assert asyncio.run(_on_opa(modules, opa_binary, tmp_path / "again", ASKED)) == "DPT-POLICY-SHAPE"


def test_without_rules_everybody_is_denied() -> None:
    answer = asyncio.run(decide_admin(_embedded(CALLS_ONLY), person("olga"), REQUEST))

    assert isinstance(answer, Deny)
    assert answer.code == "DPT-POLICY-SHAPE"


# ---- a policy of one's own with rules about it


@pytest.mark.parametrize("runtime", ["rvm", "engine"])
def test_each_question_has_its_own_entry_point(runtime: Runtime) -> None:
    calls = Module("p.rego", 'package deputy\n\ndecision := {"effect": "none"}\n')
    policy = _embedded([calls, Module("admin.rego", ADMIN)], runtime)

    for _ in range(2):
        assert policy.evaluate(READ) == {"effect": "none"}
        assert policy.evaluate(ASKED) == {"effect": "allow", "reasons": [], "obligations": {}}


def test_rules_about_administration_without_a_decision_do_not_load() -> None:
    nothing = Module("admin.rego", "package deputy.admin\n\nallow := true\n")

    with pytest.raises(PolicyLoadError, match="does not compile"):
        _embedded([*CALLS_ONLY, nothing])


@pytest.mark.parametrize(
    "head", ["package deputy.admin", "package deputy.admin # who may", "package deputy.admin\t"]
)
def test_the_package_is_recognised(head: str) -> None:
    module = Module("x.rego", f"# words\n{head}\nx := 1\n")

    assert Modules.of([module]).decides_administration


@pytest.mark.parametrize(
    "text",
    ["package deputy.administration", "package deputy", "# package deputy.admin", "package x.deputy.admin"],
)
def test_what_looks_like_the_package_is_not(text: str) -> None:
    assert not Modules.of([Module("x.rego", f"{text}\nx := 1\n")]).decides_administration


# ---- the portability check: neither side reads the rules of the other


@pytest.mark.parametrize(
    ("calls", "admin", "line"),
    [
        ("x if data.deputy.admin.decision", "", "p.rego:5"),
        ("x if count(data.deputy.admin.allowed) > 0", 'allowed contains "a"', "p.rego:5"),
        ("x if data.deputy.admin.f(input.phase)", "f(y) if y == 1", "p.rego:5"),
        ("y := 1", "x if data.deputy.y == 1", "admin.rego:5"),
        ("f(y) if y == 1", "x if data.deputy.f(input.action)", "admin.rego:5"),
    ],
)
def test_a_rule_that_is_asked_the_other_question_is_refused(calls: str, admin: str, line: str) -> None:
    modules = Modules.of(
        [Module("p.rego", f"{CALLS_ONLY[0].text}\n{calls}\n"), Module("admin.rego", f"{ADMIN}\n{admin}\n")]
    )

    with pytest.raises(NotPortableError) as caught:
        portability(modules, HELD)
    assert {str(finding) for finding in caught.value.findings} == {
        f"{line}: a rule of 'deputy.admin' from outside of it, or one of another package in it"
    }


def test_a_rule_that_is_called_as_the_package_is_refused() -> None:
    """On OPA it would answer, and embedded it would not."""
    rule = f'{CALLS_ONLY[0].text}\nadmin := {{"decision": {ALLOW}}}\n'

    with pytest.raises(NotPortableError, match=r"a rule of another package where 'deputy.admin' is"):
        portability(Modules.of([Module("p.rego", rule)]), HELD)


def test_types_in_the_package_are_those_of_its_own_question() -> None:
    """`input.actor.id` is text there, and who is meant may be nobody."""
    calls = CALLS_ONLY[0]
    for line, fits in (
        ('startswith(input.actor.id, "uid:")', True),
        ('startswith(input.target.human, "c")', False),
    ):
        admin = Module("admin.rego", f"{ADMIN}\nx if {line}\n")
        modules = Modules.of([calls, admin])
        if fits:
            assert portability(modules, HELD).runtime == "rvm"
        else:
            with pytest.raises(NotPortableError, match=r"admin\.rego:5: builtin 'startswith'"):
                portability(modules, HELD)


# ---- questions that no honest server asks


def _without(*path: str) -> Mapping[str, object]:
    query = {**admin_query(person("olga"), AdminRequest("agents/change", agent=AGENT, proposed=AGENT))}
    inner = query
    for name in path[:-1]:
        inner[name] = inner = {**inner[name]}  # type: ignore[dict-item]  # objects on the way
    del inner[path[-1]]
    return query


MALFORMED = {
    **{
        ".".join(path): _without(*path)
        for path in [
            ("actor",),
            ("actor", "kind"),
            ("actor", "id"),
            ("actor", "groups"),
            ("action",),
            ("target",),
            ("target", "agent"),
            ("target", "agent", "owner"),
            ("target", "proposed"),
            *[
                ("target", "proposed", name)
                for name in ("name", "ceiling", "hosts", "max_depth", "expires_at")
            ],
        ]
    },
    "no target of a release": {**ASKED, "action": "people/release", "target": {}},
    "no target of a containment": {**ASKED, "action": "workloads/contain", "target": {}},
    "an unknown action": {**ASKED, "action": "policy/forget"},
    "an unknown kind": {**ASKED, "actor": {"kind": "agent", "id": "uid:0", "groups": []}},
    "an id that is no text": {**ASKED, "actor": {"kind": "local", "id": None, "groups": []}},
    "groups that are text": {**ASKED, "actor": {"kind": "human", "id": "x", "groups": "platform"}},
    "an actor that is text": {**ASKED, "actor": "local"},
    "a truth for autonomous": {
        **ASKED,
        "action": "agents/change",
        "target": {
            "agent": {"name": "a", "owner": OLGA},
            "proposed": {"name": "a", "owner": OLGA, "autonomous": "true"},
        },
    },
}


def test_both_engines_say_the_same_to_what_is_no_question(opa_binary: Path) -> None:
    asked = [Question(name, HELD, query) for name, query in MALFORMED.items()]
    report = asyncio.run(check_policy(shipped_modules(), asked, opa_binary))

    assert report.disagreements == ()
    assert report.cases > 15


@pytest.mark.parametrize(
    "name", [name for name in MALFORMED if "." not in name or name.startswith("actor.k")]
)
def test_what_is_no_question_is_denied(name: str) -> None:
    policy: Policy = EmbeddedPolicy(shipped_modules(), HELD)

    assert asyncio.run(policy.decide(MALFORMED[name])).effect == "deny"
