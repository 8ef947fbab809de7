"""The names of a list: what a question about one may hold, and what its answer may say.

- A list has at most 4096 names of at most 2048 characters; one that has more is not asked about.
- An answer is some of the names that were asked about: a policy hides, it never adds, renames or repeats.
- A long list is asked about in batches: no question and no answer is longer than an engine takes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, cast

from authz.errors import PolicyShapeError
from authz.policy.port import Query

MAX_NAMES: Final = 4096
MAX_NAME: Final = 2048

# Rvm stops after 25 000 instructions, which is some 1900 names; OPA's answer is bounded by its size.
_MAX_BATCH: Final = 512
_MAX_BATCH_CHARACTERS: Final = 16_384


def asked_names(query: Query) -> Sequence[str]:
    """Return the names that a question is about, each once.

    Raises:
        PolicyShapeError: if it is about none, or about more than anybody lists.
    """
    match query:
        case {"phase": "visible", "resource": {"names": [*names]}}:
            pass
        case _:
            raise PolicyShapeError("a question about no list")
    if len(names) > MAX_NAMES:
        raise PolicyShapeError(f"a list of more than {MAX_NAMES} names")
    if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in names):
        raise PolicyShapeError(f"a name in a list is text of at most {MAX_NAME} characters")
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        # One engine fails on half a character, the other takes it for another name.
        raise PolicyShapeError("a name in a list is no Unicode text") from error
    return list(dict.fromkeys(names))


def in_batches(query: Query, names: Sequence[str]) -> Iterator[tuple[Query, list[str]]]:
    """Ask about these names in one question or more; each comes with its own names."""
    resource = cast("Mapping[str, object]", query["resource"])
    for batch in _batches(names):
        yield {**query, "resource": {**resource, "names": batch}}, batch


def read_visible(answer: object, names: Collection[str]) -> frozenset[str]:
    """Read the answer about these names.

    Raises:
        PolicyShapeError: if it is not some of them, each once.
    """
    if not isinstance(answer, list) or not all(isinstance(name, str) for name in answer):
        raise PolicyShapeError("the visible names are a list of text")
    found = frozenset(answer)
    if len(found) != len(answer) or not found.issubset(names):
        raise PolicyShapeError("the visible names are not some of those that were asked about, each once")
    return found


def _batches(names: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for name in names:
        if len(batch) >= _MAX_BATCH or characters + len(name) > _MAX_BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(name)
        characters += len(name)
    yield batch
