"""Regenerates the message modules from proto/.

- Every proto/**/*.proto is compiled to the same path below the root: the .proto
  path equals the Python path, so the generated imports need no rewriting.
- The output is a function of the .proto files and of the locked grpcio-tools;
  tools/check_protos.sh runs this into a scratch folder and compares.
- Stubs and servicers are not generated: the hosts move bytes.
- The type stubs say `Mapping[str, object]` where protoc leaves the parameters out, for mypy's strict mode.
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
    code = int(protoc.main(arguments))
    if code == 0:
        for source in sources:
            stub = (out / source).with_name(Path(source).stem + "_pb2.pyi")
            stub.write_text(stub.read_text().replace("_Mapping]", "_Mapping[str, object]]"))
    return code


if __name__ == "__main__":
    sys.exit(main(out=Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
