"""Writes the lock of the shipped policy: every case of the corpus, and generated ones, on both engines.

Usage: python tools/policy_lock.py OPA
"""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from authz.errors import AuthzError  # noqa: E402 - after the path
from authz.policy.modules import LOCK_FILE, shipped_modules  # noqa: E402 - after the path
from authz.policy.opa_check import check_policy  # noqa: E402 - after the path
from tests.policy_corpus import corpus  # noqa: E402 - after the path


def main() -> int:
    """Write the lock, or say why there is none."""
    try:
        report = asyncio.run(check_policy(shipped_modules(), corpus(), Path(sys.argv[1])))
        lock = report.lock()
    except AuthzError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (ROOT / "authz" / "policy" / "rego" / LOCK_FILE).write_bytes(lock.to_bytes())
    print(
        f"{lock.cases} cases, equal on OPA {lock.opa} and regorus {lock.regorus} ({', '.join(lock.runtimes)})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
