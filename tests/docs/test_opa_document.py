"""The how-to for a real OPA, followed with a real OPA: on a socket, then with certificates on both sides."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from string import Template

import pytest

from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy
from tests.docs.blocks import ROOT, Block, blocks_of
from tests.docs.session import Session
from tests.docs.test_own_service import free_ports
from tests.e2e.ca import TestCa

pytestmark = pytest.mark.e2e
PAGE = "docs/how-to/run-on-opa.md"
DEMO = ROOT / "authz/demo"


def file_block(path: str, name: str) -> Block:
    (found,) = [block for block in blocks_of(path) if block.instruction == "file" and block.argument == name]
    return found


def write_reader(reader: Path, policy: str, ports: Mapping[str, str]) -> None:
    """Write what the reader has: a configuration, grants, a question, and certificates."""
    config = Template((DEMO / "deputy.yaml").read_text("utf-8")).safe_substitute(
        check_port=ports["9191"],
        broker_port=ports["9192"],
        provider="https://login.example.org",
        policy=policy.partition("policy:\n")[2],
        sockets=reader,
    )
    (reader / "deputy.yaml").write_text(config)
    (reader / "grants.yaml").write_bytes((DEMO / "grants.yaml").read_bytes())
    question = file_block("docs/how-to/why-was-i-denied.md", "question.json")
    (reader / "question.json").write_text(question.text)
    ca = TestCa.create()
    (reader / "ca.pem").write_bytes(ca.bundle)
    for name, path in (("opa", "/ns/deputy/sa/opa"), ("deputy", "/deputy"), ("stranger", "/ns/shop/sa/web")):
        leaf = ca.issue(f"spiffe://mesh.example{path}", dns=("localhost",))
        (reader / f"{name}.pem").write_bytes(leaf.certificate)
        (reader / f"{name}.key").write_bytes(leaf.key)


async def gets_an_answer(reader: Path, who: str, port: str) -> bool:
    """Say whether this client can put the grants there and then be answered."""
    certificate, key = reader / f"{who}.pem", reader / f"{who}.key"
    client = OpaClient(OpaAddress(f"https://localhost:{port}", 5.0, reader / "ca.pem", certificate, key))
    policy = OpaPolicy(client, shipped_modules().digest, Grants.parse((DEMO / "grants.yaml").read_bytes()))
    try:
        await policy.maintain()
        return policy.ready
    finally:
        await client.close()


def test_the_how_to_for_opa_holds(reader: Path, tmp_path: Path, opa_binary: Path) -> None:
    scratch, ports = tmp_path, free_ports()
    (reader / "mesh-config").symlink_to(ROOT / "mesh-config")
    replace = {"/srv/deputy": str(reader), "localhost:8181": f"localhost:{ports['8081']}"}
    policy = file_block(PAGE, "policy-on-opa.yaml").text.replace("/srv/deputy", str(reader))
    write_reader(reader, policy, ports)
    path = {"PATH": f"{sys.prefix}/bin:{opa_binary.parent}:{os.environ['PATH']}"}
    with Session(reader, scratch, replace, path) as session:
        session.run(blocks_of(PAGE))
        for _ in range(50):  # it says that it initializes a little before it listens
            if asyncio.run(gets_an_answer(reader, "deputy", ports["8081"])):
                break
        else:
            pytest.fail("Deputy's certificate does not count")
        assert not asyncio.run(gets_an_answer(reader, "stranger", ports["8081"]))
