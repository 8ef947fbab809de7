"""A real OPA for tests that change its policy from one question to the next."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_STRICT = "?strict-builtin-errors=true"


class _Connection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("opa", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


class RealOpa:
    """One OPA on a Unix socket, without a policy."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def start(cls, binary: Path) -> Iterator["RealOpa"]:
        # A short path: that of a Unix socket has at most 107 bytes.
        with tempfile.TemporaryDirectory(prefix="opa-") as directory:
            path = Path(directory) / "s"
            options = [f"--addr=unix://{path}", "--log-level=error", "--skip-version-check"]
            process = subprocess.Popen(
                [binary, "run", "--server", *options],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath},
            )
            try:
                connection = _Connection(path)
                while process.poll() is None:
                    try:
                        connection.connect()
                        break
                    except OSError:
                        os.sched_yield()
                yield cls(connection)
                connection.close()
            finally:
                process.terminate()
                process.wait(10)

    def load(self, name: str, rego: str, data: Any) -> bool:
        """Replace policy and data; False where OPA's compiler refuses the policy."""
        for key, value in data.items():
            status, _ = self._send("PUT", f"/v1/data/{key}", json.dumps(value))
            assert status == 204
        return self._send("PUT", f"/v1/policies/{name}", rego)[0] == 200

    def ask(self, path: str, query: Any) -> tuple[int, Any]:
        status, body = self._send("POST", f"/v1/data/{path}{_STRICT}", json.dumps({"input": query}))
        return status, json.loads(body)

    def _send(self, method: str, path: str, body: str) -> tuple[int, bytes]:
        kind = "text/plain" if "/policies/" in path else "application/json"
        self._connection.request(method, path, body.encode(), {"content-type": kind})
        response = self._connection.getresponse()
        return response.status, response.read()
