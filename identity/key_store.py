"""The authority's keys on disk.

- One file of mode 0600 in a directory of mode 0700, both of the user that runs us; anything else is refused.
- No link is followed, neither as the directory nor as the file.
- The file appears whole or not at all: it is written beside, synced, and linked to its name, which fails if
  another process was faster; then both use that one's keys, and there is never a second authority.
- A file that is truncated, or was made for another trust domain, is refused and never replaced: new keys
  would silently make everybody a stranger.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from identity.authority import Authority
from identity.certificate_authority import CertificateAuthority
from identity.errors import CertificateError, KeyMaterialError
from identity.keys import SigningKey
from identity.spiffe import TrustDomain
from identity.strict_json import StrictJsonError, loads

FILE_NAME: Final = "authority.json"

_VERSION: Final = 1
_MEMBERS: Final = frozenset({"version", "trust_domain", "ca_certificate", "ca_key", "jwt_key", "token_key"})
_MAX_FILE: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_or_create_authority(directory: Path, trust_domain: TrustDomain, now: datetime) -> Authority:
    """Read the authority of a data directory, or make one where there is none yet.

    Raises:
        KeyMaterialError: with a sentence that says what to do, if directory or file are not ours alone, are
            damaged, or belong to another trust domain.
    """
    with _private_directory(directory) as handle:
        data = _read(handle, directory)
        if data is None:
            _write(handle, directory, _encode(Authority.generate(trust_domain, now)))
            data = _read(handle, directory)
    if data is None:
        raise KeyMaterialError(f"{_named(directory)} vanished while it was made: start again")
    return _decode(data, directory, trust_domain)


@contextmanager
def _private_directory(directory: Path) -> Iterator[int]:
    """Open the directory, so that all that follows is about this one, whatever its path comes to mean."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KeyMaterialError(
            f"cannot open the data directory {str(directory)!r}: {error.strerror}"
        ) from error
    try:
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            raise KeyMaterialError(
                f"the data directory {str(directory)!r} is another user's: use one of your own"
            )
        if status.st_mode & _OTHERS:
            raise KeyMaterialError(f"the data directory {str(directory)!r} is open to others: chmod 700 it")
        yield handle
    finally:
        os.close(handle)


def _read(handle: int, directory: Path) -> bytes | None:
    """Return the bytes of the file, or None if there is none."""
    try:
        # Not blocking, so that a pipe of this name is refused below and not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(FILE_NAME, flags, dir_fd=handle)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyMaterialError(f"cannot open {_named(directory)}: {error.strerror}") from error
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise KeyMaterialError(
                f"{_named(directory)} is not a file of the user that runs this: move it away"
            )
        if status.st_mode & _OTHERS:
            raise KeyMaterialError(f"{_named(directory)} is open to others: chmod 600 it, and renew its keys")
        with os.fdopen(file, "rb", closefd=False) as reader:
            return reader.read(_MAX_FILE + 1)
    except OSError as error:
        raise KeyMaterialError(f"cannot read {_named(directory)}: {error.strerror}") from error
    finally:
        os.close(file)


def _write(handle: int, directory: Path, data: bytes) -> None:
    """Put the file in place, whole, unless there is one by now."""
    beside = f".{FILE_NAME}.{os.getpid()}.{os.urandom(8).hex()}"
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=handle)
        try:
            with os.fdopen(file, "wb") as writer:
                writer.write(data)
                writer.flush()
                os.fsync(file)
            os.link(beside, FILE_NAME, src_dir_fd=handle, dst_dir_fd=handle, follow_symlinks=False)
        except FileExistsError:
            pass  # Another process was faster; its authority is the one.
        finally:
            os.unlink(beside, dir_fd=handle)
        os.fsync(handle)
    except OSError as error:
        raise KeyMaterialError(f"cannot write {_named(directory)}: {error.strerror}") from error


def _encode(authority: Authority) -> bytes:
    document = {
        "version": _VERSION,
        "trust_domain": authority.trust_domain.name,
        "ca_certificate": authority.ca.certificate_pem().decode("ascii"),
        "ca_key": authority.ca.key.reveal_pem().decode("ascii"),
        "jwt_key": authority.jwt_key.reveal_pem().decode("ascii"),
        "token_key": authority.token_key.reveal_pem().decode("ascii"),
    }
    return json.dumps(document, indent=1).encode("ascii") + b"\n"


def _decode(data: bytes, directory: Path, trust_domain: TrustDomain) -> Authority:
    parts = _parts(data, directory)
    try:
        ca = CertificateAuthority.parse_pem(parts["ca_certificate"], parts["ca_key"])
        authority = Authority(
            ca, SigningKey.parse_pem(parts["jwt_key"]), SigningKey.parse_pem(parts["token_key"])
        )
    except (KeyMaterialError, CertificateError) as error:
        raise KeyMaterialError(
            f"{_named(directory)} is damaged ({error}): restore it from a backup"
        ) from error
    if {authority.trust_domain.name, parts["trust_domain"].decode("ascii")} != {trust_domain.name}:
        raise KeyMaterialError(
            f"{_named(directory)} is of the trust domain {authority.trust_domain.name!r}, "
            f"not of {trust_domain.name!r}: use another data directory"
        )
    return authority


def _parts(data: bytes, directory: Path) -> dict[str, bytes]:
    try:
        document = loads(data)
    except StrictJsonError as error:
        # Without the cause: it would hold the document, and so the keys, in a traceback's locals.
        raise KeyMaterialError(
            f"{_named(directory)} is damaged ({error}): restore it from a backup"
        ) from None
    if not isinstance(document, dict) or document.keys() != _MEMBERS or not _is_version(document["version"]):
        raise KeyMaterialError(f"{_named(directory)} is not of this version: use another data directory")
    texts = {name: document[name] for name in _MEMBERS - {"version"}}
    if not all(isinstance(text, str) and text.isascii() for text in texts.values()):
        raise KeyMaterialError(f"{_named(directory)} is damaged: restore it from a backup")
    return {name: text.encode("ascii") for name, text in texts.items()}


def _is_version(value: object) -> bool:
    return type(value) is int and value == _VERSION  # the type too: True equals 1


def _named(directory: Path) -> str:
    return f"the key file {str(directory / FILE_NAME)!r}"
