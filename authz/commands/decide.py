"""One question, asked of the policy that a configuration or a grants file names; nothing is written anywhere.

- A real OPA is asked as it is: what it lacks is not put there from here.
- Changes are tried on the embedded engine with changed grants; on a real OPA only with changed questions, for
  its data are not ours to change.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from authz.codes import Code, find_code
from authz.commands.question import Capture, PolicyInput
from authz.commands.replay import Replayed, replay
from authz.config import Config, PolicyConfig
from authz.errors import AuthzError, ConfigError
from authz.policy.engines import configured_modules, engine_loader
from authz.policy.explain import Explanation, Way, Who, explain, explain_refusal
from authz.policy.explain_changes import Trial, changed, sets_to_try, trials
from authz.policy.explain_question import Question
from authz.policy.grants import Grants
from authz.policy.live import Engine, Load, read_grants
from authz.policy.modules import Modules, shipped_modules
from authz.policy.verdict import Reason, Verdict
from identity.canonical import canonical_json, sha256_hex

# What makes an answer depend on more than the question and the data.
_OUTSIDE: Final = re.compile(
    r"\b(time\.now_ns|http\.send|rand\.intn|uuid\.rfc4122|opa\.runtime|net\.lookup_ip_addr)\b"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where policy, data and the service's keys are; `config` is None where only grants were named."""

    config: Config | None
    policy: PolicyConfig
    at: datetime | None = None
    asker: str | None = None

    @classmethod
    def of(
        cls, config: Config | None, grants: Path | None, at: datetime | None, asker: str | None
    ) -> "Place":
        """Take the configuration, with other grants where they are named.

        Raises:
            ConfigError: if a real OPA is to decide with grants that it does not have.
        """
        policy = PolicyConfig() if config is None else config.policy
        if grants is not None:
            if policy.opa is not None:
                raise ConfigError(
                    "--grants is for the embedded engine: OPA decides with the grants that it has"
                )
            policy = policy.model_copy(update={"grants": grants})
        return cls(config, policy, at, asker)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided; `question` is None where the call was refused before the policy was asked."""

    verdict: Verdict
    question: Question | None
    record: Mapping[str, Any] | None
    inexact: tuple[str, ...]


def answer(asked: PolicyInput | Capture, place: Place) -> Answer:
    """Decide.

    Raises:
        AuthzError: if it cannot be decided.
        IdentityError: if the service's keys cannot be read.
    """
    return asyncio.run(_with_engine(asked, place))


def explanation(asked: PolicyInput | Capture, place: Place) -> Explanation:
    """Decide, and explain.

    Raises:
        AuthzError: if it cannot be decided.
        IdentityError: if the service's keys cannot be read.
    """
    return asyncio.run(_explain(asked, place))


async def _with_engine(asked: PolicyInput | Capture, place: Place) -> Answer:
    grants = read_grants(place.policy.grants)
    async with engine_loader(place.policy) as load:
        return await _decide(asked, place, grants, load)


async def _decide(asked: PolicyInput | Capture, place: Place, grants: Grants, load: Load) -> Answer:
    engine = load(grants)
    try:
        outside = tuple(_outside(configured_modules(place.policy)))
        if isinstance(asked, PolicyInput):
            verdict = await engine.decide(asked.query)
            return Answer(verdict, _question(asked.query, grants), None, outside)
        if place.config is None:
            raise ConfigError("a CheckRequest takes --config: its token is verified with the service's keys")
        at = place.at or datetime.now(UTC)
        done = await replay(
            place.config, asked.data, engine, at=at, asker=place.asker, is_past=place.at is not None
        )
        question = None if done.query is None else _question(done.query, grants)
        return Answer(_verdict(done), question, done.record, (*done.inexact, *outside))
    finally:
        # At once, with nothing awaited between: an OPA engine that met other data would put ours there.
        await engine.close()


async def _explain(asked: PolicyInput | Capture, place: Place) -> Explanation:
    grants = read_grants(place.policy.grants)
    modules = configured_modules(place.policy)
    async with engine_loader(place.policy) as load:
        found = await _decide(asked, place, grants, load)
        about = _about(place, grants, modules, found.verdict)
        if found.question is None:
            record = found.record or {}
            return explain_refusal(
                found.verdict.reasons[0].code,
                str(record.get("detail") or ""),
                _who(record),
                _what(record),
                about,
                found.inexact,
            )
        ways = await _ways(found.question, found.verdict, load, may_change_grants=place.policy.opa is None)
    return explain(
        found.question,
        found.verdict,
        modules,
        shipped=modules.digest == shipped_modules().digest,
        ways=ways,
        policy=about,
        inexact=found.inexact,
    )


async def _ways(question: Question, verdict: Verdict, load: Load, *, may_change_grants: bool) -> list[Way]:
    """Try changes, the smallest sets first, and return the first sets of one size that help."""
    proposed = [trial for trial in trials(question, verdict) if may_change_grants or not trial.on_grants]
    # To load a policy takes longer than to ask it, and most changes are changes of the question.
    engines: dict[str, Engine] = {}
    try:
        for sets in sets_to_try(proposed):
            found = [way for tried in sets if (way := await _try(question, tried, load, engines)) is not None]
            helpful = [way for way in found if way.effect not in {"deny", verdict.effect}]
            if helpful:
                return helpful
        return []
    finally:
        for engine in engines.values():
            await engine.close()


async def _try(
    question: Question, tried: tuple[Trial, ...], load: Load, engines: dict[str, Engine]
) -> Way | None:
    other = changed(question, tried)
    canonical = canonical_json({"grants": other.grants})
    digest = sha256_hex(canonical)
    try:
        if digest not in engines:
            engines[digest] = load(Grants(canonical, digest))
        verdict = await engines[digest].decide(other.query)
    except AuthzError:  # a trial that cannot be made says nothing
        return None
    return Way(tuple(trial.change for trial in tried), verdict.effect)


def _question(query: Mapping[str, Any], grants: Grants) -> Question:
    data: Any = grants.data["grants"]
    return Question(query, data)


def _verdict(done: Replayed) -> Verdict:
    """Return the policy's verdict, or the refusal that came before it."""
    if done.verdict is not None:
        return done.verdict
    code = str(done.record["code"])
    known = find_code(code) or Code.DENIED
    reason = Reason(code, known.sentence, "", known.fix, "agent")
    return Verdict("deny", (reason,), {}, str(done.record.get("policy") or ""))


