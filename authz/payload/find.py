"""Which classes of data a value holds: small rules with a known beginning, form or check digit.

- It is a seat belt, not a wall: it finds what an agent sends along by mistake or by a stranger's prompt, as
  it stands. Who wants to hide a secret can (docs/how-to/keep-data-in.md says how).
- The answer is names of classes, sorted; what was found, and where, is kept nowhere.
- What cannot be looked through or for counts as every class that is wanted: too large, not JSON, unknown.
- The work is linear in the size and bounded; every pattern looks at a bounded number of characters from
  wherever it begins, and each is behind a search for fixed bytes that ends most calls.

Libraries were weighed. detect-secrets reads files and measures entropy, which takes ids and hashes for
secrets; phonenumbers brings megabytes of metadata to match national forms that we do not look for;
python-stdnum checks digits but finds none in a text; recognisers with language models cost milliseconds.
"""

from authz.payload import contacts, credentials, numbers
from authz.payload.text import Page, UnsearchableError

_FINDERS = (contacts, credentials, numbers)
_KNOWN = frozenset().union(*(finder.CLASSES for finder in _FINDERS))


def find_classes(value: object, wanted: frozenset[str]) -> tuple[str, ...]:
    """Return which of the wanted classes a decoded JSON value holds, sorted."""
    if not wanted:
        return ()
    if not wanted <= _KNOWN:
        return tuple(sorted(wanted))
    try:
        return tuple(sorted(_found(value, wanted)))
    except UnsearchableError:
        return tuple(sorted(wanted))


def _found(value: object, wanted: frozenset[str]) -> list[str]:
    page = Page.parse(value, credentials.TELLING_NAMES)
    return [
        name
        for finder in _FINDERS
        if not finder.CLASSES.isdisjoint(wanted)
        for name in finder.find(page, wanted)
    ]
