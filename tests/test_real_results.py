"""The page of other people's clients and servers is made of what the tests expect."""

import subprocess
import sys

from tests.conftest import ROOT
from tests.real_results import RESULTS


def test_the_page_is_made_of_what_is_expected() -> None:
    subprocess.run([sys.executable, ROOT / "tools/real_clients.py", "--check"], check=True)


def test_every_difference_has_its_reason() -> None:
    for case in RESULTS["conformance"]["coming"]["differences"]:
        assert len(case["reason"]) > 20, case
