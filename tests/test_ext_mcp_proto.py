"""The messages of ExtMcp are agentgateway's own, field by field.

The facts were read in crates/protos/proto/ext_mcp.proto of agentgateway (commit 75b4e6ce, August 2026). No
binary of theirs is in a package registry that could carry its descriptors, as Envoy's does.
"""

import pytest
from google.protobuf.descriptor import FieldDescriptor

from authz.pb import ext_mcp_pb2 as pb

STRING, BYTES, MESSAGE, ENUM = (
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_MESSAGE,
    FieldDescriptor.TYPE_ENUM,
)
# name: (number, type, repeated, the message it is of)
Field = tuple[int, int, bool, str]
STRUCT = "google.protobuf.Struct"
THEIRS: dict[str, dict[str, Field]] = {
    "McpRequest": {
        "service_names": (1, STRING, True, ""),
        "method": (2, STRING, False, ""),
        "metadata_context": (3, MESSAGE, False, STRUCT),
        "mcp_request": (4, BYTES, False, ""),
        "headers": (5, MESSAGE, True, "McpHeader"),
    },
    "McpResponse": {
        "service_names": (1, STRING, True, ""),
        "method": (2, STRING, False, ""),
        "metadata_context": (3, MESSAGE, False, STRUCT),
        "mcp_response": (4, BYTES, False, ""),
    },
    "McpRequestResult": {
        "pass": (1, MESSAGE, False, "Pass"),
        "mutated": (2, BYTES, False, ""),
        "error": (3, MESSAGE, False, "AuthorizationError"),
        "header_mutation": (4, MESSAGE, False, "HeaderMutation"),
        "metadata": (5, MESSAGE, False, STRUCT),
    },
    "McpResponseResult": {
        "pass": (1, MESSAGE, False, "Pass"),
        "mutated": (2, BYTES, False, ""),
        "error": (3, MESSAGE, False, "AuthorizationError"),
    },
    "HeaderMutation": {
        "set": (1, MESSAGE, True, "McpHeader"),
        "remove": (2, STRING, True, ""),
    },
    "McpHeader": {"key": (1, STRING, False, ""), "value": (2, BYTES, False, "")},
    "Pass": {},
    "AuthorizationError": {
        "code": (1, ENUM, False, ""),
        "reason": (2, STRING, False, ""),
        "mcp_error": (3, BYTES, False, ""),
    },
}
# A word of Python's cannot be the name of a field that we use.
RENAMED = {"passed": "pass"}


def test_there_are_no_other_messages() -> None:
    assert set(pb.DESCRIPTOR.message_types_by_name) == set(THEIRS)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_every_field_has_their_number_type_and_cardinality(name: str) -> None:
    ours = {
        RENAMED.get(field.name, field.name): (
            field.number,
            field.type,
            field.is_repeated,
            ""
            if field.message_type is None
            else field.message_type.full_name.removeprefix("agentgateway.dev.ext_mcp."),
        )
        for field in pb.DESCRIPTOR.message_types_by_name[name].fields
    }
    assert ours == THEIRS[name]


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("McpRequestResult", ["passed", "mutated", "error"]),
        ("McpResponseResult", ["passed", "mutated", "error"]),
    ],
)
def test_one_result_excludes_the_others(name: str, members: list[str]) -> None:
    (oneof,) = pb.DESCRIPTOR.message_types_by_name[name].oneofs
    assert [field.name for field in oneof.fields] == members


def test_no_params_is_not_empty_params() -> None:
    assert not pb.McpRequest().HasField("mcp_request")
    assert pb.McpRequest(mcp_request=b"").HasField("mcp_request")


def test_codes_have_their_numbers() -> None:
    numbers = {value.name: value.number for value in pb.AuthorizationError.Code.DESCRIPTOR.values}
    assert numbers == {"UNKNOWN": 0, "PERMISSION_DENIED": 1, "RESOURCE_EXHAUSTED": 2, "INVALID": 3}


def test_service_and_methods_give_their_grpc_paths() -> None:
    service = pb.DESCRIPTOR.services_by_name["ExtMcp"]
    assert service.full_name == "agentgateway.dev.ext_mcp.ExtMcp"
    methods = {method.name: (method.input_type.name, method.output_type.name) for method in service.methods}
    assert methods == {
        "CheckRequest": ("McpRequest", "McpRequestResult"),
        "CheckResponse": ("McpResponse", "McpResponseResult"),
    }
