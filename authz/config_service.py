"""`services:` of `deputy.yaml`: what is behind the authorizer, and how to read what is asked of it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from authz.config_forms import EndpointPath, Host, HttpsUri, SpiffeText, ToolPrefix
from authz.config_sections import Section
from authz.form import DenialForm
from authz.pins.port import PinMode
from authz.protocols.operation import Protocol
from authz.protocols.route import Route
from authz.services import Service
from identity.spiffe import SpiffeId


class ServiceConfig(Section):
    """A service behind the authorizer."""

    audience: HttpsUri = Field(description="`aud` of the tokens for it: an absolute URI without fragment")
    protocol: Protocol = Field(default="mcp", description="how its requests are read")
    tool_prefix: ToolPrefix = Field(default="", description="prefix that a gateway puts before tool names")
    paths: list[EndpointPath] = Field(
        default_factory=list,
        description="as clients send them. mcp: its endpoint, by default each path that ends in /mcp; a2a: "
        "where its JSON-RPC is, and its other paths stand below; llm: what /v1/... stands below; for both "
        "the root",
    )
    hosts: list[Host] = Field(
        default_factory=list,
        description="authorities that mean this service, where the mesh names no service",
    )
    destinations: list[SpiffeText] = Field(
        default_factory=list, description="identities of the proxies in front of it, needed beside hosts"
    )
    workloads: list[SpiffeText] = Field(
        default_factory=list,
        description="identities of the service itself: they alone may pass on the transaction tokens it gets",
    )
    txn: Literal["per_call", "per_tool", "none"] = Field(
        default="per_call",
        description="`per_call`: a transaction token for each call, with the hash of its arguments; "
        "`per_tool`: one without it serves a task's calls of one tool for some seconds; `none`: the service "
        "is outside, and gets nothing of ours",
    )
    denials: DenialForm = Field(
        default="json_rpc",
        description="how a client that speaks JSON-RPC is told that the policy says no: an error, a tool's "
        "result with `isError`, a tool that does not exist, or HTTP 403",
    )

    answers: Literal["passed", "guarded"] = Field(
        default="passed",
        description="`guarded`: what comes back goes through ext_proc: lists are cut to what the caller "
        "could use, and open streams end with the caller's rights",
    )
    pins: PinMode = Field(
        default="learn",
        description="mcp: `learn` takes a tool's description and schema as they are first seen, and denies "
        "it once they change; `require` denies what nobody accepted; `off` looks at neither",
    )

    @model_validator(mode="after")
    def _paths_are_of_an_endpoint(self) -> Self:
        if self.paths and self.protocol in {"http", "grpc"}:
            raise ValueError("paths belong to mcp, a2a and llm; those of http and grpc stand in the grants")
        return self

    @model_validator(mode="after")
    def _hosts_have_destinations(self) -> Self:
        if bool(self.hosts) != bool(self.destinations):
            raise ValueError(
                "hosts and destinations go together: a host counts only behind a proxy that is named"
            )
        return self

    @model_validator(mode="after")
    def _outside_there_are_no_workloads(self) -> Self:
        if self.txn == "none" and self.workloads:
            raise ValueError("workloads pass on transaction tokens, and with txn: none the service gets none")
        return self

    def to_service(self, name: str) -> Service:
        """Return the service as the flow takes it."""
        return Service(
            name=name,
            audience=self.audience,
            route=Route(
                service=name,
                protocol=self.protocol,
                tool_prefix=self.tool_prefix,
                paths=frozenset(path.removesuffix("/") for path in self.paths),
            ),
            hosts=frozenset(self.hosts),
            destinations=frozenset(SpiffeId.parse(text) for text in self.destinations),
            workloads=frozenset(SpiffeId.parse(text) for text in self.workloads),
            txn=self.txn,
            denials=self.denials,
            is_guarded=self.answers == "guarded",
            pins=self.pins if self.protocol == "mcp" else "off",
        )
