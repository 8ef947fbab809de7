"""Rego in this process, by regorus; the only file that imports it.

- Only a policy that may run here does: the portability walk and the policy lock say so before (admission.py).
- The compiled program and the data are loaded once; a call sets its input and nothing else.
- A machine belongs to the thread that made it, from its first question to its end (one that is let go by
  another thread raises wherever that thread happens to be): each thread makes and keeps its own.
- An evaluation that fails, or gives nothing, is an error, and an error is a denial; so is a panic of the
  engine, which Python does not count among the exceptions. A machine that panicked is not asked again.
- Two runtimes: Rvm, and the slower Engine where the walk says that Rvm would differ silently.
- The last answers about token exchange and about lists are remembered, by the SHA-256 of the whole question,
  beside the machine that gave them: one policy with one set of data, and no builtin that is admitted here
  sees a clock, a random number or the network. A task asks the same again for each token, and lists again and
  again; a call has arguments, a start of a task a new name, and neither is remembered. An agent fills a share
  of the memory and no more.
"""

import hashlib
import itertools
import json
import marshal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from typing import Any, Final

from authz.errors import PolicyLoadError, PolicyShapeError, PolicyUnavailableError
from authz.policy.grants import NO_CLASSES, Grants
from authz.policy.modules import Modules, entry_point, without_answer
from authz.policy.names import asked_names, in_batches, read_visible
from authz.policy.port import Query
from authz.policy.portability import Runtime
from authz.policy.revision import Revision
from authz.policy.verdict import Verdict
from identity.fair_cache import FairCache

try:
    import regorus
except ImportError:  # a platform without a wheel
    regorus = None

# Inputs larger than this are no calls; the inspector has refused them before.
MAX_INPUT_BYTES: Final = 4 << 20

PACKAGE: Final = "gordon-to-regorus"

Ask = Callable[[str, str], str]
"""An entry point and an input as JSON to one answer as JSON; belongs to the thread that made it."""


_REMEMBERED: Final = 4096
_REMEMBERED_OF_AGENT: Final = 512
_REMEMBERED_LISTS: Final = 1024
_REMEMBERED_LISTS_OF_AGENT: Final = 128


@dataclass(frozen=True, slots=True)
class _Machine:
    """A compiled policy, and what it answered last."""

    ask: Ask
    answers: FairCache[bytes, str] = field(
        default_factory=lambda: FairCache(_REMEMBERED, _REMEMBERED_OF_AGENT), repr=False
    )
    lists: FairCache[bytes, bytes] = field(
        default_factory=lambda: FairCache(_REMEMBERED_LISTS, _REMEMBERED_LISTS_OF_AGENT), repr=False
    )


class _Machines(threading.local):
    """The machines of one thread, by the serial number of their policy, the oldest first."""

    def __init__(self) -> None:
        self.kept: dict[int, _Machine] = {}


# A policy and the one before it: more than two are alive in tests only.
_KEPT: Final = 2
_MACHINES: Final = _Machines()
_SERIALS: Final = itertools.count()

_ENCODE: Final = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode


def require_regorus() -> None:
    """Refuse to run without the engine.

    Raises:
        PolicyLoadError: if there is no wheel of it here.
    """
    if regorus is None:
        raise PolicyLoadError(
            "no embedded Rego engine on this platform: set policy.engine to opa, or install gordon-to-regorus"
        )


def engine_version() -> str:
    """Name the build of regorus: a policy lock is about one build.

    Raises:
        PolicyLoadError: if it is not here, or came from somewhere else than the package that we pin.
    """
    require_regorus()
    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise PolicyLoadError(f"a regorus of unknown origin is installed: install {PACKAGE}") from error


def syntax_trees(modules: Modules) -> list[Mapping[str, Any]]:
    """Return regorus' syntax tree of each module, with its source.

    Raises:
        PolicyLoadError: if a module cannot be read.
    """
    require_regorus()
    try:
        engine = regorus.Engine()
        for module in modules.modules:
            engine.add_policy(module.name, module.text)
        trees: list[Mapping[str, Any]] = json.loads(engine.get_ast_as_json())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise PolicyLoadError(f"the embedded engine cannot read the policy: {_place(error)}") from error
    return trees


