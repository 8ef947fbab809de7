"""Private keys in a PKCS#11 token: against SoftHSM2, whole."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from identity.caller import Task
from identity.errors import IdentityError, IssuanceUnavailableError, KeyMaterialError
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.key_files import KeyStore
from identity.keys import SigningKey
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.pkcs11_key_store import Pkcs11KeyStore
from identity.spiffe import agent_task_id
from identity.x509_svid import verify_x509_svid
from tests.hsm import LABEL, PIN, SoftHsm, soft_hsm
from tests.identity_world import NOW, TD, task, ulid

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parent.parent
TASK_ID = agent_task_id(TD, "triage", ulid(1))
LEAF = SigningKey.generate().private_key.public_key()


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    directory = tmp_path / "hsm"
    directory.mkdir()
    with soft_hsm(directory) as made:
        yield made


def open_store(hsm: SoftHsm, label: str = LABEL) -> Pkcs11KeyStore:
    return Pkcs11KeyStore.open(hsm.module, label, hsm.pin_file)


def in_other_process(hsm: SoftHsm, script: str, *arguments: str) -> Any:
    """Run lines in a process of their own; `store` is open there, `show` gives an answer back."""
    head = (
        "import json, sys\nfrom pathlib import Path\n"
        "from identity.errors import *\n"
        "from identity.pkcs11_key_store import Pkcs11KeyStore\n"
        "from identity.keys import SigningKey\n"
        "def show(value): print(json.dumps(value))\n"
        f"store = Pkcs11KeyStore.open(Path({str(hsm.module)!r}), {LABEL!r}, Path({str(hsm.pin_file)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + script, *arguments],
        cwd=ROOT,
        env={**os.environ, "SOFTHSM2_CONF": str(hsm.config)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def raw_session(hsm: SoftHsm) -> Any:
    """Return a session beside the store's, as an administrator's tool has it."""
    import pkcs11

    token = pkcs11.lib(str(hsm.module)).get_token(token_label=LABEL)
    try:
        return token.open(rw=True, user_pin=PIN)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=True)


# ---------------------------------------------------------------- the whole path


def test_key_is_made_signs_is_found_again_and_is_destroyed(hsm: SoftHsm) -> None:
    store: KeyStore = open_store(hsm)
    key = store.make()
    key.public.verify(key.sign(b"data"), b"data")
    again = store.load(key.kid)
    assert again.public.jwk() == key.public.jwk()
    again.public.verify(again.sign(b"more"), b"more")
    store.destroy(key.kid)
    store.destroy(key.kid)  # gone is gone
    with pytest.raises(KeyMaterialError, match="not exactly one key"):
        store.load(key.kid)
    for held in (key, again):
        with pytest.raises(KeyMaterialError):
            held.sign(b"data")


def test_jw08_authority_whose_keys_are_in_the_token(hsm: SoftHsm, tmp_path: Path) -> None:
    """JW-08: an HSM signs; made, issuing, opened again elsewhere: what verifies is what files give."""
    directory = tmp_path / "keys"
    settings = AuthoritySettings(wit=True)
    live = LiveAuthority.open(directory, TD, settings, NOW, open_store(hsm))
    live_task: Task = task()
    der = live.current.issue_task_svid(live_task, LEAF, NOW, 600)
    assert verify_x509_svid([der], live.current.roots, TD, NOW).spiffe_id == TASK_ID
    token = live.current.issue_jwt_svid(TASK_ID, "tickets", NOW, 60, NOW + timedelta(hours=1))
    svid = verify_jwt_svid(
        UnverifiedToken.parse(token), {TD: live.current.svid_keys}, audience="tickets", now=NOW, leeway=0
    )
    assert svid.spiffe_id == TASK_ID
    # No file holds a private key.
    contents = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert b"PRIVATE" not in contents
    bundle, roots = live.current.bundle(), live.current.roots
    live.close()

    other = in_other_process(
        hsm,
        "from datetime import timedelta\n"
        "from identity.live_authority import AuthoritySettings, LiveAuthority\n"
        "from tests.identity_world import NOW, TD, task\n"
        "live = LiveAuthority.open(Path(sys.argv[1]), TD, AuthoritySettings(wit=True), NOW, store)\n"
        "key = SigningKey.generate().private_key.public_key()\n"
        "der = live.current.issue_task_svid(task(), key, NOW, 600)\n"
        "show([der.hex(), live.current.bundle()])\n",
        str(directory),
    )
    assert other[1] == bundle
    assert verify_x509_svid([bytes.fromhex(other[0])], roots, TD, NOW).spiffe_id == TASK_ID


def test_rotation_destroys_the_key_that_signs_no_more(hsm: SoftHsm, tmp_path: Path) -> None:
    store = open_store(hsm)
    live = LiveAuthority.open(tmp_path / "keys", TD, AuthoritySettings(), NOW, store)
    first = live.current.ca.key
    now = NOW
    while live.current.ca.key.kid == first.kid:
        now += timedelta(hours=1)
        live.apply(live.due(now), now)
        assert now < NOW + timedelta(days=400)
    der = live.current.issue_task_svid(replace(task(), deadline=now + timedelta(hours=1)), LEAF, now, 600)
    assert verify_x509_svid([der], live.current.roots, TD, now).spiffe_id == TASK_ID
    with pytest.raises(KeyMaterialError):
        store.load(first.kid)
    live.close()


# ---------------------------------------------------------------- never readable


def test_key_cannot_be_read(hsm: SoftHsm) -> None:
    """Neither through us nor by whoever knows the PIN."""
    import pkcs11

    key = open_store(hsm).make()
    private: Any = key.private_key
    form = serialization.PrivateFormat.PKCS8
    with pytest.raises(KeyMaterialError):
        key.reveal_pem()
    with pytest.raises(KeyMaterialError):
        private.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    with pytest.raises(KeyMaterialError):
        private.private_numbers()
    with pytest.raises(KeyMaterialError):
        private.exchange(ec.ECDH(), LEAF)
    (found,) = raw_session(hsm).get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
    with pytest.raises(pkcs11.AttributeSensitive):
        found[pkcs11.Attribute.VALUE]
    with pytest.raises(pkcs11.PKCS11Error):
        found[pkcs11.Attribute.EXTRACTABLE] = True
    with pytest.raises(pkcs11.PKCS11Error):
        found[pkcs11.Attribute.SENSITIVE] = False
    said = [found[getattr(pkcs11.Attribute, name)] for name in ("SENSITIVE", "EXTRACTABLE", "LOCAL", "SIGN")]
    assert said == [True, False, True, True]
    assert not found[pkcs11.Attribute.DERIVE]
    assert (found[pkcs11.Attribute.ID], found[pkcs11.Attribute.LABEL]) == (
        key.kid.encode(),
        f"deputy {key.kid}",
    )


def test_refuses_key_that_somebody_put_into_the_token(hsm: SoftHsm) -> None:
    """A key from outside, of which a copy may lie anywhere, under the right name."""
    import pkcs11
    from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key

    store, session = open_store(hsm), raw_session(hsm)
    outside = SigningKey.generate()
    form, encoding = serialization.PrivateFormat.TraditionalOpenSSL, serialization.Encoding.DER
    private = outside.private_key.private_bytes(encoding, form, serialization.NoEncryption())
    public = outside.private_key.public_key().public_bytes(
        encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    more = {pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.ID: outside.kid.encode()}
    for extractable in (True, False):
        secret = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: extractable}
        made = [
            session.create_object({**decode_ec_private_key(private), **more, **secret}),
            session.create_object({**decode_ec_public_key(public), **more}),
        ]
        with pytest.raises(KeyMaterialError, match="read out"):
            store.load(outside.kid)
        for half in made:
            half.destroy()


def test_refuses_key_under_the_name_of_another(hsm: SoftHsm) -> None:
    """Who can rename keys in the token cannot make one stand for another, nor two for one."""
    import pkcs11

    store, session = open_store(hsm), raw_session(hsm)
    first, second = store.make(), store.make()
    named = {pkcs11.Attribute.ID: second.kid.encode()}
    for half in session.get_objects(named):
        half[pkcs11.Attribute.ID] = b"x" * 43
    for half in session.get_objects({pkcs11.Attribute.ID: first.kid.encode()}):
        half[pkcs11.Attribute.ID] = second.kid.encode()
    with pytest.raises(KeyMaterialError, match="another key"):
        store.load(second.kid)
    with pytest.raises(KeyMaterialError):
        store.load(first.kid)
    for half in session.get_objects({pkcs11.Attribute.ID: b"x" * 43}):
        half[pkcs11.Attribute.ID] = second.kid.encode()
    with pytest.raises(KeyMaterialError, match="not exactly one"):
        store.load(second.kid)


def test_signature_of_another_key_does_not_leave(hsm: SoftHsm) -> None:
    """The private halves of two keys were exchanged while we held their handles."""
    import pkcs11

    store = open_store(hsm)
    first, second = store.make(), store.make()
    session, kind = raw_session(hsm), {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
    (left,) = session.get_objects({**kind, pkcs11.Attribute.ID: first.kid.encode()})
    (right,) = session.get_objects({**kind, pkcs11.Attribute.ID: second.kid.encode()})
    left[pkcs11.Attribute.ID], right[pkcs11.Attribute.ID] = second.kid.encode(), first.kid.encode()
    store.close()
    store = open_store(hsm)
    for kid in (first.kid, second.kid):
        with pytest.raises(KeyMaterialError, match="not of the key"):
            store.load(kid)


@pytest.mark.parametrize("kid", ["", "x", "é" * 43, "a" * 43, "../key", "a" * 5000, "\x00"])
def test_unknown_name_is_our_error(hsm: SoftHsm, kid: str) -> None:
    store = open_store(hsm)
    store.make()
    with pytest.raises(KeyMaterialError):
        store.load(kid)
    store.destroy(kid)


def test_key_signs_with_one_algorithm(hsm: SoftHsm) -> None:
    private = open_store(hsm).make().private_key
    assert (private.curve.name, private.key_size) == ("secp256r1", 256)
    for algorithm in (hashes.SHA384(), hashes.SHA1()):
        with pytest.raises(KeyMaterialError):
            private.sign(b"data", ec.ECDSA(algorithm))
    signature = private.sign(bytearray(b"data"), ec.ECDSA(hashes.SHA256()))
    private.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        private.public_key().verify(signature, b"other", ec.ECDSA(hashes.SHA256()))


# ---------------------------------------------------------------- threads and processes


def test_signs_from_many_threads(hsm: SoftHsm) -> None:
    store = open_store(hsm)
    keys = [store.make(), store.make()]
    failures: list[str] = []

    def work(number: int) -> None:
        key = keys[number % 2]
        try:
            for step in range(25):
                data = hashlib.sha256(f"{number} {step}".encode()).digest()
                key.public.verify(key.sign(data), data)
            store.load(store.make().kid)
        except IdentityError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_two_processes_use_one_token(hsm: SoftHsm) -> None:
    """What one makes the other finds; what one destroys the other cannot sign with."""
    store = open_store(hsm)
    mine = store.make()
    theirs = in_other_process(
        hsm,
        "mine = store.load(sys.argv[1])\n"
        "mine.public.verify(mine.sign(b'data'), b'data')\n"
        "theirs = store.make()\n"
        "store.destroy(sys.argv[1])\n"
        "show(theirs.kid)\n",
        mine.kid,
    )
    key = store.load(theirs)
    key.public.verify(key.sign(b"data"), b"data")
    with pytest.raises(KeyMaterialError):
        mine.sign(b"data")
    key.public.verify(key.sign(b"data"), b"data")


def test_forked_process_has_no_token(hsm: SoftHsm) -> None:
    answer = in_other_process(
        hsm,
        "import os\n"
        "key = store.make()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        key.sign(b'data')\n"
        "    except IssuanceUnavailableError as error:\n"
        "        os._exit(7)\n"
        "    os._exit(1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "key.public.verify(key.sign(b'data'), b'data')\n"
        "show(os.waitstatus_to_exitcode(status))\n",
    )
    assert answer == 7


def test_two_stores_of_one_token_in_one_process(hsm: SoftHsm) -> None:
    """To close one logs both out; the other logs in again."""
    first, second = open_store(hsm), open_store(hsm)
    key = second.load(first.make().kid)
    first.close()
    key.public.verify(key.sign(b"data"), b"data")
    with pytest.raises(KeyMaterialError):
        first.make()


# ---------------------------------------------------------------- PIN and token


def _reload(hsm: SoftHsm) -> None:
    """Lose every session of this process, as when a network or a token goes away."""
    import pkcs11

    pkcs11.lib(str(hsm.module)).reinitialize()


def test_wrong_pin_is_said_without_the_pin_and_tried_once(hsm: SoftHsm) -> None:
    """A token locks itself after a few wrong ones; a server that retries would lock it for everybody."""
    hsm.write_pin("1111-wrong")
    with pytest.raises(KeyMaterialError, match="the PIN in") as caught:
        open_store(hsm)
    assert "1111" not in repr(caught.value)
    assert caught.value.__cause__ is None
    hsm.write_pin(PIN)
    store = open_store(hsm)
    key = store.make()
    # The session is lost, and meanwhile the PIN was changed.
    hsm.write_pin("1111-wrong")
    _reload(hsm)
    with pytest.raises(KeyMaterialError):
        key.sign(b"data")
    hsm.write_pin(PIN)
    with pytest.raises(KeyMaterialError, match="the PIN in"):
        key.sign(b"data")  # not tried again before a restart
    again = open_store(hsm).load(key.kid)
    again.public.verify(again.sign(b"data"), b"data")


# python-pkcs11 also tries to end the search that failed, and that fails too; it can only print so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_lost_session_is_opened_again(hsm: SoftHsm) -> None:
    store = open_store(hsm)
    key = store.make()
    _reload(hsm)
    key.public.verify(key.sign(b"data"), b"data")
    _reload(hsm)
    assert store.load(key.kid).kid == key.kid


def test_token_that_is_gone_is_unavailable_and_comes_back(hsm: SoftHsm) -> None:
    store = open_store(hsm)
    key = store.make()
    elsewhere = hsm.directory / "elsewhere"
    hsm.tokens.rename(elsewhere)
    hsm.tokens.mkdir()
    _reload(hsm)
    with pytest.raises(IssuanceUnavailableError) as caught:
        key.sign(b"data")
    assert PIN not in repr(caught.value)
    for ask in (store.make, lambda: store.load(key.kid), lambda: store.destroy(key.kid)):
        with pytest.raises(KeyMaterialError):
            ask()
    hsm.tokens.rmdir()
    elsewhere.rename(hsm.tokens)
    _reload(hsm)
    key.public.verify(key.sign(b"data"), b"data")


def test_damaged_token_signs_nothing(hsm: SoftHsm) -> None:
    store = open_store(hsm)
    key = store.make()
    for path in hsm.tokens.rglob("*.object"):
        path.write_bytes(b"")
    with pytest.raises(IdentityError):
        key.sign(b"data")
    shutil.rmtree(hsm.tokens)
    with pytest.raises(IdentityError):
        key.sign(b"data")


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("", 0o600, "does not hold a PIN"),
        ("\n", 0o600, "does not hold a PIN"),
        ("x" * 300, 0o600, "does not hold a PIN"),
        (PIN, 0o640, "open to others"),
        (PIN, 0o604, "open to others"),
    ],
)
def test_pin_file_is_ours_alone(hsm: SoftHsm, text: str, mode: int, words: str) -> None:
    hsm.write_pin(text, mode)
    with pytest.raises(KeyMaterialError, match=words) as caught:
        open_store(hsm)
    assert PIN not in repr(caught.value)


def test_pin_file_that_is_none(hsm: SoftHsm) -> None:
    hsm.pin_file.write_bytes(b"\xff\xfe")
    with pytest.raises(KeyMaterialError, match="does not hold a PIN") as caught:
        open_store(hsm)
    assert caught.value.__suppress_context__
    hsm.pin_file.unlink()
    with pytest.raises(KeyMaterialError, match="cannot read"):
        open_store(hsm)
    os.mkfifo(hsm.pin_file, 0o600)
    with pytest.raises(KeyMaterialError, match="not a file"):
        open_store(hsm)
    hsm.pin_file.unlink()
    other = hsm.directory / "other-pin"
    other.touch(0o600)
    other.write_text(PIN)
    hsm.pin_file.symlink_to(other)
    with pytest.raises(KeyMaterialError, match="cannot read"):
        open_store(hsm)


def test_token_and_module_that_are_not_there(hsm: SoftHsm) -> None:
    with pytest.raises(KeyMaterialError, match="cannot be used"):
        open_store(hsm, "other")
    with pytest.raises(KeyMaterialError, match="cannot load"):
        Pkcs11KeyStore.open(hsm.directory / "none.so", LABEL, hsm.pin_file)
    hsm.add_token()
    _reload(hsm)
    with pytest.raises(KeyMaterialError, match="cannot be used"):
        open_store(hsm)  # two tokens of one label


def test_missing_extra_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(KeyMaterialError, match="the extra 'hsm'"):
        Pkcs11KeyStore.open(tmp_path / "x.so", LABEL, tmp_path / "pin")


def test_nothing_shows_pin_or_key(hsm: SoftHsm) -> None:
    store = open_store(hsm)
    key = store.make()
    shown = f"{store!r} {key!r} {key.private_key!r} {vars(store)!r}"
    assert PIN not in shown
    assert key.kid in shown
