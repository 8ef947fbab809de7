"""Certificates for an Envoy, in the files that it watches (SDS from the file system).

- `<name>.json` holds a certificate chain and its key together, so that no reader meets one without the other;
  `<name>-bundle.json` holds the roots.
- Each file appears by rename with mode 0600 in a directory of mode 0700: Envoy reads a new one within
  milliseconds, and never half of it.
"""

import json
import re
from pathlib import Path

from authz.errors import ConfigError
from authz.mesh.envoy_process import write_private

_TYPE = "type.googleapis.com/envoy."
_SECRET = f"{_TYPE}extensions.transport_sockets.tls.v3.Secret"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def write_sds(directory: Path, name: str, cert_chain_pem: bytes, key_pem: bytes, bundle_pem: bytes) -> None:
    """Write the certificate, the key and the roots of one Envoy.

    Raises:
        ConfigError: if the name is none, or something is missing.
        OSError: if the directory cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"not the name of a secret: {name!r}")
    if not (cert_chain_pem and key_pem and bundle_pem):
        raise ConfigError("a secret needs a certificate chain, its key and the roots")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    # The roots first: a certificate of a new root is of no use before the root is known.
    _write(directory, f"{name}-bundle", {"validation_context": {"trusted_ca": _inline(bundle_pem)}})
    certificate = {"certificate_chain": _inline(cert_chain_pem), "private_key": _inline(key_pem)}
    _write(directory, name, {"tls_certificate": certificate})


def _write(directory: Path, name: str, secret: dict[str, object]) -> None:
    answer = {"resources": [{"@type": _SECRET, "name": name, **secret}]}
    write_private(directory / f"{name}.json", json.dumps(answer).encode())


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode("ascii")}
