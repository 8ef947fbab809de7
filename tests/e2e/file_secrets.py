"""The shipped Envoy configuration with secrets of the tests' own, from files instead of the socket.

A test can so show certificates and roots that no authority of ours would ever give. The names, and what each
is, are those of the socket; the code shares nothing with identity/.
"""

import json
from pathlib import Path
from typing import Any

_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def write_secrets(directory: Path, trust_domain: str, chain: bytes, key: bytes, roots: bytes) -> None:
    """Write what the shipped Envoy asks for; it takes a new file again as soon as it is there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    validator = {
        "name": "envoy.tls.cert_validator.spiffe",
        "typed_config": {
            "@type": f"{_TYPES}SPIFFECertValidatorConfig",
            "trust_domains": [{"name": trust_domain, "trust_bundle": _inline(roots)}],
        },
    }
    _write(directory, "ALL", {"validation_context": {"custom_validator_config": validator}})
    _write(directory, "ROOTCA", {"validation_context": {"trusted_ca": _inline(roots)}})
    certificate = {"certificate_chain": _inline(chain), "private_key": _inline(key)}
    _write(directory, "default", {"tls_certificate": certificate})


def from_files(configuration: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return a configuration that reads each secret from the file of its name."""
    static = configuration["static_resources"]
    clusters = [cluster for cluster in static["clusters"] if cluster["name"] != "sds"]
    changed: dict[str, Any] = _changed(
        {**configuration, "static_resources": {**static, "clusters": clusters}}, directory
    )
    return changed


def _changed(value: Any, directory: Path) -> Any:
    match value:
        case {"name": str(name), "sds_config": _}:
            source = {"path": str(directory / f"{name}.json"), "watched_directory": {"path": str(directory)}}
            return {
                "name": name,
                "sds_config": {"resource_api_version": "V3", "path_config_source": source},
            }
        case dict():
            return {name: _changed(inner, directory) for name, inner in value.items()}
        case list():
            return [_changed(inner, directory) for inner in value]
    return value


def _write(directory: Path, name: str, secret: dict[str, Any]) -> None:
    answer = {"resources": [{"@type": f"{_TYPES}Secret", "name": name, **secret}]}
    temporary = directory / f".{name}"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(answer))
    temporary.replace(directory / f"{name}.json")


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_string": pem.decode("ascii")}
