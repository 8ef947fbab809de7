"""Certificates in a row: split as they stand, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.der import MAX_CERTIFICATES, split_der
from identity.errors import CertificateError
from tests.test_x509_svid import issue

LEAF = issue()


@pytest.mark.parametrize("count", [0, 1, 2, MAX_CERTIFICATES])
def test_a_row_is_split_as_it_was_joined(count: int) -> None:
    assert split_der(LEAF * count) == (LEAF,) * count


def test_a_short_one_is_split_too() -> None:
    assert split_der(b"\x30\x00\x30\x01\x00") == (b"\x30\x00", b"\x30\x01\x00")


@pytest.mark.parametrize(
    "data",
    [
        LEAF[:-1],
        LEAF + b"\x00",
        b"\x00" + LEAF,
        LEAF + b"\x30",
        b"\x31\x00",
        b"\x30\x80",
        b"\x30\x83\x00\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x82\xff\xff",
        LEAF * (MAX_CERTIFICATES + 1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CertificateError):
        split_der(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_split_without_loss_or_refused(data: bytes) -> None:
    try:
        parts = split_der(data)
    except CertificateError:
        return
    assert b"".join(parts) == data
