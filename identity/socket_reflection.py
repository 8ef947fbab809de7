"""gRPC reflection on a private socket (SPIFFE Workload Endpoint section 7): what is served here.

- It shows the services of its own socket and the files that they need, under the names that they are given;
  what else this process knows stays its own.
- v1 and v1alpha have the same messages on the wire, so one pair of message classes serves both. They are
  those of grpcio: the classes of grpclib claim the same names, and one process has one registry of names.
- A file is answered with all that it imports; extensions are answered "not found", for there are none.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as pb  # type: ignore[import-untyped]  # no stubs
from grpclib.const import Cardinality, Handler, Status
from grpclib.server import Stream

NAMES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflection:
    """The reflection service of one socket."""

    def __init__(self, services: Sequence[str], files: Iterable[FileDescriptor]) -> None:
        """Show these services, and these files with all that they import."""
        self._services = sorted(services)
        self._files: dict[str, FileDescriptor] = {}
        self._symbols: dict[str, FileDescriptor] = {}
        for file in files:
            self._add(file)

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by their gRPC paths."""
        one = Handler(
            self.reflect, Cardinality.STREAM_STREAM, pb.ServerReflectionRequest, pb.ServerReflectionResponse
        )
        return {f"/{name}/ServerReflectionInfo": one for name in NAMES}

    async def reflect(self, stream: Stream[Any, Any]) -> None:
        """Answer each question of a stream."""
        async for request in stream:
            await stream.send_message(self._answer(request))

    def _answer(self, request: Any) -> Any:  # noqa: ANN401  # the message classes have no types
        answer = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        match request.WhichOneof("message_request"):
            case "list_services":
                listed = [pb.ServiceResponse(name=name) for name in self._services]
                answer.list_services_response.service.extend(listed)
            case "file_by_filename":
                _describe(answer, self._files.get(request.file_by_filename))
            case "file_containing_symbol":
                _describe(answer, self._symbols.get(request.file_containing_symbol))
            case "file_containing_extension" | "all_extension_numbers_of_type":
                _describe(answer, None)
            case _:
                answer.error_response.error_code = Status.INVALID_ARGUMENT.value
                answer.error_response.error_message = "no question"
        return answer

    def _add(self, file: FileDescriptor) -> None:
        if file.name in self._files:
            return
        self._files[file.name] = file
        for service in file.services_by_name.values():
            self._symbols[service.full_name] = file
            self._symbols.update((method.full_name, file) for method in service.methods)
        for message in file.message_types_by_name.values():
            self._symbols.update((name, file) for name in _names(message))
        self._symbols.update((enum.full_name, file) for enum in file.enum_types_by_name.values())
        for dependency in file.dependencies:
            self._add(dependency)


def _describe(answer: Any, file: FileDescriptor | None) -> None:  # noqa: ANN401  # the message classes have no types
    if file is None:
        answer.error_response.error_code = Status.NOT_FOUND.value
        answer.error_response.error_message = "not found"
        return
    closure: dict[str, bytes] = {}
    _collect(file, closure)
    answer.file_descriptor_response.file_descriptor_proto.extend(closure.values())


def _collect(file: FileDescriptor, found: dict[str, bytes]) -> None:
    if file.name not in found:
        found[file.name] = file.serialized_pb
        for dependency in file.dependencies:
            _collect(dependency, found)


def _names(message: Descriptor) -> Iterable[str]:
    yield message.full_name
    for nested in message.nested_types:
        yield from _names(nested)
    for enum in message.enum_types:
        yield enum.full_name
