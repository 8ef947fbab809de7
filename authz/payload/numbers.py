"""Numbers that identify: cards, bank accounts, persons. A form first, then the check digits.

- A number stands alone: between letters, digits or the parts of a UUID there is none, so hashes, ULIDs and
  timestamps are not taken for one.
- A card has 14 to 19 digits (those of 13 are no longer given out), in one piece or grouped as it is printed,
  begins as those of a known issuer do, and passes Luhn. One number in ten of those that begin so passes by
  chance; that is what a rule of this class has to live with.
- An IBAN has the length of its country and passes MOD 97-10; in one piece or in groups of four.
- National numbers are found only where their form or their check digits leave little doubt; a US SSN has no
  check digits, so only its form with dashes counts.
- A byte search for the shape (a digit is 0, a letter is a) goes before each pattern: most calls end there.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from authz.payload import check_digits
from authz.payload.text import Page, places

CLASSES: Final = frozenset({"card_number", "iban", "national_id"})

_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SHAPE: Final = bytes.maketrans(b"123456789" + _LETTERS, b"0" * 9 + b"a" * len(_LETTERS))
_SEPARATORS: Final = b" -."
_SEPARATED: Final = re.compile("[ .-]")
_BEFORE: Final = r"(?<![A-Za-z0-9_])(?<![0-9][.-])(?<![A-Za-z]-)"
_BEHIND: Final = r"(?![A-Za-z0-9_]|[.-][A-Za-z0-9])"


@dataclass(frozen=True, slots=True)
class Form:
    """A form that a number may have: the shapes that it begins with, and the pattern behind them.

    A text that has not even `dense`, with its separators left out, has none of the shapes.
    """

    dense: bytes
    shapes: tuple[bytes, ...]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, pattern: str, *shapes: bytes) -> "Form":
        """Put the pattern between the boundaries that every number has."""
        dense = min((shape.translate(None, _SEPARATORS) for shape in shapes), key=len)
        return cls(dense, shapes, re.compile(f"{_BEFORE}(?:{pattern}){_BEHIND}"))

    def found(self, text: str, shape: bytes) -> Iterator[str]:
        """Find what has the form, without separators."""
        for wanted in self.shapes:
            # Within a row of digits no number begins; behind the separator of a group one may.
            step = len(wanted) if wanted.isdigit() else 1
            for start in places(shape.find, wanted, step):
                if match := self.pattern.match(text, start):
                    yield _SEPARATED.sub("", match[0])


_CARD: Final = Form.of(
    r"[0-9]{14,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}",
    *(b"0" * 14, b"0000 0000 0000 0000", b"0000-0000-0000-0000", b"0000 000000 0000", b"0000-000000-0000"),
)
# Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Mir.
_ISSUERS: Final = re.compile(
    "4(?:[0-9]{15}|[0-9]{18})"
    "|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    "|3[47][0-9]{13}"
    "|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12,15}"
    "|3(?:0[0-5]|[689][0-9])[0-9]{11}"
    "|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    "|62[0-9]{14,17}"
    "|220[0-4][0-9]{12}"
)

_IBAN: Final = re.compile(
    "(?<![A-Za-z0-9+/=_-])([A-Za-z]{2}[0-9]{2}"
    r"([ -]?)[A-Za-z0-9]{4}(?:\2[A-Za-z0-9]{4}){1,6}(?:\2[A-Za-z0-9]{1,3})?)(?![A-Za-z0-9])"
)
_IBAN_SHAPE: Final = b"aa00"
_INNER: Final = (b"a", b"0")
# The IBAN registry (ISO 13616): how long the IBAN of each country is.
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    country: length
    for length, countries in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FK FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "BI DJ FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HU LB NI PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    )
    for country in countries.split()
}

_NATIONAL: Final[tuple[tuple[Form, Callable[[str], bool]], ...]] = (
    (  # United States, SSN: areas and groups that were never given out are left out.
        Form.of("(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}", b"000-00-0000"),
        lambda _: True,
    ),
    (  # United Kingdom, National Insurance number.
        Form.of(
            "(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
            "(?:[0-9]{6}| [0-9]{2} [0-9]{2} [0-9]{2} )[A-D]",
            *(b"aa000000a", b"aa 00 00 00 a"),
        ),
        lambda _: True,
    ),
    (  # France, NIR with its key: sex, year, month, place, order.
        Form.of(
            r"[12]( ?)[0-9]{2}\1(?:0[1-9]|1[0-2])\1[0-9]{2}\1[0-9]{3}\1[0-9]{3}\1[0-9]{2}",
            *(b"0" * 15, b"0 00 00 00 000 000 00"),
        ),
        check_digits.nir,
    ),
    (  # Italy, codice fiscale.
        Form.of("[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]", b"aaaaaa00a00a000a"),
        check_digits.codice_fiscale,
    ),
    (  # Switzerland, AHV number.
        Form.of(r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}", b"000.0000.0000.00"),
        check_digits.ahv,
    ),
    (  # Brazil, CPF.
        Form.of(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", b"000.000.000-00"),
        check_digits.cpf,
    ),
)

# One number in ten passes Luhn, and one in a hundred the other checks. Of so many that have the form and all
# fail, somebody made each by hand, so that we would look at them all.
_MAX_FAILURES: Final = 512


def find(page: Page, wanted: frozenset[str]) -> Iterator[str]:
    """Find which of the wanted classes there are."""
    shape = page.data.translate(_SHAPE)
    if "iban" in wanted and _IBAN_SHAPE in shape and _is_any(_ibans(page.text, shape), _is_iban):
        yield "iban"
    dense = shape.translate(None, _SEPARATORS)
    has_card_shape = "card_number" in wanted and _CARD.dense in dense
    if has_card_shape and _is_any(_cards(page.text, shape), check_digits.luhn):
        yield "card_number"
    if "national_id" in wanted and _has_national_id(page.text, shape, dense):
        yield "national_id"


def _is_any(candidates: Iterable[str], is_right: Callable[[str], bool]) -> bool:
    """Say whether one of the candidates is right, or whether there are too many to look at."""
    return any(is_right(candidate) or count == _MAX_FAILURES for count, candidate in enumerate(candidates))


def _cards(text: str, shape: bytes) -> Iterator[str]:
    return (digits for digits in _CARD.found(text, shape) if _ISSUERS.fullmatch(digits))


def _ibans(text: str, shape: bytes) -> Iterator[str]:
    for start in places(shape.find, _IBAN_SHAPE):
        # Most hits in base64 are within a word, and end here.
        match = None if shape[start - 1 : start] in _INNER else _IBAN.match(text, start)
        if match and match[1][:2].upper() in _IBAN_LENGTHS:
            yield _of_its_length(match[1].upper(), match[2])


def _of_its_length(text: str, separator: str) -> str:
    compact, length = _SEPARATED.sub("", text), _IBAN_LENGTHS[text[:2]]
    # A word behind an IBAN in groups may look like one group more.
    return compact[:length] if separator and length % 4 == 0 else compact


def _is_iban(compact: str) -> bool:
    return len(compact) == _IBAN_LENGTHS[compact[:2]] and check_digits.iban(compact)


def _has_national_id(text: str, shape: bytes, dense: bytes) -> bool:
    return any(
        form.dense in dense and _is_any(form.found(text, shape), is_right) for form, is_right in _NATIONAL
    )
