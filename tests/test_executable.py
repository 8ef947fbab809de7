"""What an executable says about its process: a hash, or nothing where it is an interpreter."""

import hashlib

import pytest

from identity import executable
from identity.executable import ExecutableReading, is_interpreter_name


def read(content: bytes, path: str = "/opt/agent", piece: int = 7) -> str | None:
    reading = ExecutableReading(path)
    for start in range(0, len(content), piece):
        reading.feed(content[start : start + piece])
    return reading.sha256()


@pytest.mark.parametrize(
    "name",
    [
        "python",
        "python3",
        "python3.11",
        "pypy3",
        "perl",
        "perl5.36",
        "ruby3.1",
        "node",
        "nodejs",
        "java",
        "sh",
        "dash",
        "bash",
        "busybox",
        "lua5.4",
        "deno",
        "bun",
        "qemu-aarch64-static",
        "ld-linux-x86-64.so.2",
        "ld-musl-x86_64.so.1",
        "ld-2.31.so",
    ],
)
def test_an_interpreter_is_known_by_its_name(name: str) -> None:
    assert is_interpreter_name(f"/usr/bin/{name}")
    assert read(b"\x7fELF", f"/usr/bin/{name}") is None
    assert read(b"\x7fELF", f"/usr/bin/{name} (deleted)") is None


@pytest.mark.parametrize(
    "name",
    ["agent", "node-exporter", "pythonic", "shell", "javac-agent", "my-python", "envoy", "a b (deleted)"],
)
def test_another_program_is_known_by_its_hash(name: str) -> None:
    assert not is_interpreter_name(f"/opt/{name}")
    assert read(b"\x7fELF", f"/opt/{name}") == hashlib.sha256(b"\x7fELF").hexdigest()


@pytest.mark.parametrize("row", executable._MARKS, ids=lambda row: repr(row[0]))
def test_a_renamed_executable_is_known_by_its_content(row: tuple[bytes, ...]) -> None:
    filler = b"\x7fELF" + b"x" * 100
    content = filler + filler.join(row) + filler

    assert {read(content, piece=piece) for piece in (1, 7, 64, 10_000)} == {None}
    if len(row) > 1:
        # One mark of several is found in other programs, too.
        assert read(filler + row[0] + filler) is not None


def test_what_is_larger_than_the_limit_has_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "MAX_EXECUTABLE", 10)

    assert read(b"x" * 10) is not None
    assert read(b"x" * 11) is None


def test_nothing_has_no_hash() -> None:
    assert read(b"") is None
