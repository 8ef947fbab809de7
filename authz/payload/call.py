"""What a message says, as far as we read it, and which classes of data are in it.

- Every message: a server that asks an agent, or its person, for something gets the answer in a message that
  only keeps the session going, and a notification has room for a text.
- Arguments, or the whole body where more than arguments can carry data; the name of what is called, which may
  be a URI of the agent's choice; path and query. Headers are not looked through: credentials belong there.
- Of a body that no protocol of ours reads (plain HTTP, the messages of gRPC) nothing is known.
"""

from authz.payload.find import find_classes
from authz.protocols.operation import Operation
from authz.request import Request


def classes_in_call(operation: Operation, request: Request | None, wanted: frozenset[str]) -> tuple[str, ...]:
    """Return which of the wanted classes of data a message carries, sorted.

    There is no request yet where a token is asked for a call.
    """
    if not wanted:
        return ()
    said = operation.arguments if operation.payload is None else operation.payload
    path = request.path if request is not None else ""
    return find_classes([operation.resource_name, path, said], wanted)
