"""Check digits: what tells an identifier from a number that merely has its length.

- Each function takes characters that its rule has already found to be of the right form.
"""

from collections.abc import Iterable
from typing import Final

_DIGITS: Final = b"0123456789"
_SINGLE: Final = bytes.maketrans(_DIGITS, bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(_DIGITS, bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_ODD_TAX: Final = (
    1,
    0,
    5,
    7,
    9,
    13,
    15,
    17,
    19,
    21,
    2,
    4,
    18,
    20,
    11,
    3,
    6,
    8,
    12,
    14,
    16,
    10,
    22,
    25,
    24,
    23,
)


def luhn(digits: str) -> bool:
    """Say whether a card number is right (ISO/IEC 7812-1, annex B)."""
    data = digits.encode()
    return (sum(data[-1::-2].translate(_SINGLE)) + sum(data[-2::-2].translate(_DOUBLED))) % 10 == 0


def iban(compact: str) -> bool:
    """Say whether an IBAN in upper case, without spaces, is right (ISO 13616-1, ISO/IEC 7064 MOD 97-10)."""
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def nir(digits: str) -> bool:
    """Say whether the two last digits of 15 are the key of the others."""
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def cpf(digits: str) -> bool:
    """Say whether the two last digits of 11 are right; eleven times the same digit is never given out."""
    return len(set(digits)) > 1 and all(
        _weighted(digits[:count], range(count + 1, 1, -1)) * 10 % 11 % 10 == int(digits[count])
        for count in (9, 10)
    )


def ahv(digits: str) -> bool:
    """Say whether the last of 13 digits is right, as that of an EAN is."""
    return _weighted(digits, (1, 3) * 7) % 10 == 0


def codice_fiscale(code: str) -> bool:
    """Say whether the last of 16 upper-case characters is right."""
    values = [int(char, 36) - (10 if char.isalpha() else 0) for char in code[:15]]
    total = sum(_ODD_TAX[value] for value in values[::2]) + sum(values[1::2])
    return total % 26 == ord(code[15]) - ord("A")


def _weighted(digits: str, weights: Iterable[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))
