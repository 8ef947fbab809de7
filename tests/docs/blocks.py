"""The fenced blocks of a document, and what their info strings ask of the tests.

- The first word is the language. `sh` and `python` are commands: a test runs them, or they say why none does.
- After it at most one instruction: `no-run: REASON`, `background: TEXT` (leave it running once it has printed
  TEXT), `full` (`make test-full` runs it), `gate` (`.ci/run` runs it), `file: NAME` (the block is that file),
  `output` (what the command before prints), `case: NAME` (a test of the document's own compares it).
- An instruction that is not known is an error, so that a typing error cannot excuse a block.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
COMMANDS: Final = frozenset({"sh", "bash", "shell", "console", "python", "py"})
# A block without a language is a picture or a form, but not if its first word is one of these.
_PROGRAMS: Final = frozenset(
    {"apt", "cd", "cp", "curl", "deputy", "docker", "envoy", "export", "git", "helm", "install", "istioctl"}
    | {"kubectl", "make", "mkdir", "opa", "openssl", "pip", "python", "python3", "sudo", "$"}
)
_FENCE: Final = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)")
# Each, and whether something follows after a colon.
_INSTRUCTIONS: Final = {
    **dict.fromkeys(("no-run", "background", "file", "case"), True),
    **dict.fromkeys(("full", "gate", "output"), False),
}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `argument` is what stands after the instruction's colon."""

    path: str
    line: int
    language: str
    instruction: str
    argument: str
    text: str

    @property
    def is_command(self) -> bool:
        first = self.text.split(maxsplit=1)[:1]
        speaks = self.language in COMMANDS or (not self.language and not _PROGRAMS.isdisjoint(first))
        return speaks and self.instruction != "file"

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def documents() -> list[str]:
    """Return every document of the repository that a reader may follow."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "mesh-config").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks_of(path: str) -> list[Block]:
    """Read the blocks of a document of the repository."""
    return list(parse_blocks(path, (ROOT / path).read_text("utf-8")))


def parse_blocks(path: str, text: str) -> Iterator[Block]:
    """Read the fenced blocks of a text (CommonMark section 4.5, without block quotes)."""
    fence = info = indent = ""
    start, inside = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            if re.fullmatch(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}} *", line.removeprefix(indent)):
                yield _block(path, start, info, "\n".join(inside) + "\n")
                fence = ""
            else:
                inside.append(line.removeprefix(indent))
        elif opened := _FENCE.fullmatch(line):
            fence, info, indent = opened["fence"], opened["info"].strip(), opened["indent"]
            start, inside = number, []
        elif line.lstrip().startswith(("```", "~~~")):
            raise ValueError(f"{path}:{number}: no fence, for its info string holds a backtick: {line!r}")
    if fence:
        raise ValueError(f"{path}:{start}: a block without an end")


def _block(path: str, line: int, info: str, text: str) -> Block:
    language, _, rest = info.partition(" ")
    instruction, colon, argument = (part.strip() for part in rest.partition(":"))
    if instruction and _INSTRUCTIONS.get(instruction) is not bool(colon and argument):
        raise ValueError(f"{path}:{line}: not an instruction to the tests: {rest!r}")
    return Block(path, line, language.lower(), instruction, argument, text)
