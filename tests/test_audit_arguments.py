"""The trace of a call's arguments: keyed, canonical, and never the value."""

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.audit.arguments import ArgumentsKey, hmac_arguments
from authz.errors import StoreError
from authz.store.arguments_key import load_or_create_arguments_key
from identity.canonical import canonical_arguments

KEY = ArgumentsKey(bytes(range(32)))


def test_trace_is_hmac_sha256_over_canonical_arguments() -> None:
    expected = hmac.new(bytes(range(32)), b'{"a":1,"b":[true,null,1.5]}', hashlib.sha256).hexdigest()

    assert hmac_arguments(KEY, canonical_arguments({"b": [True, None, 1.5], "a": 1})) == expected


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_trace_is_that_of_the_standard_library(secret: bytes, data: bytes) -> None:
    assert hmac_arguments(ArgumentsKey(secret), data) == hmac.digest(secret, data, "sha256").hex()


def test_another_key_leaves_another_trace() -> None:
    assert hmac_arguments(ArgumentsKey(b"k" * 32), b"{}") != hmac_arguments(KEY, b"{}")


def test_key_does_not_print_and_has_one_length() -> None:
    for text in (repr(KEY), str(KEY), f"{KEY}"):
        assert text == "ArgumentsKey(redacted)"
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        ArgumentsKey(b"k" * 31)


def test_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "arguments.key"
    first = load_or_create_arguments_key(path, b"a" * 32)
    second = load_or_create_arguments_key(path, b"b" * 32)

    assert first.reveal() == second.reveal() == b"a" * 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["arguments.key"]


@pytest.mark.parametrize("content", [b"", b"a" * 31, b"a" * 33])
def test_refuses_a_key_file_that_is_cut_or_grown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "arguments.key"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)

    with pytest.raises(StoreError, match="does not hold 32 bytes"):
        load_or_create_arguments_key(path, b"b" * 32)
    assert path.read_bytes() == content


def test_refuses_a_key_file_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "arguments.key"
    load_or_create_arguments_key(path, b"a" * 32)
    path.chmod(0o640)

    with pytest.raises(StoreError, match="chmod 600"):
        load_or_create_arguments_key(path, b"b" * 32)


def test_refuses_a_place_where_no_key_can_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        load_or_create_arguments_key(tmp_path / "nowhere" / "arguments.key", b"a" * 32)
