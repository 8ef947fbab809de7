"""agentgateway as its source says that it asks: messages made by hand, and the answers taken apart."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from authz.agentgateway.service import ExtMcp
from authz.agentgateway.targets import Targets
from authz.answers.admission import Answers
from authz.check import check
from authz.pb import ext_mcp_pb2 as pb
from authz.protocols.route import Route
from authz.services import Asker, Service, Services
from identity.spiffe import SpiffeId
from tests.fakes import GATEWAY, TICKETS, Run, World

BILLING = "https://billing.mesh.example"
PATH = {":method": "POST", ":scheme": "https", ":authority": "mcp.mesh.example", ":path": "/mcp"}
READ = {"name": "read_ticket", "arguments": {"ticket": "T-1"}}
Headers = list[tuple[str, bytes]]


class ExtMcpWorld(World):
    """A gateway with two targets; its answers are guarded."""

    def __init__(self, *, prefixed: bool = False) -> None:
        super().__init__()
        self.services = Services.of(
            (
                Service("tickets", TICKETS, Route("tickets", "mcp"), is_guarded=True),
                Service("billing", BILLING, Route("billing", "mcp"), is_guarded=True),
                Service("files", "https://files.mesh.example", Route("files", "mcp"), is_guarded=True),
            ),
            (Asker(GATEWAY, frozenset({"tickets", "billing"})),),
            None,
        )
        by_target = {"tickets-target": "tickets", "more": "tickets", "billing": "billing", "files": "files"}
        self.targets = Targets.of(by_target, self.services, is_prefixed=prefixed)
        self.caller = self.run("triage")
        self.bearer = self.token(self.caller)

    def service(self) -> ExtMcp:
        flow = self.flow()

        async def answer(data: bytes, asker: SpiffeId | None) -> bytes:
            return await check(data, asker, flow)

        return ExtMcp(answer, Answers(flow), self.targets)

    def headers(self, **more: str) -> Headers:
        given = {**PATH, "authorization": f"Bearer {self.bearer}", "accept": "application/json", **more}
        return [(name, value.encode()) for name, value in given.items()]

    def message(
        self,
        method: str = "tools/call",
        params: object = READ,
        *,
        targets: tuple[str, ...] = ("tickets-target",),
        raw: bytes | None = None,
        headers: Headers | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> pb.McpRequest:
        """Write a McpRequest; `params` None is a fan-out, of which the gateway tells no params."""
        message = pb.McpRequest(service_names=targets, method=method)
        message.metadata_context.update(dict(self.attested(self.caller) if context is None else context))
        if raw is not None or params is not None:
            message.mcp_request = raw if raw is not None else json.dumps(params).encode()
        for name, value in self.headers() if headers is None else headers:
            message.headers.add(key=name, value=value)
        return message

    def attested(self, run: Run) -> Mapping[str, str]:
        return {"peer": str(run.spiffe_id), "certificate": ssl.DER_cert_to_PEM_cert(run.certificate)}

    def ask(self, message: pb.McpRequest | bytes, asker: SpiffeId | None = GATEWAY) -> pb.McpRequestResult:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return pb.McpRequestResult.FromString(asyncio.run(self.service().check_request(data, asker)))

    def result_of(
        self,
        passed: pb.McpRequestResult,
        result: object,
        method: str = "tools/list",
        *,
        targets: tuple[str, ...] = ("tickets-target",),
        raw: bytes | None = None,
    ) -> pb.McpResponse:
        """Write the McpResponse of a call that passed, as the operator's CEL brings the passage back."""
        message = pb.McpResponse(service_names=targets, method=method)
        message.mcp_response = raw if raw is not None else json.dumps(result).encode()
        message.metadata_context.update({"peer": str(self.caller.spiffe_id)})
        if "passage" in passed.metadata.fields:
            message.metadata_context.fields["passage"].CopyFrom(passed.metadata.fields["passage"])
        return message

    def answer(
        self, message: pb.McpResponse | bytes, asker: SpiffeId | None = GATEWAY
    ) -> pb.McpResponseResult:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return pb.McpResponseResult.FromString(asyncio.run(self.service().check_response(data, asker)))


def told(result: pb.McpRequestResult | pb.McpResponseResult) -> dict[str, object]:
    """Return the data of the error that the client gets; fails where it is no error."""
    assert result.WhichOneof("result") == "error"
    data = json.loads(result.error.mcp_error)
    assert isinstance(data, dict)
    return data


def reason(result: pb.McpRequestResult | pb.McpResponseResult) -> object:
    """Return the reason code of an error."""
    return told(result)["reason"]


def renamed(services: Services, **changes: object) -> Services:
    """Return the services with something of tickets changed."""
    changed = [
        replace(each, **changes) if each.name == "tickets" else each  # type: ignore[arg-type]  # real fields
        for each in services.by_name.values()
    ]
    return Services.of(tuple(changed), tuple(services.askers.values()), services.local_asker)