def _outside(modules: Modules) -> Iterator[str]:
    names = {
        match[1]
        for module in modules.modules
        for line in module.text.splitlines()
        for match in _OUTSIDE.finditer(line.partition("#")[0])
    }
    for name in sorted(names):
        yield f"the policy calls {name}, which answers differently at another time"


def _about(place: Place, grants: Grants, modules: Modules, verdict: Verdict) -> Mapping[str, object]:
    return {
        "revision": verdict.revision,
        "rego": "shipped" if place.policy.rego is None else str(place.policy.rego),
        "rego_digest": modules.digest,
        "grants": str(place.policy.grants),
        "grants_digest": grants.digest,
        "engine": place.policy.engine,
    }


def _who(record: Mapping[str, Any]) -> Who:
    human = record.get("human")
    return Who(
        human=f"{human['issuer']}#{human['subject']}" if human else None,
        groups=(),
        chain=tuple(hop["agent"] for hop in reversed(record.get("chain") or [])),
        peer=record.get("peer"),
        binding=record.get("binding"),
    )


def _what(record: Mapping[str, Any]) -> Mapping[str, object]:
    action, resource = record.get("action") or {}, record.get("resource") or {}
    return {
        "phase": "check",
        "protocol": action.get("protocol"),
        "method": action.get("method") or record.get("method"),
        "service": resource.get("service") or record.get("service"),
        "type": resource.get("type"),
        "name": resource.get("name"),
    }
