"""No command in a document escapes: a test runs it, or it says why none does."""

import pytest

from tests.docs.blocks import Block, blocks_of, documents, parse_blocks
from tests.docs.masks import first_difference
from tests.docs.test_documents import WITH_THE_DEMO, WITHOUT
from tests.docs.test_identity_documents import HSM, PLAIN, SPIRE, page

# Documents with a test of their own, which runs them from the first to the last block.
OF_THEIR_OWN = {
    "docs/how-to/conformance.md",
    "docs/how-to/guard-egress.md",
    "docs/how-to/in-front-of-your-service.md",
    "docs/how-to/rotate-keys.md",
    "docs/how-to/run-on-opa.md",
    "docs/how-to/run-replicas.md",
}
RUN = {*WITH_THE_DEMO, *WITHOUT, *OF_THEIR_OWN, *map(page, (*PLAIN, SPIRE, HSM))}


def unrun(path: str, blocks: list[Block]) -> list[str]:
    """Commands that nobody runs and nobody excuses."""
    excused = {"no-run", "full", "gate"} if path == "README.md" else {"no-run"}
    return [
        f"{block.place}: no test runs this; add the document to tests/docs, or write 'no-run: REASON'"
        for block in blocks
        if block.is_command and block.instruction not in excused and path not in RUN
    ]


@pytest.mark.parametrize("path", documents())
def test_every_command_is_run_or_excused(path: str) -> None:
    assert unrun(path, blocks_of(path)) == []


@pytest.mark.parametrize("path", sorted(RUN))
def test_document_that_is_run_has_commands(path: str) -> None:
    blocks = blocks_of(path)
    assert any(block.is_command and block.instruction in {"", "background"} for block in blocks)
    # Of README.md a part is run so, and the rest otherwise.
    assert path == "README.md" or not any(block.instruction in {"full", "gate"} for block in blocks)


def test_a_command_that_nobody_runs_is_found() -> None:
    blocks = list(parse_blocks("docs/new.md", "```sh\nrm -rf /\n```\n"))
    assert unrun("docs/new.md", blocks)
    assert not unrun(
        "docs/new.md", list(parse_blocks("docs/new.md", "```sh no-run: it ends all\nrm -rf /\n```\n"))
    )


def test_reads_blocks_of_any_depth() -> None:
    text = (
        "a\n\n```sh\none\n```\n1. x\n\n   ```yaml file: a.yaml\n   k: 1\n   ```\n\n"
        "````text output\n```\n````\n"
    )
    found = [
        (block.line, block.language, block.instruction, block.argument, block.text)
        for block in parse_blocks("x", text)
    ]
    assert found == [
        (3, "sh", "", "", "one\n"),
        (8, "yaml", "file", "a.yaml", "k: 1\n"),
        (12, "text", "output", "", "```\n"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```sh norun: x\n```\n",
        "```sh no-run\n```\n",
        "```sh no-run:\n```\n",
        "```text output: x\n```\n",
        "```sh no-run: a `word`\nls\n```\n",
        "```sh\nls\n",
    ],
)
def test_refuses_an_instruction_that_it_does_not_know_and_a_block_without_end(text: str) -> None:
    with pytest.raises(ValueError, match="x:1: "):
        list(parse_blocks("x", text))


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one\ntwo", "one\ntwo\n"),
        ("one\n…\nthree", "one\ntwo\nthree"),
        ("…\nthree", "one\ntwo\nthree"),
        ("one\n…", "one\ntwo\nthree"),
        ("a   01M7YJZ3ZXTHFP8WXJWA8RZ96G  12 µs", "a 01M7YK8K63SD86DRP2ZFBZ5TEX 9 µs"),
        ("head 4e210cf20ade.2a1a888d84fa", "head 000000000000.111111111111"),
        ("log of 78 records (.demo/data)", "log of 80 records (/tmp/x/y/.demo/data)"),
        ("at http://127.0.0.1:36411#lead", "at http://127.0.0.1:4#lead"),
    ],
)
def test_what_differs_from_run_to_run_is_no_difference(shown: str, printed: str) -> None:
    assert first_difference(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one\nthree", "one\ntwo\nthree"),
        ("one", "one\ntwo"),
        ("one\ntwo", "one"),
        ("two\n…\none", "one\ntwo"),
        ("deny DPT-A", "deny DPT-B"),
        ("code 403", "code 404"),
        ("…\nfour", "one\ntwo\nthree"),
    ],
)
def test_every_other_difference_is_found(shown: str, printed: str) -> None:
    assert first_difference(shown, printed) is not None
