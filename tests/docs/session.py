"""The commands of one document, run as its reader would: in order, in one shell, in one directory.

- A block runs in bash; directory, variables and functions carry over to the next one, as in a terminal.
- A command that fails ends the session with what it printed. An `output` block is compared with what the
  command before it printed.
- What runs in the background is ended with the session, by its own process group.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.docs.blocks import Block
from tests.docs.masks import first_difference

SECONDS: Final = 90.0
_PROLOGUE: Final = 'set -eu -o pipefail; [ ! -f "$STATE" ] || . "$STATE"; set -a'
_EPILOGUE: Final = '{ export -p; declare -f; printf "cd %q\\n" "$PWD"; } >"$STATE"'


class BlockFailedError(AssertionError):
    """A block did not do what the document says."""


@dataclass(slots=True)
class Session:
    """One reader in one directory; `replace` is what the reader would write differently.

    Our own files are in `scratch`, so that nothing of ours is in the reader's way.
    """

    directory: Path
    scratch: Path
    replace: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    after: Callable[[], None] = lambda: None
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _number: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            _end(process)

    def run(self, blocks: Sequence[Block]) -> None:
        """Run the blocks of a document; what is no command, file or output is passed over."""
        printed: str | None = None
        for block in blocks:
            match block:
                case Block(instruction="file"):
                    self._write(block)
                case Block(instruction="output"):
                    _compare(block, printed)
                case Block(instruction="background"):
                    self._start(block)
                    self.after()
                case Block(instruction="") if block.is_command:
                    printed = self._run(block)
                    self.after()

    def _text(self, block: Block) -> str:
        text = block.text
        for shown, here in self.replace.items():
            text = text.replace(shown, here)
        return text

    def _write(self, block: Block) -> None:
        path = self.directory / block.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._text(block), encoding="utf-8")

    def _command(self, block: Block, epilogue: str = "") -> tuple[list[str], dict[str, str]]:
        self._number += 1
        script = self.scratch / f"{self._number:02}.{'py' if block.language == 'python' else 'sh'}"
        text = self._text(block)
        if block.language == "python":
            script.write_text(text, encoding="utf-8")
            text = f'python "{script}"'
            script = script.with_suffix(".sh")
        script.write_text(f"{_PROLOGUE}\n{text}\n{epilogue}\n", encoding="utf-8")
        # Nothing of this machine's settings but what programs need to start.
        environment = {
            "HOME": str(self.scratch),
            "LANG": "C.UTF-8",
            "STATE": str(self.scratch / "state"),
            **self.environment,
        }
        return ["bash", str(script)], {"PATH": os.environ["PATH"], **environment}

    def _run(self, block: Block) -> str:
        command, environment = self._command(block, _EPILOGUE)
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BlockFailedError(
                f"{block.place}: no end within {SECONDS:.0f} s: {error.output!r}"
            ) from None
        printed = done.stdout.decode("utf-8", "replace")
        if done.returncode != 0:
            raise BlockFailedError(f"{block.place} ended with {done.returncode}:\n{printed}")
        return printed

    def _start(self, block: Block) -> None:
        command, environment = self._command(block)
        log = self.scratch / f"{self._number:02}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._running.append(process)
        deadline = time.monotonic() + SECONDS
        while block.argument not in (printed := log.read_text("utf-8", "replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BlockFailedError(f"{block.place} did not say {block.argument!r}:\n{printed}")
            time.sleep(0.05)


def _compare(block: Block, printed: str | None) -> None:
    if printed is None:
        raise BlockFailedError(f"{block.place}: an output without a command before it")
    if difference := first_difference(block.text, printed):
        raise BlockFailedError(f"{block.place} is not what is printed: {difference}\n{printed}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
