"""Write docs/reference/cli.md from the commands; `--check` says whether it is current."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from authz.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
WIDTH = 100

HEAD = """# The command line

`deputy` reads its configuration from `--config FILE`, else from the file that `DEPUTY_CONFIG` names, else
from `./deputy.yaml`. Data goes to standard output; errors, hints and progress go to standard error. An error
is one sentence that says what to do.

| exit code | means |
|---|---|
| 0 | done; allowed |
| 1 | an error: it could not be done, or not be decided |
| 2 | denied, or a person's approval is needed |
| 3 | findings: a log that is not what was written, a policy that is not portable, a broken rule |
| 4 | unknown: no such decision, a federated bundle that could not be fetched yet |
| 64 | the command line cannot be read |
| 130 | Ctrl-C |

| `-o` | prints |
|---|---|
| `table` | what people read; its form may change |
| `json`, `yaml` | all there is; members are added, never renamed |
| `jsonl` | the same, one JSON object a line |
| `name` | ids alone, one a line |

Colour is for terminals only; `--no-color`, or `NO_COLOR` in the environment, switches it off. Text that comes
from a caller is printed without control characters, so that a log cannot steer a terminal.

How to use them: [the tutorial](../tutorial.md), [why was I denied?](../how-to/why-was-i-denied.md),
[replace the keys of the authority](../how-to/rotate-keys.md).

"""


def page() -> str:
    """Return the page's text."""
    return HEAD + "\n".join(_sections(typer.main.get_command(app), "deputy", None))


def _sections(command: Any, path: str, parent: Any) -> Iterator[str]:  # noqa: ANN401 - Typer gives them no public type
    """Describe a command by its own help, then those below it."""
    name = path.rpartition(" ")[2]
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH)
    text = command.get_help(context)
    yield f"{'#' * min(path.count(' ') + 2, 3)} {path}\n\n```text\n{text.rstrip()}\n```\n"
    for verb, below in getattr(command, "commands", {}).items():
        yield from _sections(below, f"{path} {verb}", context)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is not current: run {__file__}"
        )
    PAGE.write_text(page(), encoding="utf-8")
