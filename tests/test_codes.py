"""The reason codes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from authz.code_texts import TEXTS
from authz.codes import Code
from authz.form import Form

ROOT = Path(__file__).parent.parent
# A whole code: what goes on with a hyphen is the name of a family.
CODE = r"DPT-[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*(?![A-Z0-9-])"


@pytest.mark.parametrize("code", list(Code))
def test_a_code_says_what_is_wrong_and_what_to_do(code: Code) -> None:
    assert re.fullmatch(r"DPT-[A-Z0-9]+(-[A-Z0-9]+)*", code.value)
    assert code.sentence[0].islower() or code.sentence.startswith(("MCP", "JSON"))
    assert not code.sentence.endswith(".")
    assert code.fix


def test_only_one_code_allows() -> None:
    assert [code for code in Code if code.form is Form.ALLOWED] == [Code.ALLOWED]


def test_the_docs_page_lists_every_code() -> None:
    done = subprocess.run(
        [sys.executable, "tools/reason_codes.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_source_names_a_code_that_does_not_exist() -> None:
    """A code in Rego, Python or the docs that the list does not have would be a dead end for its reader."""
    known = {code.value for code in Code}
    named: dict[str, str] = {}
    for folder, pattern in (("authz", "*.py"), ("authz", "*.rego"), ("docs", "*.md")):
        for path in (ROOT / folder).rglob(pattern):
            for code in re.findall(CODE, path.read_text(encoding="utf-8")):
                named.setdefault(code, str(path.relative_to(ROOT)))
    assert {code: where for code, where in named.items() if code not in known} == {}


def test_every_text_has_its_code() -> None:
    assert list(TEXTS) == [code.value for code in Code]
