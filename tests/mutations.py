"""Changes of real input: what a fuzzer does, as hypothesis strategies."""

from hypothesis import strategies as st

# What tends to change the meaning of JSON and of protobuf.
_PIECES = [
    *(bytes([byte]) for byte in b'"\\{}[]:,\x00\x0a\xff\xef\x80 0e'),
    b'"name":"secret",',
    b'"method":"ping",',
    b'"Name":"secret",',
    b'"id":null,',
    b"\\u0000",
    b"\\ud800",
    b"\\u0061",
    b"\xef\xbb\xbf",
    b"\xe2\x80\x8b",
    b"NaN",
    b"1e999",
    b"[" * 70,
]


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Cut, double, overwrite or insert, a few times."""
    data = original
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 24)))
        piece = draw(
            st.sampled_from(_PIECES) | st.binary(max_size=4) | st.just(data[start:end] * 2) | st.just(b"")
        )
        data = data[:start] + piece + data[draw(st.sampled_from([start, end])) :]
    return data
