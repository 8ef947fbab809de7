"""A PKCS#11 token (an HSM, a smart card, SoftHSM): sessions, the PIN, and what goes wrong with them.

- `python-pkcs11` is the extra `hsm` and is imported when a token is opened, not before.
- It starts a module without locks of the module's own, so one call at a time is made in the whole process,
  from whichever thread. A call blocks for as long as the module takes.
- The PIN lies in a file of mode 0600 of the user that runs us, and is read whenever a session is opened. A
  wrong one is never tried again, because a token locks itself after a few.
- A session that failed is closed, and what it should do is tried once in a new one: tokens are unplugged,
  networks come and go.
- A process that was forked has no token; its parent's sessions are not its own.
"""

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, Final, Self, TypeVar

from identity.errors import IssuanceUnavailableError, KeyMaterialError

T = TypeVar("T")
# Of an extra that need not be installed.
Session = Any
Pkcs11Object = Any

_ONE_CALL: Final = RLock()
_MAX_PIN: Final = 256
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ADVICE: Final = {
    "PinLocked": "it is locked: unlock it with the security officer's PIN",
    "UserPinNotInitialized": "it has no PIN yet: initialise it",
    "PinExpired": "its PIN has expired: set a new one",
}


class Pkcs11Token:
    """An open token; sessions of it are given to one caller at a time."""

    def __init__(self, pkcs11: ModuleType, module: Path, label: str, pin_file: Path) -> None:
        """Name a token; `open` also logs in."""
        self.pkcs11 = pkcs11
        self.label = label
        # What was found in the session that is open now, by name.
        self.handles: dict[str, Pkcs11Object] = {}
        self._module = module
        self._pin_file = pin_file
        self._session: Session = None
        self._process = os.getpid()
        self._refused: str | None = None
        self._is_closed = False

    @classmethod
    def open(cls, module: Path, label: str, pin_file: Path) -> Self:
        """Load a module and log in to the token of a label.

        Raises:
            KeyMaterialError: with a sentence that says what to do.
        """
        token = cls(_import(), module, label, pin_file)
        try:
            token.use(lambda session: session)
        except IssuanceUnavailableError as error:
            raise KeyMaterialError(str(error)) from error
        return token

    def __repr__(self) -> str:
        return f"Pkcs11Token(label={self.label!r})"

    def use(self, work: Callable[[Session], T]) -> T:
        """Do something in a session, and once more in a new one if it fails.

        Raises:
            KeyMaterialError: if the PIN or its file is not right.
            IssuanceUnavailableError: if the token cannot be used now.
        """
        if os.getpid() != self._process or self._is_closed:
            raise IssuanceUnavailableError(f"the token {self.label!r} is not open in this process")
        with _ONE_CALL:
            if self._session is not None:
                try:
                    return work(self._session)
                except self.pkcs11.PKCS11Error:
                    self._drop()
            try:
                self._session = self._new_session()
                return work(self._session)
            except self.pkcs11.PKCS11Error as error:
                self._drop()
                raise IssuanceUnavailableError(
                    f"the token {self.label!r} cannot be used: {_reason(error)}"
                ) from error

    def close(self) -> None:
        """Log out; nothing can be done with the token any more."""
        self._is_closed = True
        if os.getpid() == self._process:
            with _ONE_CALL:
                self._drop()

    def _new_session(self) -> Session:
        if self._refused is not None:
            raise KeyMaterialError(self._refused)
        pin = _read_pin(self._pin_file)
        token = self._find()
        try:
            return token.open(rw=True, user_pin=pin)
        except self.pkcs11.UserAlreadyLoggedIn:
            # Another session of this process did it: a login is that of the process.
            return token.open(rw=True)
        except (self.pkcs11.PinIncorrect, self.pkcs11.PinLenRange, self.pkcs11.PinInvalid):
            self._refused = f"the PIN in {str(self._pin_file)!r} is not that of the token {self.label!r}"
            raise KeyMaterialError(self._refused) from None

    def _find(self) -> Session:
        try:
            library = self.pkcs11.lib(str(self._module))
        except self.pkcs11.PKCS11Error as error:
            raise KeyMaterialError(f"cannot load the PKCS#11 module {str(self._module)!r}") from error
        return library.get_token(token_label=self.label)

    def _drop(self) -> None:
        session, self._session = self._session, None
        self.handles.clear()
        if session is not None:
            # A lost session cannot be closed either.
            with suppress(self.pkcs11.PKCS11Error):
                session.close()


def _import() -> ModuleType:
    try:
        import pkcs11  # noqa: PLC0415 - an extra, and asked for only by who configures it
    except ImportError as error:
        raise KeyMaterialError("keys in an HSM need the extra 'hsm': install deputy-authz[hsm]") from error
    return pkcs11


def _reason(error: BaseException) -> str:
    """Return what PKCS#11 calls the error, such as CKR_DEVICE_REMOVED."""
    name = type(error).__name__
    return _ADVICE.get(name, f"CKR_{_WORD.sub('_', name).upper()}")


def _read_pin(path: Path) -> str:
    try:
        # Not blocking, so that a pipe is refused below and not waited for.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as reader:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise KeyMaterialError(f"the PIN file {str(path)!r} is not a file of the user that runs this")
            if status.st_mode & _OTHERS:
                raise KeyMaterialError(f"the PIN file {str(path)!r} is open to others: chmod 600 it")
            data = reader.read(_MAX_PIN + 1)
    except OSError as error:
        raise KeyMaterialError(f"cannot read the PIN file {str(path)!r}: {error.strerror}") from error
    try:
        pin = data.decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        pin = ""
    if not pin or len(data) > _MAX_PIN:
        # Without the cause: it would hold the PIN.
        raise KeyMaterialError(f"the PIN file {str(path)!r} does not hold a PIN") from None
    return pin
