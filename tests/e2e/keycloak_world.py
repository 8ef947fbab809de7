"""A real Keycloak for tests, on a port of the loopback, in memory: started for a module, ended by its pid."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2

from authz.broker.id_token import IdentityProvider
from tests.conftest import ROOT, missing_part

REALM_FILE: Final = Path(__file__).parent / "keycloak" / "realm.json"
START_SECONDS: Final = 240
# Compiled once and not again while it runs: it starts in half the time, and runs for a minute only.
_JAVA: Final = "-XX:TieredStopAtLevel=1"
_OPTIONS: Final = ("--db=dev-mem", "--cache=local", "--features-disabled=admin,account")
_LOOPBACK: Final = "127.0.0.1"
_KEYS: Final = "org.keycloak.keys.KeyProvider"


@dataclass(frozen=True, slots=True)
class Keycloak:
    """A running Keycloak with the realm of tests/e2e/keycloak/realm.json."""

    base: str
    http: httpx2.Client = field(repr=False)
    admin_password: str = field(repr=False)
    password: str = field(repr=False)
    secret: str = field(repr=False)

    @property
    def issuer(self) -> str:
        return f"{self.base}/realms/people"

    def provider(self, *clients: str) -> IdentityProvider:
        """The realm, as it is configured with some of its clients."""
        return IdentityProvider(self.issuer, frozenset(clients), allow_loopback=True)

    def sign_in(self, client: str) -> dict[str, str]:
        """Sign the person in at a client; gives its tokens."""
        form = {"grant_type": "password", "username": "lead", "password": self.password}
        return self._tokens("people", client_id=client, scope="openid", **form)

    def log_in(self, client: str) -> dict[str, str]:
        """Log a client in as itself; gives its tokens."""
        form = {"grant_type": "client_credentials", "client_secret": self.secret}
        return self._tokens("people", client_id=client, scope="openid", **form)

    def rotate(self) -> None:
        """Sign with a new key from now on; the old one stays published."""
        config = {"priority": ["200"], "algorithm": ["RS256"]}
        component = {"name": "new", "providerId": "rsa-generated", "providerType": _KEYS, "config": config}
        self._admin("POST", "/admin/realms/people/components", component)

    def retire(self) -> None:
        """Publish the key that it started with no longer."""
        for component in self._admin("GET", f"/admin/realms/people/components?type={_KEYS}").json():
            if component["name"] == "rsa-generated":
                self._admin("DELETE", f"/admin/realms/people/components/{component['id']}")

    def import_realm(self) -> None:
        """Make the realm of the file, with passwords of this run."""
        text = REALM_FILE.read_text("utf-8")
        realm = text.replace("@password@", self.password).replace("@secret@", self.secret)
        self._admin("POST", "/admin/realms", json.loads(realm))

    def _admin(self, method: str, path: str, body: object = None) -> httpx2.Response:
        form = {"grant_type": "password", "username": "admin", "password": self.admin_password}
        token = self._tokens("master", client_id="admin-cli", **form)["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.request(method, self.base + path, json=body, headers=headers).raise_for_status()

    def _tokens(self, realm: str, **form: str) -> dict[str, str]:
        url = f"{self.base}/realms/{realm}/protocol/openid-connect/token"
        answer: Any = self.http.post(url, data=form).raise_for_status().json()
        return dict(answer)


@contextmanager
def running_keycloak(directory: Path) -> Iterator[Keycloak]:
    """Run Keycloak until the end of the block; its output is in a file of the directory."""
    kc, port, admin_password = _keycloak(), _free_port(), secrets.token_urlsafe(18)
    environment = {
        **os.environ,
        "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
        "KC_BOOTSTRAP_ADMIN_PASSWORD": admin_password,
        "JAVA_OPTS_APPEND": _JAVA,
    }
    log = directory / "keycloak.log"
    with log.open("wb") as output, httpx2.Client(trust_env=False, timeout=60) as http:
        process = subprocess.Popen(
            [kc, "start-dev", *_OPTIONS, f"--http-host={_LOOPBACK}", f"--http-port={port}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            base = f"http://{_LOOPBACK}:{port}"
            _await(process, http, f"{base}/realms/master", log)
            passwords = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
            keycloak = Keycloak(base, http, admin_password, *passwords)
            keycloak.import_realm()
            yield keycloak
        finally:
            _end(process)


def _keycloak() -> Path:
    found = subprocess.run(
        [ROOT / "tools/keycloak.sh"], capture_output=True, text=True, check=False, timeout=900
    )
    if found.returncode != 0 or not found.stdout.strip():
        missing_part("no Keycloak: tools/keycloak.sh fetches it from Maven Central, and it needs Java 17")
    return Path(found.stdout.strip()) / "bin" / "kc.sh"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def _await(process: subprocess.Popen[bytes], http: httpx2.Client, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Keycloak ended with {process.returncode}: {log.read_text('utf-8')[-4000:]}")
        with contextlib.suppress(httpx2.HTTPError):
            if http.get(url).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"no Keycloak within {START_SECONDS} s: {log.read_text('utf-8')[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    # The script hands the signal on to its Java and waits for it.
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        # The group is of this process alone: a session of its own.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
