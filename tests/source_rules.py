"""The rules of the house that a syntax tree can show; each function gives the offences of one file.

- A file is core unless coverage leaves it out (pyproject.toml, tool.coverage.run.omit): what may do I/O and
  what is not measured are one list.
- An offence is one line of text, `path:line: sentence`; no offence is an empty list.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# The first row is STYLE 2; the others are other doors to the same world.
NOT_IN_CORE = frozenset(
    {"grpc", "asyncio", "socket", "os", "logging", "time", "random"}
    | {"aiohttp", "anyio", "http.client", "http.server", "multiprocessing", "secrets", "select", "shutil"}
    | {"signal", "sqlalchemy", "sqlite3", "ssl", "starlette", "subprocess", "sys", "tempfile"}
    | {"typer", "urllib.request", "uuid", "uvicorn"}
)
CLOCK_CALLS = frozenset({"now", "utcnow", "today"})
# Reads the files of a policy once, before anything is served, and gives a value.
LOADERS = ("authz/policy/modules.py",)
# Only these may be asynchronous: the flow awaits its two ports (STYLE 2), and what implements a port.
ASYNC_CORE = (
    "authz/check.py",
    "authz/admin.py",
    "authz/agentgateway/service.py",
    "authz/answers/guard.py",
    "authz/kuadrant/lists.py",
    "authz/policy/embedded*.py",
)
READER = "authz/request.py"  # of CheckRequest
# What others ask becomes a question of the one flow here: an AuthZEN evaluation, a message of agentgateway.
TRANSLATORS = frozenset({"authz/authzen/question.py", "authz/agentgateway/question.py"})
WRITER = "authz/response.py"  # of CheckResponse and of its parts
WRITTEN = frozenset({"CheckResponse", "OkHttpResponse", "DeniedHttpResponse"})
# Evidence of a decision, and the one file that makes it.
MAKERS = {"Grant": "authz/decision.py", "Permit": "authz/admin.py"}

_IGNORE = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b", re.IGNORECASE)
_EXPLAINED = re.compile(
    r"#\s*(?:noqa: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*|type: ignore\[[a-z-]+(?:, ?[a-z-]+)*\])"
    r"\s*[#-]?\s*\w.{5,}"
)


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path below the root, its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> "Source":
        return cls(path, text, ast.parse(text, path))

    def at(self, node: ast.AST, sentence: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {sentence}"


@cache
def _settings() -> tuple[tuple[str, ...], tuple[str, ...]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        omit = tomllib.load(file)["tool"]["coverage"]["run"]["omit"]
    generated = tuple(glob for glob in omit if "/pb/" in glob)
    return generated, tuple(glob for glob in omit if glob not in generated)


def is_generated(path: str) -> bool:
    return any(fnmatchcase(path, glob) for glob in _settings()[0]) and not path.endswith("__init__.py")


def is_shell(path: str) -> bool:
    return any(fnmatchcase(path, glob) for glob in _settings()[1])


def is_core(path: str) -> bool:
    return not is_generated(path) and not is_shell(path)


def shipped() -> list[Source]:
    """Every file of ours that the wheel holds, without what is generated."""
    paths = sorted(path for package in ("authz", "identity") for path in (ROOT / package).rglob("*.py"))
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return [Source.parse(name, (ROOT / name).read_text("utf-8")) for name in names if not is_generated(name)]


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module that is imported anywhere in the file; `from a import b` gives a and a.b."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield node, base
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)


def _is_in(module: str, names: frozenset[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1))


def wrong_direction(source: Source) -> list[str]:
    """`authz` imports `identity`, never back; both by full names; neither imports the tests."""
    found = []
    for node, module in imports(source):
        if module.startswith("."):
            found.append(source.at(node, f"relative import {module!r}"))
        elif source.path.startswith("identity/") and _is_in(module, frozenset({"authz"})):
            found.append(source.at(node, f"identity imports {module!r}"))
        elif _is_in(module, frozenset({"tests", "tools"})):
            found.append(source.at(node, f"the product imports {module!r}"))
    return found


def impure(source: Source) -> list[str]:
    """Core does no I/O, imports no shell, is synchronous, and gets the time as an argument."""
    if not is_core(source.path):
        return []
    found = []
    for node, module in imports(source):
        path = module.replace(".", "/")
        if _is_in(module, NOT_IN_CORE):
            found.append(source.at(node, f"core imports {module!r}"))
        elif is_shell(f"{path}.py") or is_shell(f"{path}/__init__.py"):
            found.append(source.at(node, f"core imports the shell {module!r}"))
    found += [
        source.at(node, f"core calls {ast.unparse(node.func)!r}")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _reads_clock_or_disk(node) and source.path not in LOADERS
    ]
    if not any(fnmatchcase(source.path, glob) for glob in ASYNC_CORE):
        found += [
            source.at(node, f"core is asynchronous in {node.name!r}") for node in _asynchronous(source.tree)
        ]
    return sorted(set(found))


def _reads_clock_or_disk(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id="open" | "input" | "print"):
            return True
        case ast.Attribute(
            value=ast.Name(id="datetime" | "date") | ast.Attribute(attr="datetime" | "date"), attr=name
        ):
            return name in CLOCK_CALLS
        case ast.Attribute(value=value, attr="read_text" | "read_bytes" | "write_text" | "write_bytes"):
            # Data of the package itself is as fixed as its code.
            return not ast.unparse(value).lstrip("(").startswith("files(")
    return False


def _asynchronous(tree: ast.Module) -> list[ast.AsyncFunctionDef]:
    """Every `async def` outside of a Protocol."""
    protocols = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Protocol") for base in node.bases)
    ]
    declared = {id(method) for protocol in protocols for method in protocol.body}
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and id(node) not in declared
    ]


def more_than_a_docstring(source: Source) -> list[str]:
    """An `__init__.py` holds a docstring and nothing else."""
    if not source.path.endswith("__init__.py"):
        return []
    if ast.get_docstring(source.tree) is None:
        return [f"{source.path}:1: no docstring"]
    return [source.at(node, "something beside the docstring") for node in source.tree.body[1:]]


def forged_evidence(source: Source) -> list[str]:
    """Only a decision makes a Grant or a Permit; the names are kept, so that this can be seen."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            found += [
                source.at(node, f"{a.name} under another name")
                for a in node.names
                if a.name in MAKERS and a.asname
            ]
        elif isinstance(node, ast.Call):
            named = [ast.unparse(node.func), *(ast.unparse(item) for item in node.args if _is_new(node.func))]
            made = {name.split(".")[-1] for name in named}
            found += [
                source.at(node, f"a {name} made outside of the decision")
                for name, maker in MAKERS.items()
                if name in made and source.path != maker
            ]
    return found


