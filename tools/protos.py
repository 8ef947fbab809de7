"""Regenerates the message modules from proto/.

- Every proto/**/*.proto is compiled to the same path below the root: the .proto
  path equals the Python path, so the generated imports need no rewriting.
- The output is a function of the .proto files and of the locked grpcio-tools;
  `make check` runs this and then asks git whether anything changed.
- Stubs and servicers are not generated: the hosts move bytes.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def main(root: Path = ROOT, out: Path = ROOT) -> int:
    """Compile every .proto below `root`/proto into `out`; the exit code of protoc."""
    sources = sorted(
        path.relative_to(root / "proto").as_posix() for path in (root / "proto").rglob("*.proto")
    )
    if not sources:
        sys.stderr.write("protos: no .proto file below proto/\n")
        return 2
    arguments = [
        "protoc",
        f"--proto_path={root / 'proto'}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        *sources,
    ]
    return int(protoc.main(arguments))


if __name__ == "__main__":
    sys.exit(main())
