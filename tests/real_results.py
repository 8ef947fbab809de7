"""What the tests of real clients and servers expect, which docs/reference/clients.md is made of."""

import json
from typing import Any, Final

from tests.conftest import ROOT

RESULTS: Final[dict[str, Any]] = json.loads((ROOT / "tests/vectors/real_clients.json").read_text("utf-8"))