def _is_new(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "__new__"


def foreign_message(source: Source) -> list[str]:
    """One file reads CheckRequest, one file builds CheckResponse; translators ask in Envoy's words."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.path != WRITER and _last_name(node.func) in WRITTEN:
            found.append(source.at(node, f"{ast.unparse(node.func)!r} is built in {WRITER} only"))
        names = (
            [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else [_last_name(node)]
        )
        if "CheckRequest" in names and source.path not in {READER, *TRANSLATORS}:
            found.append(source.at(node, f"CheckRequest is read in {READER} only"))
    return found


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def too_long(source: Source) -> list[str]:
    """A file stops at 400 lines, a function at 60 (decorators and docstring counted)."""
    found = []
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES:
        found.append(f"{source.path}:1: {lines} lines, more than {MAX_FILE_LINES}")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(
                    source.at(node, f"{node.name!r} has {length} lines, more than {MAX_FUNCTION_LINES}")
                )
    return found


def unexplained_ignore(source: Source) -> list[str]:
    """Every `noqa` and `type: ignore` has a code and a reason."""
    comments = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
        if token.type == tokenize.COMMENT
    ]
    return [
        f"{source.path}:{comment.start[0]}: {comment.string!r} has no code or no reason"
        for comment in comments
        if _IGNORE.search(comment.string) and not _EXPLAINED.search(comment.string)
    ]
