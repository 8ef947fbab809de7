"""The trimmed messages are Envoy's own, field by field.

The facts come from the real Envoy binary, which carries the descriptors that it was built with. They are read
as data and never enter this process's descriptor pool, where their names would clash with ours.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from authz.mesh.envoy_process import find_envoy
from authz.pb import ext_authz_pb2, ext_proc_pb2

ROOT = Path(__file__).resolve().parent.parent
AUTH = "envoy.service.auth.v3."
PROC = "envoy.service.ext_proc.v3."
CORE = "envoy.config.core.v3."
FILES = (
    "envoy/service/auth/v3/attribute_context.proto",
    "envoy/service/auth/v3/external_auth.proto",
    "envoy/config/core/v3/base.proto",
    "envoy/config/core/v3/address.proto",
    "envoy/type/v3/http_status.proto",
    "google/rpc/status.proto",
    "envoy/service/ext_proc/v3/external_processor.proto",
    "envoy/extensions/filters/http/ext_proc/v3/processing_mode.proto",
)
# Where Envoy keeps what we keep in one package; the wire knows no names.
HOMES = {
    "Address": CORE,
    "SocketAddress": CORE,
    "Pipe": CORE,
    "Metadata": CORE,
    "HeaderMap": CORE,
    "HeaderValue": CORE,
    "HeaderValueOption": CORE,
    "Status": "google.rpc.",
    "HttpStatus": "envoy.type.v3.",
    "ProcessingMode": "envoy.extensions.filters.http.ext_proc.v3.",
}


def their_name(ours: str) -> str:
    package = AUTH if ours.startswith(AUTH) else PROC
    local = ours.removeprefix(package)
    return HOMES.get(local.split(".", maxsplit=1)[0], package) + local


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def message_end(data: bytes, start: int) -> int:
    """The end of a FileDescriptorProto: the first byte that is no field of it."""
    known = {field.number for field in FileDescriptorProto.DESCRIPTOR.fields}
    at = start
    while True:
        tag, after = varint(data, at)
        if tag >> 3 not in known or tag & 7 not in {0, 2}:
            return at
        value, after = varint(data, after)
        at = after if tag & 7 == 0 else after + value


def embedded(binary: bytes, name: str) -> FileDescriptorProto:
    encoded = name.encode()
    head = b"\x0a" + bytes([len(encoded)]) + encoded + b"\x12"
    start = binary.index(head)
    return FileDescriptorProto.FromString(binary[start : message_end(binary, start)])


def messages(prefix: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    name = prefix + message.name
    yield name, message
    for nested in message.nested_type:
        yield from messages(name + ".", nested)


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


def our_messages(found: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        yield message
        yield from our_messages(message.nested_types)


OURS = {
    message.full_name: message
    for file in (ext_authz_pb2.DESCRIPTOR, ext_proc_pb2.DESCRIPTOR)
    for message in our_messages(file.message_types_by_name.values())
}


def wire_kind(kind: int) -> int:
    """Enums and int32 are one varint; `HttpStatus.code` is an enum there and a number here."""
    return FieldDescriptorProto.TYPE_INT32 if kind == FieldDescriptorProto.TYPE_ENUM else kind


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_field_has_envoys_number_type_and_cardinality(name: str) -> None:
    theirs = {field.name: field for field in envoy_messages()[their_name(name)].field}
    for field in OURS[name].fields:
        other = theirs[field.name]
        assert field.number == other.number
        assert wire_kind(field.type) == wire_kind(other.type)
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


ENUMS = {
    "append actions": (ext_authz_pb2.HeaderValueOption.HeaderAppendAction, CORE + "HeaderValueOption"),
    "header modes": (ext_proc_pb2.ProcessingMode.HeaderSendMode, HOMES["ProcessingMode"] + "ProcessingMode"),
    "body modes": (ext_proc_pb2.ProcessingMode.BodySendMode, HOMES["ProcessingMode"] + "ProcessingMode"),
}


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_envoys_numbers(name: str) -> None:
    enum, owner = ENUMS[name]
    ours = enum.DESCRIPTOR
    theirs: EnumDescriptorProto = next(e for e in envoy_messages()[owner].enum_type if e.name == ours.name)
    assert {v.name: v.number for v in ours.values} == {v.name: v.number for v in theirs.value}


SERVICES = {
    "Authorization": (ext_authz_pb2.DESCRIPTOR, AUTH, "Check", False),
    "ExternalProcessor": (ext_proc_pb2.DESCRIPTOR, PROC, "Process", True),
}


@pytest.mark.parametrize("name", SERVICES)
def test_service_and_method_give_envoys_grpc_path(name: str) -> None:
    file, package, method, streams = SERVICES[name]
    service = next(each for found in envoy_files() for each in found.service if each.name == name)
    ours = file.services_by_name[name]
    assert ours.full_name == package + name
    assert [m.name for m in service.method] == [method] == [m.name for m in ours.methods]
    assert service.method[0].input_type == "." + ours.methods[0].input_type.full_name
    assert service.method[0].output_type == "." + ours.methods[0].output_type.full_name
    for described in (service.method[0], ours.methods[0]):
        assert (described.client_streaming, described.server_streaming) == (streams, streams)


def test_every_answer_with_a_status_starts_with_its_tag() -> None:
    """The host refuses to send anything else, because Envoy reads a missing status as OK."""
    answer = ext_authz_pb2.CheckResponse()
    answer.dynamic_metadata["decision_id"] = "x"
    answer.ok_response.headers_to_remove.append("authorization")
    assert not answer.SerializeToString().startswith(b"\x0a")
    answer.status.SetInParent()
    assert answer.SerializeToString().startswith(b"\x0a")


def test_generated_files_are_those_of_the_proto_files(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tools')!r}); import protos; from pathlib import Path; "
    )
    code += f"sys.exit(protos.main(Path({str(ROOT)!r}), Path({str(tmp_path)!r})))"
    subprocess.run([sys.executable, "-c", code], check=True)  # protoc keeps state: a process of its own
    fresh = sorted(path for path in tmp_path.rglob("*_pb2.py*") if path.is_file())
    assert fresh
    for path in fresh:
        assert path.read_bytes() == (ROOT / path.relative_to(tmp_path)).read_bytes()
