"""The policy lock: which Rego may run embedded, and what stands in the way of any other."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from authz.config import PolicyConfig
from authz.errors import PolicyLoadError
from authz.policy import admission, modules
from authz.policy.admission import admit
from authz.policy.embedded import engine_version
from authz.policy.engines import configured_lock, engine_loader
from authz.policy.grants import Grants
from authz.policy.lock import PolicyLock, require_locked
from authz.policy.modules import LOCK_FILE, MAX_LOCK_BYTES, Module, Modules, read_lock, read_modules
from authz.policy.opa_check import Question, check_policy
from authz.policy.portability import Portability
from authz.policy.portability_tree import Finding
from tests.policy_questions import GRANTS_FILE, READ, demo_grants

SHIPPED = modules.shipped_modules()
LOCK = PolicyLock(SHIPPED.digest, 1520, "0" * 64, ("rvm",), engine_version(), "1.22.0")


def test_what_is_written_is_read() -> None:
    assert PolicyLock.parse(LOCK.to_bytes()) == LOCK


def _changed(**changes: object) -> bytes:
    members = {**json.loads(LOCK.to_bytes()), **changes}
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"lock",
        LOCK.to_bytes()[:-1],
        LOCK.to_bytes() + b" ",
        LOCK.to_bytes().replace(b'","', b'", "', 1),
        LOCK.to_bytes().replace(b'"opa"', b'"opa":"1","opa"'),
        _changed(more=1),
        _changed(version="deputy.lock/v2"),
        _changed(policy="A" * 64),
        _changed(policy=SHIPPED.digest[:-1]),
        _changed(corpus=""),
        _changed(cases=0),
        _changed(cases=1.5),
        _changed(cases=2**53),
        _changed(runtimes=[]),
        _changed(runtimes=["rvm", "rvm"]),
        _changed(runtimes=["rvm", "engine"]),
        _changed(runtimes=["wasm"]),
        _changed(runtimes=[["rvm"]]),
        _changed(runtimes="rvm"),
        _changed(opa="1.22.0\n"),
        _changed(regorus=""),
    ],
)
def test_a_lock_that_we_did_not_write_is_refused(data: bytes) -> None:
    with pytest.raises(PolicyLoadError, match="the policy lock"):
        PolicyLock.parse(data)


def test_rego_without_a_lock_does_not_run_embedded() -> None:
    with pytest.raises(PolicyLoadError, match=r"without a policy lock: .*deputy policy check --lock"):
        require_locked(SHIPPED, None, engine_version())


def test_changed_rego_does_not_run_embedded() -> None:
    first, *rest = SHIPPED.modules
    changed = Modules.of([Module(first.name, first.text + " "), *rest])

    with pytest.raises(PolicyLoadError, match=r"not the one that the policy lock is about: run it on OPA"):
        require_locked(changed, LOCK, engine_version())


def test_another_regorus_than_the_one_that_was_tried_does_not_run_it() -> None:
    with pytest.raises(PolicyLoadError, match=r"made with regorus '0\.12\.0', and here is '0\.13\.0'"):
        require_locked(SHIPPED, replace(LOCK, regorus="0.12.0"), "0.13.0")


def test_changed_grants_need_no_new_lock() -> None:
    changed = Grants.parse(GRANTS_FILE.read_bytes().replace(b"class: write", b"class: destroy"))

    assert changed.digest != demo_grants().digest
    assert admit(SHIPPED, demo_grants(), LOCK) == admit(SHIPPED, changed, LOCK) == "rvm"


def test_rego_that_is_locked_and_not_portable_does_not_run_embedded() -> None:
    """A lock alone is not enough: a corpus never asks everything."""
    wrong = Modules.of([Module("p.rego", "package deputy\ndecision := lower(input.phase)\n")])

    with pytest.raises(PolicyLoadError, match=r"p\.rego:2: builtin 'lower'"):
        admit(wrong, demo_grants(), replace(LOCK, policy=wrong.digest))


def test_a_runtime_that_was_not_tried_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyLoadError, match=r"needs regorus' runtime 'rvm' .*proves it on engine only"):
        admit(SHIPPED, demo_grants(), replace(LOCK, runtimes=("engine",)))
    slower = Portability("engine", (Finding("p.rego", 7, "default function"),))
    monkeypatch.setattr(admission, "portability", lambda *_: slower)
    with pytest.raises(PolicyLoadError, match=r"'engine' \(p\.rego:7: default function\)"):
        admit(SHIPPED, demo_grants(), LOCK)


# ---- where it lies


def _load(config: PolicyConfig) -> None:
    async def run() -> None:
        async with engine_loader(config) as load:
            load(demo_grants())

    asyncio.run(run())


def test_the_shipped_policy_runs_embedded() -> None:
    lock = configured_lock(PolicyConfig())

    assert lock is not None
    assert lock.policy == SHIPPED.digest
    _load(PolicyConfig())


def test_a_directory_of_ones_own_has_its_own_lock(opa_binary: Path, tmp_path: Path) -> None:
    allow = (
        'decision := {"effect": "allow", "reasons": [], "obligations": {}} if input.agent.name == "triage"'
    )
    (tmp_path / "own.rego").write_text(f"package deputy\n{allow}\n")
    config = PolicyConfig(rego=tmp_path)
    with pytest.raises(PolicyLoadError, match="without a policy lock"):
        _load(config)

    question = Question("the question", demo_grants(), READ)
    report = asyncio.run(check_policy(read_modules(tmp_path), [question], opa_binary))
    (tmp_path / LOCK_FILE).write_bytes(report.lock().to_bytes())
    _load(config)

    (tmp_path / "own.rego").write_text(f"package deputy\n{allow}\n# changed\n")
    with pytest.raises(PolicyLoadError, match="not the one that the policy lock is about"):
        _load(config)


def test_the_shipped_lock_says_nothing_of_other_rego(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_bytes(modules.shipped_lock() or b"")
    (tmp_path / "own.rego").write_text("package deputy\ndecision := 1\n")

    with pytest.raises(PolicyLoadError, match="not the one"):
        _load(PolicyConfig(rego=tmp_path))


def test_a_lock_file_is_read_within_bounds(tmp_path: Path) -> None:
    assert read_lock(tmp_path) is None
    (tmp_path / LOCK_FILE).write_bytes(b"x" * (MAX_LOCK_BYTES + 1))
    with pytest.raises(PolicyLoadError, match="is larger than"):
        read_lock(tmp_path)
    (tmp_path / LOCK_FILE).unlink()
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(PolicyLoadError, match="cannot read"):
        read_lock(tmp_path)
