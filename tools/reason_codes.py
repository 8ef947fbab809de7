"""Write docs/reference/reason-codes.md from the codes; `--check` says whether it is current."""

import sys
from pathlib import Path

from authz.codes import Code
from authz.form import Form

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "reason-codes.md"

HEAD = """# Reason codes

Every decision carries one code. A code is stable: it is never renamed and never means something else later.
The caller sees the code, the sentence and the decision's id; `deputy decisions get ID` shows the rest.
A policy of your own may use further codes (`DPT-` and capitals); they travel as policy denials.

"""

FORMS = {
    Form.ALLOWED: "Allowed",
    Form.POLICY: "The policy says no — HTTP 200 to a JSON-RPC request with an id (MCP, A2A), else 403",
    Form.SCOPE: "More scope would help — HTTP 403 with a challenge",
    Form.TOKEN: "Who is calling is not clear — HTTP 401",
    Form.REFUSED: "What is asked for is not known here — HTTP 200 to a JSON-RPC request with an id, else 403",
    Form.MALFORMED: "The request is ambiguous or malformed — HTTP 400",
    Form.UNAVAILABLE: "It cannot be known now — HTTP 503, try again",
}


def page() -> str:
    """Return the page's text."""
    parts = [HEAD]
    for form, title in FORMS.items():
        parts.append(f"## {title}\n\n| code | what it says | what to do |\n|---|---|---|\n")
        parts += [
            f"| `{code.value}` | {code.sentence} | {code.fix} |\n" for code in Code if code.form is form
        ]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is not current: run {__file__}"
        )
    PAGE.write_text(page(), encoding="utf-8")
