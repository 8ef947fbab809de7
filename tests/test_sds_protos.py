"""The trimmed messages of secret discovery are Envoy's own, field by field.

As in tests/test_protos.py, the facts come from the descriptors that the real Envoy binary carries.
"""

from collections.abc import Iterator
from functools import cache

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from authz.mesh.envoy_process import find_envoy
from identity.pb import sds_pb2
from identity.sds import PATH
from identity.sds_secrets import SECRET_TYPE
from tests.test_protos import embedded, messages

OURS_IN = "deputy.wire.sds."
DISCOVERY = "envoy.service.discovery.v3."
CORE = "envoy.config.core.v3."
TLS = "envoy.extensions.transport_sockets.tls.v3."
FILES = (
    "envoy/service/secret/v3/sds.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/extensions/transport_sockets/tls/v3/common.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.proto",
    "envoy/config/core/v3/base.proto",
    "envoy/config/core/v3/extension.proto",
    "google/rpc/status.proto",
)
HOMES = {
    "DiscoveryRequest": DISCOVERY,
    "DiscoveryResponse": DISCOVERY,
    "DeltaDiscoveryRequest": DISCOVERY,
    "DeltaDiscoveryResponse": DISCOVERY,
    "Resource": DISCOVERY,
    "Status": "google.rpc.",
    "DataSource": CORE,
    "TypedExtensionConfig": CORE,
}


def their_name(ours: str) -> str:
    local = ours.removeprefix(OURS_IN)
    return HOMES.get(local.split(".", maxsplit=1)[0], TLS) + local


@cache
def envoy_files() -> tuple[FileDescriptorProto, ...]:
    binary = find_envoy().read_bytes()
    return tuple(embedded(binary, name) for name in FILES)


@cache
def envoy_messages() -> dict[str, DescriptorProto]:
    return {
        name: message
        for file in envoy_files()
        for top in file.message_type
        for name, message in messages(file.package + ".", top)
    }


def our_messages(found: Iterator[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        yield message
        yield from our_messages(iter(message.nested_types))


OURS = {
    message.full_name: message
    for message in our_messages(iter(sds_pb2.DESCRIPTOR.message_types_by_name.values()))
}


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_field_has_envoys_number_type_and_cardinality(name: str) -> None:
    theirs = {field.name: field for field in envoy_messages()[their_name(name)].field}
    for field in OURS[name].fields:
        other = theirs[field.name]
        assert field.number == other.number
        assert field.type == other.type
        assert field.is_repeated == (other.label == FieldDescriptorProto.LABEL_REPEATED)
        if field.message_type is not None:
            inner = field.message_type.full_name
            expected = inner if inner.startswith("google.protobuf.") else their_name(inner)
            assert other.type_name == "." + expected


@pytest.mark.parametrize("name", sorted(OURS))
def test_members_of_a_oneof_exclude_each_other_in_envoy_too(name: str) -> None:
    theirs = envoy_messages()[their_name(name)]
    groups = {field.name: field.oneof_index for field in theirs.field if field.HasField("oneof_index")}
    for oneof in OURS[name].oneofs:
        assert len({groups[field.name] for field in oneof.fields}) == 1


def test_service_and_methods_give_envoys_grpc_paths() -> None:
    file = next(file for file in envoy_files() if file.name == FILES[0])
    (service,) = file.service
    assert f"/{file.package}.{service.name}" == PATH
    streaming = {m.name: (m.client_streaming, m.server_streaming) for m in service.method}
    assert streaming == {
        "StreamSecrets": (True, True),
        "DeltaSecrets": (True, True),
        "FetchSecrets": (False, False),
    }
    inputs = {m.name: m.input_type for m in service.method}
    assert inputs["StreamSecrets"] == inputs["FetchSecrets"] == f".{DISCOVERY}DiscoveryRequest"
    assert inputs["DeltaSecrets"] == f".{DISCOVERY}DeltaDiscoveryRequest"


def test_the_type_of_a_secret_is_one_that_envoy_has() -> None:
    assert SECRET_TYPE.removeprefix("type.googleapis.com/") in envoy_messages()


def test_no_name_of_ours_is_in_a_package_of_others() -> None:
    """Another library of the process may own `envoy.*` or `google.rpc`."""
    assert sds_pb2.DESCRIPTOR.package == "deputy.wire.sds"
