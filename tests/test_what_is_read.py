"""The page that says what is read, and by which reader."""

import subprocess
import sys
from pathlib import Path

from authz.protocols.llm_facts import read_facts
from authz.protocols.llm_members import APIS
from tests.check_requests import request

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "what-is-read.md"


def test_the_page_is_what_the_tables_say() -> None:
    done = subprocess.run(
        [sys.executable, "tools/what_is_read.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_explains_every_fact() -> None:
    page = PAGE.read_text(encoding="utf-8")
    body = {
        "model": "m",
        "messages": [],
        "max_tokens": 1,
        "thinking": {"budget_tokens": 1},
        "service_tier": "auto",
        "speed": "fast",
    }
    facts = read_facts(body, APIS["/v1/messages"], request().headers)
    assert {"thinking_tokens", "service_tier", "speed", "max_tokens"} <= facts.keys()
    assert all(f"`{name}`" in page for name in [*facts, "max_tool_calls"])
