"""E-mail addresses and telephone numbers.

- An e-mail address has a local part and a domain with a dot whose last label is letters; `git@…`, what
  stands before the host of a URL, and `icon@2x.png` are none.
- A telephone number begins with a plus sign and has 9 to 15 digits (ITU-T E.164), in groups or not; behind +1
  and +7 as many as there. A number in its national form is not told from any other number.
- Letters of other alphabets, which stand as question marks in what is searched, may be part of an address.
- Each pattern begins at its one rare character and looks at a bounded number behind it.
"""

import re
from collections.abc import Iterator
from typing import Final

from authz.payload.text import Page, matches

CLASSES: Final = frozenset({"email", "phone"})

_USER_INFO: Final = re.compile(r"://[^\s/?#@]{1,512}@")
_EMAIL: Final = re.compile(
    r"@(?<=[\w.%+?-]@)(?<!\bgit@)(?:[A-Za-z0-9?][A-Za-z0-9?_-]{0,62}\.){1,8}"
    r"(?!(?:png|jpe?g|gif|svg|webp)\b)[A-Za-z?]{2,24}(?![\w-])"
)
_PHONE: Final = re.compile(
    r"\+(?<![\w/+=.]\+)(?:[17](?:[ ().-]{0,2}[0-9]){10}|[2-689](?:[ ().-]{0,2}[0-9]){8,14})(?!\w)"
)
_NOT_DIGITS: Final = re.compile("[^0-9]")
# The North American plan, whose areas and offices do not begin with 0 or 1, and everybody else.
_PLANS: Final = re.compile("1[2-9][0-9]{2}[2-9][0-9]{6}|[2-9][0-9]{8,14}")


def find(page: Page, wanted: frozenset[str]) -> Iterator[str]:
    """Find which of the wanted classes there are."""
    if "email" in wanted and "@" in page.text and any(matches(_EMAIL, "@", _without_user_info(page.text))):
        yield "email"
    if "phone" in wanted and any(map(_is_phone, matches(_PHONE, "+", page.text))):
        yield "phone"


def _without_user_info(text: str) -> str:
    return _USER_INFO.sub("://", text) if "://" in text else text


def _is_phone(found: re.Match[str]) -> bool:
    return _PLANS.fullmatch(_NOT_DIGITS.sub("", found[0])) is not None
