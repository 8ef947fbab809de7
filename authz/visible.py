"""Characters that a person sees where they stand.

- Not seen is what Unicode does not print (controls, directions, what has no width), and what is printed as
  nothing: variation selectors, fillers, the blank of Braille. Two texts that differ in these look alike.
"""

import json
from typing import Final

# Letters, marks and symbols without a look of their own (Default_Ignorable_Code_Point, and a blank symbol).
_BLANK: Final = frozenset(
    chr(code)
    for codes in (
        *(range(0x034F, 0x0350), range(0x115F, 0x1161), range(0x17B4, 0x17B6), range(0x180B, 0x1810)),
        *(range(0x2800, 0x2801), range(0x3164, 0x3165), range(0xFE00, 0xFE10), range(0xFFA0, 0xFFA1)),
        range(0xE0100, 0xE01F0),
    )
    for code in codes
)


def is_visible(character: str) -> bool:
    """Say whether a person sees a character, and it leaves what stands beside it as it is."""
    return character.isprintable() and character not in _BLANK


def with_marks(text: str) -> str:
    """Return a text with a mark for each character that nobody would see."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if is_visible(each) else "\N{REPLACEMENT CHARACTER}" for each in text)


def escaped(text: str, line_end: str = "") -> str:
    """Write what is not printable as JSON would: it can neither hide nor turn round what stands beside it."""
    return "".join(each if is_visible(each) or each == line_end else json.dumps(each)[1:-1] for each in text)
