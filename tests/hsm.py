"""SoftHSM2 for tests: a real PKCS#11 module, with a token that a test has for itself."""

import glob
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import missing_part

LABEL, PIN, SO_PIN = "deputy", "8532-correct", "7711-officer"
_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/*/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """A module, the folder of its tokens, and a file with the PIN of the one token."""

    module: Path
    directory: Path

    @property
    def pin_file(self) -> Path:
        return self.directory / "pin"

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens"

    @property
    def config(self) -> Path:
        return self.directory / "softhsm2.conf"

    def add_token(self, label: str = LABEL) -> None:
        command = ["softhsm2-util", "--init-token", "--free", "--label", label]
        subprocess.run(
            [*command, "--pin", PIN, "--so-pin", SO_PIN],
            env={**os.environ, "SOFTHSM2_CONF": str(self.config)},
            check=True,
            capture_output=True,
            timeout=60,
        )

    def write_pin(self, text: str, mode: int = 0o600) -> None:
        self.pin_file.unlink(missing_ok=True)
        self.pin_file.touch(0o600)
        self.pin_file.write_text(text)
        self.pin_file.chmod(mode)


def find_module() -> Path:
    """Find SoftHSM2; tools/softhsm.sh installs it."""
    named = [os.environ["DEPUTY_SOFTHSM"]] if "DEPUTY_SOFTHSM" in os.environ else []
    found = [path for place in [*named, *_PLACES] for path in sorted(glob.glob(place))]  # noqa: PTH207 - of absolute patterns
    if not found or shutil.which("softhsm2-util") is None:
        missing_part("no SoftHSM2: 'tools/softhsm.sh' installs it where root asks")
    return Path(found[0])


@contextmanager
def soft_hsm(directory: Path) -> Iterator[SoftHsm]:
    """Make a token, and unload the module after the test: it reads its folder only when it is loaded."""
    try:
        import pkcs11
    except ImportError:
        missing_part("no python-pkcs11: it is the extra 'hsm'")
    hsm = SoftHsm(find_module(), directory)
    hsm.tokens.mkdir()
    hsm.config.write_text(
        f"directories.tokendir = {hsm.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    hsm.write_pin(PIN + "\n")
    hsm.add_token()
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(hsm.config)
    try:
        library = pkcs11.lib(str(hsm.module))
        library.reinitialize()
        yield hsm
        library.finalize()
    finally:
        if before is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = before
