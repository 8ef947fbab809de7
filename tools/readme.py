"""Writes the parts of README.md that follow from the code; with `--demo` also the real output of the demo.

- A part stands between two comments that name it; the text outside is left alone.
- tests/docs compares each part with what this writes, so that README.md cannot fall behind.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from authz.config import Config
from authz.config_sections import Section

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REQUIRED = "required"
# Containers of the schema whose keys are the operator's own.
NAMED = {"services": "<service>"}


def configuration() -> str:
    """Return the table of all keys of deputy.yaml."""
    schema = Config.model_json_schema()
    rows = [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in keys(schema)]
    return "\n".join(["| Key | Default | Meaning |", "|---|---|---|", *rows])


def keys(schema: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return each key of a JSON Schema with its default and its meaning, in the schema's order."""
    return list(_members(schema, schema, ""))


def _members(
    node: Mapping[str, Any], schema: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str, str]]:
    for name, member in node["properties"].items():
        key = f"{prefix}{name}"
        inner, below = _object_in(member, schema, name)
        if inner is None:
            yield key, _default(name, node), _meaning(member)
        else:
            yield from _members(inner, schema, f"{key}{below}.")


def _object_in(
    member: Mapping[str, Any], schema: Mapping[str, Any], name: str
) -> tuple[Mapping[str, Any] | None, str]:
    """Return the object that a key holds, if it holds one, and what a key's name has between the two."""
    for choice in member.get("anyOf", [member]):
        inner = [(choice, ""), (choice.get("items", {}), "[]")]
        inner += [
            (node, f".{NAMED.get(name, '<name>')}") for node in choice.get("patternProperties", {}).values()
        ]
        for node, below in inner:
            if "$ref" in node:
                return schema["$defs"][node["$ref"].rpartition("/")[2]], below
    return None, ""


def _default(name: str, node: Mapping[str, Any]) -> str:
    if name in node.get("required", []):
        return REQUIRED
    # The schema leaves out what is made anew each time, such as a list.
    model = {section.__name__: section for section in _sections(Section)}[node["title"]]
    default = model.model_fields[name].get_default(call_default_factory=True)
    if default is None or default == "":
        return "none"
    return f"`{default}`" if isinstance(default, str | Path) else f"`{json.dumps(default)}`"


def _sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Walk the parts of the configuration, whichever file they are written in."""
    yield section
    for part in section.__subclasses__():
        yield from _sections(part)


def _meaning(member: Mapping[str, Any]) -> str:
    bounds = [choice for choice in member.get("anyOf", [member]) if "minimum" in choice]
    span = f" ({_span(bounds[0])})" if bounds else ""
    words = member.get("enum")
    span = f" ({', '.join(f'`{word}`' for word in words)})" if words else span
    return f"{member['description']}{span}"


def _span(bounds: Mapping[str, Any]) -> str:
    least, most = bounds["minimum"], bounds.get("maximum")
    return f"at least {least}" if most is None else f"{least} to {most}"


def commands() -> str:
    """Return the table of all commands."""
    from authz.cli import app  # noqa: PLC0415 - what runs the demo needs no commands

    rows = [
        f"| `deputy {name}` | {_sentence(command)} |" for name, command in leaves(typer.main.get_command(app))
    ]
    return "\n".join(["| Command | Does |", "|---|---|", *rows])


def leaves(command: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Walk the commands that do something."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, below in inner.items():
        yield from leaves(below, f"{name} {word}".strip())


def _sentence(command: object) -> str:
    return (getattr(command, "help", None) or "").strip().partition("\n")[0].removesuffix(".")


def demo_output(printed: str, directory: Path) -> str:
    """Return what the demo printed, without the folder of this machine."""
    lines = [line.rstrip() for line in printed.replace(f"{directory}/", "").splitlines()]
    return "\n".join(["```text output", *lines, "```"])


def run_demo() -> str:
    """Run the demo in a folder of its own, and return what it printed."""
    with tempfile.TemporaryDirectory(prefix="deputy-readme-") as name:
        directory = Path(name).resolve()
        done = subprocess.run(
            [sys.executable, "-m", "authz", "quickstart"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return demo_output(done.stdout, directory)


def part(text: str, name: str) -> str:
    """Return the part of a document that has this name.

    Raises:
        LookupError: if there is none.
    """
    found = _PART(name).search(text)
    if found is None:
        raise LookupError(f"README.md has no part {name!r}")
    return found[2].strip("\n")


def with_part(text: str, name: str, content: str) -> str:
    """Return a document with this part replaced."""
    part(text, name)
    return _PART(name).sub(lambda found: f"{found[1]}\n{content}\n\n{found[3]}", text)


def _PART(name: str) -> re.Pattern[str]:  # noqa: N802 - a pattern with a hole in it
    return re.compile(rf"(?s)(<!-- {name}: written by tools/readme.py -->\n)(.*?)(<!-- end -->)")


def main() -> None:
    """Write the parts into README.md."""
    text = README.read_text("utf-8")
    text = with_part(text, "configuration", configuration())
    text = with_part(text, "commands", commands())
    if "--demo" in sys.argv:
        text = with_part(text, "demo", run_demo())
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
