"""Several DER values in a row, as the Workload API sends certificates (SPIFFE Workload API section 5.2.1)."""

from typing import Final

from identity.errors import CertificateError

MAX_CERTIFICATES: Final = 64

_SEQUENCE: Final = 0x30
_LONG: Final = 0x80
# A certificate of more than 64 KiB is none that anybody of ours accepts.
_MAX_LENGTH_BYTES: Final = 2


def split_der(data: bytes) -> tuple[bytes, ...]:
    """Return the sequences that stand in a row.

    Raises:
        CertificateError: if anything else stands between them or after them, or they are too many.
    """
    found: list[bytes] = []
    at = 0
    while at < len(data):
        end = _end(data, at)
        found.append(data[at:end])
        at = end
        if len(found) > MAX_CERTIFICATES:
            raise CertificateError(f"more than {MAX_CERTIFICATES} certificates in a row")
    return tuple(found)


def _end(data: bytes, at: int) -> int:
    head = data[at : at + 2]
    if len(head) < 2 or head[0] != _SEQUENCE:
        raise CertificateError("not certificates in a row")
    length, start = head[1], at + 2
    if length >= _LONG:
        count = length - _LONG
        if not 1 <= count <= _MAX_LENGTH_BYTES:
            raise CertificateError("a certificate of a length that is not accepted")
        start += count
        length = int.from_bytes(data[at + 2 : start])
    if start + length > len(data):
        raise CertificateError("a certificate that is cut off")
    return start + length
