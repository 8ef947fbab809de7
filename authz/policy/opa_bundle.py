"""What a real OPA loads from disk: the policy's modules, and one that names their digest.

- OPA reads the Rego from a directory, so that it is there again after a restart; the data comes over REST.
- `data.deputy_answer` holds the decision and both digests, as separate keys: where one is missing, we know
  which, and nothing is allowed.
- Administration and lists have keys of their own, so that an OPA with an older directory has no answer about
  them, where the rules for calls would have given theirs.
"""

from pathlib import Path
from typing import Final

from authz.errors import PolicyLoadError
from authz.policy.modules import ADMIN_DECISION, ADMIN_VERSION, DECISION, VISIBLE, Module, Modules

ANSWER_PATH: Final = "deputy_answer"
DIGEST_NAME: Final = "deputy_data_digest"
REVISION_FILE: Final = "deputy_revision.rego"
ANSWER_KEYS: Final = {DECISION: "decision", VISIBLE: "visible", ADMIN_DECISION: "admin"}

_REVISION_MODULE: Final = """# Written by `deputy policy build`: which policy this is, and what it says.
package {package}

policy := "{digest}"

data_digest := data.{digest_name}

decision := {decision} if {{ not input.version == "{admin_version}"; not input.phase == "visible" }}

visible := {visible} if {{ not input.version == "{admin_version}"; input.phase == "visible" }}

admin := {admin} if input.version == "{admin_version}"
"""


def bundle_modules(modules: Modules) -> tuple[Module, ...]:
    """Return the modules with the one that names their digest."""
    revision = _REVISION_MODULE.format(
        package=ANSWER_PATH,
        digest=modules.digest,
        digest_name=DIGEST_NAME,
        decision=DECISION,
        visible=VISIBLE,
        admin=ADMIN_DECISION,
        admin_version=ADMIN_VERSION,
    )
    return (*modules.modules, Module(REVISION_FILE, revision))


def write_bundle(modules: Modules, directory: Path) -> None:
    """Write the directory that OPA is started with.

    Raises:
        PolicyLoadError: if it holds something else, or cannot be written.
    """
    names = {module.name for module in bundle_modules(modules)}
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = sorted(file.name for file in directory.iterdir() if file.name not in names)
        if others:
            raise PolicyLoadError(f"{str(directory)!r} holds other files ({others[0]!r}): name an empty one")
        for module in bundle_modules(modules):
            (directory / module.name).write_text(module.text, encoding="utf-8")
    except OSError as error:
        raise PolicyLoadError(f"cannot write {str(directory)!r}: {error.strerror}") from error
