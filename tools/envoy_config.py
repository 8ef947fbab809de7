"""Writes mesh-config/envoy/envoy.yaml from its one source, authz/mesh/envoy.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "mesh-config" / "envoy" / "envoy.yaml"


def main() -> int:
    """Write the file; 0."""
    sys.path.insert(0, str(ROOT))
    from authz.mesh.envoy import default_settings, render, to_yaml  # noqa: PLC0415  # the path is set above

    FILE.write_text(to_yaml(render(default_settings())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