class EmbeddedPolicy:
    """One policy with one set of data; it never changes, a reload makes another."""

    def __init__(self, modules: Modules, grants: Grants, runtime: Runtime = "rvm") -> None:
        """Compile the policy.

        Raises:
            PolicyLoadError: if it does not compile, or the engine is not here.
        """
        require_regorus()
        self._data = grants.canonical.decode()
        self._sources = [(module.name, module.text) for module in modules.modules]
        self._revision = str(Revision(modules.digest, grants.digest))
        self._payload = grants.payload_classes()
        self._tools = grants.tool_names()
        self._compile = self._engine if runtime == "engine" else self._rvm
        self._serial = next(_SERIALS)
        self._entries = list(modules.entry_points)
        self._machine()

    @property
    def revision(self) -> str:
        """Name policy and data."""
        return self._revision

    @property
    def ready(self) -> bool:
        """It answers as long as the process does."""
        return True

    def payload_classes(self, service: str) -> frozenset[str]:
        """Return the classes of data that have a rule on this service."""
        return self._payload.get(service, NO_CLASSES)

    def tool_names(self, service: str) -> tuple[str, ...]:
        """Return the names of the tools that this service offers."""
        return self._tools.get(service, ())

    async def activate(self) -> None:
        """Make the machine of this thread, so that the first question need not wait for it."""
        self._machine()

    async def maintain(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to let go."""

    async def decide(self, query: Query) -> Verdict:
        """Answer one question.

        Raises:
            PolicyUnavailableError: if the evaluation fails.
            PolicyShapeError: if the answer is not one.
        """
        agent = _remembered_for(query)
        if agent is None:
            return _verdict(self._ask(query), self._revision)
        answers, asked = self._machine().answers, _digest(query)
        answer = answers.get(asked)
        if answer is None:
            answer = self._ask(query)
            answers.put(asked, answer, agent)
        return _verdict(answer, self._revision)

    async def visible(self, query: Query) -> frozenset[str]:
        """Return which names of a list are visible.

        Raises:
            PolicyUnavailableError: if the evaluation fails.
            PolicyShapeError: if the list is too long, or the answer is not one.
        """
        names = asked_names(query)
        lists, asked = self._machine().lists, _digest(query)
        shown = lists.get(asked)
        if shown is None:
            answers = [
                read_visible(self.evaluate(question), batch) for question, batch in in_batches(query, names)
            ]
            found = frozenset().union(*answers)
            # One byte a name: what a stranger's server calls its tools is no size of ours.
            shown = bytes(name in found for name in names)
            if (agent := _presenter(query)) is not None:
                lists.put(asked, shown, agent)
        return frozenset(compress(names, shown))

    def evaluate(self, query: Mapping[str, object]) -> object:
        """Return the policy's answer as it is.

        Raises:
            PolicyUnavailableError: if the evaluation fails.
            PolicyShapeError: if there is no answer.
        """
        return _read(self._ask(query))

    def _ask(self, query: Mapping[str, object]) -> str:
        text = _input(query)
        entry = entry_point(query)
        if entry not in self._entries:
            raise without_answer(entry)
        try:
            return self._machine().ask(entry, text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            # It answers the next question as before; a new one for each failure would let whoever finds a
            # question that fails have us compile at each call.
            raise PolicyUnavailableError(f"the policy failed: {_first_line(error)}") from error
        except BaseException as error:
            # After a panic it would fail for ever, and nobody knows what else it kept.
            _MACHINES.kept.pop(self._serial, None)
            raise PolicyUnavailableError(f"the policy failed: {_first_line(error)}") from error

    def _machine(self) -> _Machine:
        kept = _MACHINES.kept
        if self._serial not in kept:
            try:
                kept[self._serial] = _Machine(self._compile())
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                raise PolicyLoadError(f"the policy does not compile: {_place(error)}") from error
            while len(kept) > _KEPT:
                del kept[next(iter(kept))]
        return kept[self._serial]

    def _rvm(self) -> Ask:
        program = regorus.Program.compile_from_modules(self._data, self._sources, self._entries)
        machine = regorus.Rvm()
        machine.load_program(program)
        machine.set_data_json(self._data)

        def ask(entry: str, text: str) -> str:
            machine.set_input_json(text)
            return str(machine.execute_entry_point(entry))

        return ask

    def _engine(self) -> Ask:
        engine = regorus.Engine()
        for name, text in self._sources:
            engine.add_policy(name, text)
        engine.add_data_json(self._data)

        def ask(entry: str, text: str) -> str:
            engine.set_input_json(text)
            return str(engine.eval_rule_as_json(entry))

        return ask


def _remembered_for(query: Mapping[str, object]) -> str | None:
    """Return the agent to whose share the answer belongs; None if it is not remembered."""
    return _presenter(query) if query.get("phase") == "exchange" else None


def _presenter(query: Mapping[str, object]) -> str | None:
    match query.get("agent"):
        case {"name": str(agent)}:
            return agent
    return None


def _digest(query: Mapping[str, object]) -> bytes:
    """Name a whole question: two that differ in anything, also in a type, have two names."""
    try:
        # Of plain values version 2 writes all and nothing else; JSON takes three times as long.
        return hashlib.sha256(marshal.dumps(dict(query), 2)).digest()
    except ValueError as error:
        raise PolicyUnavailableError("a question that is not JSON") from error


def _read(text: str) -> object:
    try:
        answer: object = json.loads(text)
    except ValueError as error:
        raise PolicyUnavailableError("the policy answered what is not JSON") from error
    if answer == "<undefined>":  # the engine's word for nothing
        raise PolicyShapeError("the policy has no answer")
    return answer


@lru_cache(maxsize=256)  # nearly all answers are one of a few texts
def _verdict(text: str, revision: str) -> Verdict:
    return Verdict.parse(_read(text), revision)


def _input(query: Mapping[str, object]) -> str:
    try:
        text = _ENCODE(query)
    except (ValueError, TypeError, RecursionError) as error:
        raise PolicyUnavailableError("a question that is not JSON") from error
    if len(text) > MAX_INPUT_BYTES:
        raise PolicyUnavailableError("a question that is too large to be asked")
    return text


def _first_line(error: BaseException) -> str:
    """Return what went wrong without what was asked: the rest of the text may quote the input."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _place(error: BaseException) -> str:
    """Return an error about the policy itself on one line; the engine writes many."""
    told = str(error).partition("Stack backtrace")[0]
    lines = [line.strip(" |^\r") for line in told.splitlines()]
    return " ".join(line for line in lines if line)[:400] or type(error).__name__
