"""Writes mesh-config/*/envoy.yaml from their one source, authz/mesh/envoy.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "mesh-config"


def main() -> int:
    """Write the files; 0."""
    sys.path.insert(0, str(ROOT))
    from authz.mesh.egress import default_egress_settings  # noqa: PLC0415  # the path is set above
    from authz.mesh.envoy import default_settings, render, to_yaml  # noqa: PLC0415  # likewise

    (FILES / "envoy" / "envoy.yaml").write_text(to_yaml(render(default_settings())))
    (FILES / "egress").mkdir(exist_ok=True)
    (FILES / "egress" / "envoy.yaml").write_text(to_yaml(render(default_egress_settings())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
