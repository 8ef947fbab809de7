"""Rego in this process, by regorus; the only file that imports it.

- Only a policy that may run here does: the portability walk and the policy lock say so before (admission.py).
- The compiled program and the data are loaded once; a call sets its input and nothing else.
- Program and machine belong to the thread that made them, so each thread makes its own.
- An evaluation that fails, or gives nothing, is an error, and an error is a denial; so is a panic of the
  engine, which Python does not count among the exceptions.
"""

import json
import threading
from collections.abc import Mapping
from typing import Final

from authz.errors import PolicyLoadError, PolicyShapeError, PolicyUnavailableError
from authz.policy.grants import Grants
from authz.policy.modules import DECISION, Modules
from authz.policy.port import Query
from authz.policy.revision import Revision
from authz.policy.verdict import Verdict

try:
    import regorus
except ImportError:  # a platform without a wheel
    regorus = None

# Inputs larger than this are no calls; the inspector has refused them before.
MAX_INPUT_BYTES: Final = 4 << 20

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


class EmbeddedPolicy:
    """One policy with one set of data; it never changes, a reload makes another."""

    def __init__(self, modules: Modules, grants: Grants) -> None:
        """Compile the policy.

        Raises:
            PolicyLoadError: if it does not compile, or the engine is not here.
        """
        require_regorus()
        self._data = grants.canonical.decode()
        self._sources = [(module.name, module.text) for module in modules.modules]
        self._revision = str(Revision(modules.digest, grants.digest))
        self._local = threading.local()
        self._machine()

    @property
    def revision(self) -> str:
        """Name policy and data."""
        return self._revision

    @property
    def ready(self) -> bool:
        """It answers as long as the process does."""
        return True

    async def activate(self) -> None:
        """Nothing to do: it answers since it was made."""

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
        return Verdict.parse(self.evaluate(query), self._revision)

    def evaluate(self, query: Mapping[str, object]) -> object:
        """Return the policy's answer as it is.

        Raises:
            PolicyUnavailableError: if the evaluation fails.
            PolicyShapeError: if there is no answer.
        """
        text = _input(query)
        try:
            machine = self._machine()
            machine.set_input_json(text)
            answer = json.loads(machine.execute())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise PolicyUnavailableError(f"the policy failed: {_first_line(error)}") from error
        if answer == "<undefined>":  # the engine's word for nothing
            raise PolicyShapeError("the policy has no answer")
        return answer

    def _machine(self) -> "regorus.Rvm":
        machine = getattr(self._local, "machine", None)
        if machine is None:
            machine = self._local.machine = self._compiled()
        return machine

    def _compiled(self) -> "regorus.Rvm":
        try:
            program = regorus.Program.compile_from_modules(self._data, self._sources, [DECISION])
            machine = regorus.Rvm()
            machine.load_program(program)
            machine.set_data_json(self._data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise PolicyLoadError(f"the policy does not compile: {_first_line(error)}") from error
        return machine


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
