"""The vectors of the readers: what each message is read as, or the code of the refusal.

A case has a `comment` and an `expect`: `<phase> <method> <type>:<name>`, or a code. Its body is `body`, text
in which PAD stands for `pad` letters, or `body_base64`; `rpc_id` is the id that an answer may echo.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from authz.errors import InspectionError, RequestError
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from tests.check_requests import Fields, request

VECTORS = Path(__file__).parent / "vectors"

Case = dict[str, Any]

_PARTS = ("method", "path", "size", "partial", "metadata")


def vectors(folder: str) -> list[tuple[str, Case]]:
    """Return every case with the name of its file."""
    return [
        (path.stem, case)
        for path in sorted((VECTORS / folder).glob("*.json"))
        for case in json.loads(path.read_text("utf-8"))["cases"]
    ]


def params_of(folder: str) -> list[Any]:
    """Return the cases as pytest wants them."""
    return [pytest.param(case, id=f"{stem}: {case['comment']}") for stem, case in vectors(folder)]


def body_of(case: Case) -> bytes:
    """Return the body of a case."""
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    text: str = case.get("body", "")
    return text.replace("PAD", "x" * case.get("pad", 0)).encode()


def read_case(case: Case, route: Route, headers: Fields) -> Operation:
    """Read a case; without headers of its own it has the given ones."""
    parts = {key: case[key] for key in _PARTS if key in case}
    fields = [(name, value) for name, value in case.get("headers", headers)]
    return inspect(request(body_of(case), headers=fields, **parts), route)


def check_case(case: Case, route: Route, headers: Fields) -> None:
    """Compare what is read with what the case expects."""
    try:
        operation = read_case(case, route, headers)
    except (InspectionError, RequestError) as error:
        assert error.code == case["expect"], error
        if "rpc_id" in case:
            assert isinstance(error, InspectionError)
            assert (type(error.rpc_id), error.rpc_id) == (type(case["rpc_id"]), case["rpc_id"])
        return
    assert summary(operation) == case["expect"]
    if "rpc_id" in case:
        assert (type(operation.rpc_id), operation.rpc_id) == (type(case["rpc_id"]), case["rpc_id"])
    if "arguments" in case:
        assert operation.arguments == case["arguments"]


def summary(operation: Operation) -> str:
    """Say what was read in one line."""
    return f"{operation.phase} {operation.method} {operation.resource_type}:{operation.resource_name}"
