"""What a process runs, as far as it says anything about the process.

- The SHA-256 of an executable tells one program from another. An interpreter's tells nothing: every Python
  agent runs the same file, and what it does is in a script that the kernel does not name.
- An interpreter is known by its content first, so that a copy with another name is still one, then by its
  name. Who is taken for one by mistake has no hash and is refused; the other mistake would attest a stranger.
- What is larger than 256 MiB has no hash either.
"""

import hashlib
import re
from typing import Final

MAX_EXECUTABLE: Final = 256 * 1024 * 1024

# The entry points and libraries that an interpreter cannot do without, as the dynamic linker or the program
# itself spells them. Within a row, all must be there.
_MARKS: Final = (
    (b"libpython3.",),
    (b"\0Py_BytesMain\0",),
    (b"libpypy",),
    (b"_ZN4node5Start",),
    (b"DENO_DIR",),
    (b"BUN_INSTALL",),
    (b"libjli.so",),
    (b"\0JLI_Launch\0",),
    (b"JavaMain", b"-XX:Flags="),
    (b"\0ruby_run_node\0",),
    (b"libruby",),
    (b"\0perl_parse\0",),
    (b"libperl.so",),
    (b"PHP_INI_SCAN_DIR",),
    (b"LUA_INIT",),
    (b"TCL_LIBRARY",),
    (b"BusyBox v",),
    (b"Toybox",),
    # A POSIX shell: the prompt of its traces, and the index of `getopts`.
    (b"OPTIND", b"PS4"),
    # The dynamic linker, which runs any program that it is given.
    (b"--inhibit-cache", b"--library-path"),
    (b"musl libc (", b"--library-path"),
)
_LONGEST: Final = max(len(mark) for row in _MARKS for mark in row)
_NAME: Final = re.compile(
    r"(python|pypy|perl|ruby|php|lua|luajit|tclsh|wish|node|nodejs|deno|bun|java|guile|R|Rscript|mono|dotnet"
    r"|erl|beam\.smp|elixir|escript|sh|bash|dash|ash|zsh|ksh|mksh|fish|csh|tcsh|busybox|toybox|gdb"
    r"|qemu-[a-z0-9_]+(-static)?|ld-linux[a-z0-9._-]*|ld-musl[a-z0-9._-]*|ld-[0-9.]+\.so)[0-9.]*"
)
_DELETED: Final = " (deleted)"


class ExecutableReading:
    """An executable that is read piece by piece."""

    def __init__(self, path: str) -> None:
        """Begin with the path that the kernel names, which is only believed where it says "interpreter"."""
        self._size = 0
        self._sha256 = hashlib.sha256()
        self._tail = b""
        self._missing = {mark for row in _MARKS for mark in row}
        self._is_known = is_interpreter_name(path)

    @property
    def is_over(self) -> bool:
        """Say that nothing further can change the answer."""
        return self._is_known or self._size > MAX_EXECUTABLE

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self._size += len(piece)
        self._sha256.update(piece)
        window = self._tail + piece
        self._missing -= {mark for mark in self._missing if mark in window}
        self._tail = window[-_LONGEST:]
        self._is_known = self._is_known or any(self._missing.isdisjoint(row) for row in _MARKS)

    def sha256(self) -> str | None:
        """Return the hash, or None where it tells nothing."""
        return None if self.is_over or self._size == 0 else self._sha256.hexdigest()


def is_interpreter_name(path: str) -> bool:
    """Say whether a file has the name of an interpreter."""
    return _NAME.fullmatch(path.removesuffix(_DELETED).rpartition("/")[2]) is not None
