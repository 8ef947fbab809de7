"""One direction, a pure core, one owner of each dangerous name: read from the syntax trees."""

from collections.abc import Callable

import pytest

from tests import source_rules
from tests.source_rules import Source, is_core, is_shell, shipped

RULES = [
    source_rules.wrong_direction,
    source_rules.impure,
    source_rules.more_than_a_docstring,
    source_rules.forged_evidence,
    source_rules.foreign_message,
    source_rules.too_long,
    source_rules.unexplained_ignore,
]
Rule = Callable[[Source], list[str]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_shipped_file_keeps_the_rule(rule: Rule) -> None:
    sources = shipped()

    assert sources
    if offences := [offence for source in sources for offence in rule(source)]:
        pytest.fail("\n".join([rule.__doc__ or "", *offences]), pytrace=False)


# Each line is a way to break the rule; a rule that cannot fail would prove nothing.
BAD = [
    (source_rules.wrong_direction, "identity/spiffe.py", "import authz"),
    (source_rules.wrong_direction, "identity/spiffe.py", "import authz.codes as codes"),
    (source_rules.wrong_direction, "identity/spiffe.py", "def f():\n    from authz.codes import Code"),
    (source_rules.wrong_direction, "identity/spiffe.py", "from authz import codes"),
    (source_rules.wrong_direction, "identity/spiffe.py", "from . import names"),
    (source_rules.wrong_direction, "authz/check.py", "from ..identity import names"),
    (source_rules.wrong_direction, "authz/check.py", "from tests.fakes import Clock"),
    (source_rules.impure, "authz/request.py", "import grpc.aio"),
    (source_rules.impure, "authz/request.py", "from os import environ"),
    (source_rules.impure, "authz/request.py", "def f():\n    import socket"),
    (source_rules.impure, "authz/request.py", "if TYPE_CHECKING:\n    import logging"),
    (source_rules.impure, "authz/protocols/mcp.py", "import asyncio"),
    (source_rules.impure, "authz/decision.py", "from time import monotonic"),
    (source_rules.impure, "identity/jws.py", "import random"),
    (source_rules.impure, "identity/jws.py", "from urllib import request"),
    (source_rules.impure, "identity/jws.py", "import urllib.request"),
    (source_rules.impure, "identity/exchange.py", "from identity.key_store import load_or_create_authority"),
    (source_rules.impure, "authz/check.py", "import authz.hosts.grpc"),
    (source_rules.impure, "authz/check.py", "from authz.hosts import grpc"),
    (source_rules.impure, "authz/check.py", "from authz import cli"),
    (source_rules.impure, "authz/decision.py", "datetime.now(tz=UTC)"),
    (source_rules.impure, "authz/decision.py", "datetime.datetime.utcnow()"),
    (source_rules.impure, "authz/decision.py", "open('x')"),
    (source_rules.impure, "authz/decision.py", "path.read_text()"),
    (source_rules.impure, "authz/decision.py", "async def decide(): ..."),
    (source_rules.impure, "authz/decision.py", "class A:\n    async def decide(self): ..."),
    (source_rules.more_than_a_docstring, "authz/__init__.py", ""),
    (source_rules.more_than_a_docstring, "authz/__init__.py", '"""Words."""\nimport sys'),
    (source_rules.more_than_a_docstring, "identity/pb/__init__.py", '"""Words."""\n__all__ = []'),
    (source_rules.forged_evidence, "authz/check.py", "Grant(decision_id='x')"),
    (source_rules.forged_evidence, "identity/transaction.py", "grant.Grant()"),
    (source_rules.forged_evidence, "authz/broker/app.py", "object.__new__(Grant)"),
    (source_rules.forged_evidence, "authz/broker/app.py", "from identity.grant import Grant as Evidence"),
    (source_rules.forged_evidence, "authz/broker/app.py", "Permit(actor, request, 'r')"),
    (source_rules.forged_evidence, "authz/decision.py", "admin.Permit()"),
    (source_rules.forged_evidence, "authz/admin.py", "Grant(decision_id='x')"),
    (source_rules.forged_evidence, "authz/broker/app.py", "from authz.admin import Permit as Leave"),
    (source_rules.foreign_message, "authz/hosts/grpc.py", "ext_authz_pb2.CheckResponse()"),
    (source_rules.foreign_message, "authz/check.py", "from authz.pb.ext_authz_pb2 import CheckRequest"),
    (
        source_rules.foreign_message,
        "authz/check.py",
        "CheckResponse(denied_response=pb.DeniedHttpResponse())",
    ),
    (source_rules.foreign_message, "authz/response.py", "pb.CheckRequest.FromString(data)"),
    (source_rules.foreign_message, "authz/request.py", "CheckResponse()"),
    (source_rules.too_long, "authz/check.py", "x = 1\n" * 401),
    (source_rules.too_long, "authz/check.py", "def f():\n" + "    x = 1\n" * 60),
    (source_rules.unexplained_ignore, "authz/check.py", "x = 1  # noqa"),
    (source_rules.unexplained_ignore, "authz/check.py", "x = 1  # noqa: S105"),
    (source_rules.unexplained_ignore, "authz/check.py", "x = 1  # type: ignore"),
    (source_rules.unexplained_ignore, "authz/check.py", "x = 1  # type: ignore  # because it is late"),
    (source_rules.unexplained_ignore, "authz/check.py", "x = 1  # type: ignore[attr-defined]"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_offence_is_seen(rule: Rule, path: str, text: str) -> None:
    assert rule(Source.parse(path, text))


GOOD = [
    (source_rules.wrong_direction, "authz/check.py", "from identity.grant import Grant"),
    (source_rules.impure, "identity/key_store.py", "import os"),
    (source_rules.impure, "authz/hosts/grpc.py", "import grpc.aio\nasync def serve(): ..."),
    (source_rules.impure, "authz/check.py", "async def check(data): ..."),
    (source_rules.impure, "authz/policy/port.py", "class Policy(Protocol):\n    async def decide(self): ..."),
    (source_rules.impure, "identity/names.py", "from datetime import datetime\nimport re"),
    (source_rules.impure, "authz/policy/schema.py", "(files('authz.policy') / 'x.json').read_bytes()"),
    (source_rules.impure, "authz/response.py", "from urllib.parse import quote"),
    (source_rules.more_than_a_docstring, "authz/__init__.py", '"""May this caller do this?"""'),
    (source_rules.forged_evidence, "authz/decision.py", "Grant(decision_id='x')"),
    (source_rules.forged_evidence, "authz/check.py", "def issue(grant: Grant): ..."),
    (source_rules.forged_evidence, "authz/admin.py", "Permit(actor, request, 'r')"),
    (source_rules.forged_evidence, "authz/broker/app.py", "def register(permit: Permit): ..."),
    (source_rules.foreign_message, "authz/response.py", "pb.CheckResponse()"),
    (source_rules.foreign_message, "authz/hosts/grpc.py", "CheckResponse.FromString(answer).status.code"),
    (source_rules.too_long, "authz/check.py", "def f():\n" + "    x = 1\n" * 59),
    (
        source_rules.unexplained_ignore,
        "authz/check.py",
        "x = 1  # noqa: S105 - the name of a form, no secret",
    ),
    (
        source_rules.unexplained_ignore,
        "authz/check.py",
        "x = 1  # noqa: S105, S106  # names of forms, no secrets",
    ),
    (source_rules.unexplained_ignore, "authz/check.py", "x = 1  # type: ignore[misc]  # the stub is wrong"),
]


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_rightful_code_is_no_offence(rule: Rule, path: str, text: str) -> None:
    assert rule(Source.parse(path, text)) == []


@pytest.mark.parametrize(
    "path",
    [
        *(
            f"authz/{name}.py"
            for name in ("check", "request", "authenticate", "decision", "response", "admin")
        ),
        *(f"authz/{name}.py" for name in ("protocols/mcp", "policy/port", "policy/grants", "audit/record")),
        *(f"identity/{name}.py" for name in ("jws", "delegation", "exchange", "authority")),
    ],
)
def test_file_of_the_flow_is_core(path: str) -> None:
    assert is_core(path)
    assert not is_shell(path)
