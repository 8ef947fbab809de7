"""Secrets and private keys: known by how they begin, by where they stand, or by the member that holds them.

- Tokens with the fixed prefix of their provider and its length; a JWT whose header decodes to an object with
  `alg`; what stands behind `Bearer` and `Basic`; a password in a URL; Azure's `sig=` and `AccountKey=`, AWS's
  secret access key beside its name.
- A member that is named as a password or a key is, with a text of 8 characters that is no placeholder.
- Private keys by their armour, by the known beginnings of their base64, and as a JWK.
- No entropy is measured: a hash, an id and a commit are as random as a key, and are no secret.
- A secret without any of these marks is not found.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Final

from authz.payload.text import Page, matches
from identity.base64url import Base64UrlError, decode_base64url
from identity.strict_json import StrictJsonError, loads

CLASSES: Final = frozenset({"private_key", "secret"})

# Each begins with a fixed text, so that a look at it is enough for nearly every word.
_TOKENS: Final[Mapping[str, str]] = {
    "AKIA": "[A-Z2-7]{16}",  # AWS, access key id
    "ASIA": "[A-Z2-7]{16}",  # AWS, of a session
    "AIza": "[A-Za-z0-9_-]{35}",  # Google, API key
    "GOCSPX-": "[A-Za-z0-9_-]{28}",  # Google, OAuth client secret
    "SG.": r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    "dckr_pat_": "[A-Za-z0-9_-]{27}",  # Docker Hub
    "dop_v1_": "[0-9a-f]{64}",  # DigitalOcean
    "gho_": "[A-Za-z0-9]{36,255}",  # GitHub, OAuth
    "ghp_": "[A-Za-z0-9]{36,255}",  # GitHub, personal
    "ghr_": "[A-Za-z0-9]{36,255}",  # GitHub, refresh
    "ghs_": "[A-Za-z0-9]{36,255}",  # GitHub, app
    "ghu_": "[A-Za-z0-9]{36,255}",  # GitHub, user of an app
    "github_pat_": "[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    "glpat-": "[A-Za-z0-9_-]{20,255}",  # GitLab, personal
    "hf_": "[A-Za-z]{34}",  # Hugging Face
    "hvs.": "[A-Za-z0-9_-]{24,255}",  # Vault
    "npm_": "[A-Za-z0-9]{36}",
    "pypi-": "[A-Za-z0-9_-]{50,255}",
    "rk_live_": "[A-Za-z0-9]{16,255}",  # Stripe, restricted
    "shpat_": "[0-9a-f]{32}",  # Shopify
    "sk-": "(?:[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|[A-Za-z0-9]{48})",  # OpenAI
    "sk-admin-": "[A-Za-z0-9_-]{20,255}",
    "sk-ant-": "[A-Za-z0-9_-]{20,255}",  # Anthropic
    "sk-or-v1-": "[0-9a-f]{64}",  # OpenRouter
    "sk-proj-": "[A-Za-z0-9_-]{20,255}",  # OpenAI
    "sk-svcacct-": "[A-Za-z0-9_-]{20,255}",
    "sk_live_": "[A-Za-z0-9]{16,255}",  # Stripe
    "xapp-": "[A-Za-z0-9-]{20,255}",  # Slack
    "xoxa-": "[A-Za-z0-9-]{15,255}",
    "xoxb-": "[A-Za-z0-9-]{15,255}",
    "xoxe-": "[A-Za-z0-9-]{15,255}",
    "xoxp-": "[A-Za-z0-9-]{15,255}",
    "xoxr-": "[A-Za-z0-9-]{15,255}",
    "xoxs-": "[A-Za-z0-9-]{15,255}",
    "ya29.": "[A-Za-z0-9_-]{20,255}",  # Google, access token
}
_JWT_STARTS: Final = frozenset({"eyJ", "eyA", "ewo", "ew0", "ewk", "eyI"})
_START: Final = 3


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for start in {prefix[:_START] for prefix in _TOKENS}:
        forms = [re.escape(prefix) + rest for prefix, rest in _TOKENS.items() if prefix.startswith(start)]
        yield start, re.compile(f"(?:{'|'.join(forms)})(?![A-Za-z0-9])")


_TOKEN: Final[Mapping[str, re.Pattern[str]]] = dict(_patterns())

# A word has the characters of a token; the shortest that is looked for in words has 20.
_WORD: Final = bytes(
    ord("a") if byte < 0x80 and (chr(byte).isalnum() or chr(byte) in "_.-") else ord(" ")
    for byte in range(256)
)
_LONG: Final = b"a" * 20
_MAX_JWT_HEADER: Final = 4096
_BASIC: Final = re.compile("asic ([A-Za-z0-9+/]{8,512}={0,2})")
_BEARERS: Final = ("earer", "EARER")
_BEARER: Final = re.compile(r"(?:earer|EARER)[ \t:]{1,4}([A-Za-z0-9._~+/-]{20,512})")
_URL_PASSWORD: Final = re.compile(r"://[^\s/?#:@]{0,256}:(?![*<{$\[%])[^\s/?#@]{1,256}@")
_AZURE: Final = re.compile("(?:sig=[A-Za-z0-9+/]{43}=|AccountKey=[A-Za-z0-9+/]{86}==)")
_AWS_NAMES: Final = ("secret_access_key", "SECRET_ACCESS_KEY", "ecretAccessKey")
_AWS: Final = re.compile(
    f"(?:{'|'.join(_AWS_NAMES)})"
    "[\"']?[ \\t]{0,4}[=:][ \\t]{0,4}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)
_MARKED: Final = (("sig=", _AZURE), ("AccountKey=", _AZURE), *((name, _AWS) for name in _AWS_NAMES))

_MEMBERS: Final = (
    *("password", "passwd", "passphrase"),
    *("api key", "access token", "refresh token", "client secret", "secret key", "secret access key"),
    *("auth token", "bearer token", "private token", "webhook secret", "signing secret"),
)
_PLACEHOLDER: Final = re.compile(r"[*<{$\[%].*|[xX*.]+|[A-Za-z]+", re.DOTALL)
_MIN_PASSWORD: Final = 8


def _spellings(name: str) -> Iterator[str]:
    words = name.split()
    joined = "".join(word.capitalize() for word in words)
    yield from (joined, joined[0].lower() + joined[1:], joined.lower(), joined.upper())
    for separator in "_-":
        yield from (separator.join(words), separator.join(words).upper(), separator.join(words).title())


_SECRET_NAMES: Final = frozenset(spelling for name in _MEMBERS for spelling in _spellings(name))
TELLING_NAMES: Final = _SECRET_NAMES | {"kty"}

_ARMOUR: Final = re.compile(
    "BEGIN (?:(?<=-----BEGIN )[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    "|(?<=---- BEGIN )SSH2 ENCRYPTED PRIVATE KEY ----)"
)
_PUTTY: Final = re.compile("PuTTY-User-Key-File-[0-9]: ")
_AGE: Final = re.compile("AGE-SECRET-KEY-1[A-Z0-9]{58}")
# What only the DER of a private key has, in base64: RSA (PKCS#8, then PKCS#1 of 2048 and of 4096 bits),
# P-256 and Ed25519 (PKCS#8), and OpenSSH's own form.
_KEY_MARKS: Final = (
    "IBADANBgkqhkiG9w0BAQEFAASC",
    "IBAAKCAQEA",
    "IBAAKCAgEA",
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
    "MC4CAQAwBQYDK2VwBCIEI",
    "b3BlbnNzaC1rZXktdjE",
)
# `-----BEGIN ` in base64, as a Kubernetes Secret has it.
_WRAPPED: Final = re.compile("LS0tLS1CRUdJTi[A-Za-z0-9+/]{30,60}")
_MIN_JWK: Final = 16


def find(page: Page, wanted: frozenset[str]) -> Iterator[str]:
    """Find which of the wanted classes there are."""
    words = tuple(_long_words(page))
    if "private_key" in wanted and _has_private_key(page, has_words=bool(words)):
        yield "private_key"
    if "secret" in wanted and _has_secret(page, words):
        yield "secret"


def _long_words(page: Page) -> Iterator[str]:
    runs = page.data.translate(_WORD)
    start = runs.find(_LONG)
    while start >= 0:
        end = runs.find(b" ", start)
        end = len(runs) if end < 0 else end
        yield page.text[start:end]
        start = runs.find(_LONG, end)


def _has_private_key(page: Page, *, has_words: bool) -> bool:
    text = page.text
    if any(_is_private_jwk(members) for members in page.telling):
        return True
    if any(matches(_ARMOUR, "BEGIN ", text)):
        return True
    if not has_words:
        return False
    return (
        any(mark in text for mark in _KEY_MARKS)
        or any(b"PRIVATE KEY-----" in _decoded(found[0]) for found in matches(_WRAPPED, "LS0tLS1", text))
        or any(matches(_PUTTY, "PuTTY-User-", text))
        or any(matches(_AGE, "AGE-SECRET-", text))
    )


def _is_private_jwk(members: Mapping[str, object]) -> bool:
    secret = members.get("k" if members.get("kty") == "oct" else "d")
    return "kty" in members and isinstance(secret, str) and len(secret) >= _MIN_JWK


def _has_secret(page: Page, words: tuple[str, ...]) -> bool:
    text = page.text
    if any(_has_password(members) for members in page.telling):
        return True
    if "@" in text and any(matches(_URL_PASSWORD, "://", text)):
        return True
    if any(_is_login(found[1]) for found in matches(_BASIC, "asic ", text)):
        return True
    if not words:
        return False
    return (
        any(map(_is_token, words))
        or any(_is_random(each[1]) for mark in _BEARERS for each in matches(_BEARER, mark, text))
        or any(any(matches(pattern, mark, text)) for mark, pattern in _MARKED)
    )


def _has_password(members: Mapping[str, object]) -> bool:
    return any(_is_password(members[name]) for name in _SECRET_NAMES & members.keys())


def _is_password(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) >= _MIN_PASSWORD
        and not any(map(str.isspace, value[:256]))
        and not _PLACEHOLDER.fullmatch(value)
    )


def _is_login(encoded: str) -> bool:
    decoded = _decoded(encoded)
    return b":" in decoded and decoded.isascii() and decoded.decode().isprintable()


def _is_token(word: str) -> bool:
    start = word[:_START]
    if start in _JWT_STARTS:
        return _is_jwt(word)
    return start in _TOKEN and _TOKEN[start].match(word) is not None


def _is_jwt(word: str) -> bool:
    header, *others = word.split(".", 3)
    if len(others) < 2 or len(header) > _MAX_JWT_HEADER:
        return False
    try:
        members = loads(decode_base64url(header))
    except (Base64UrlError, StrictJsonError):
        return False
    return isinstance(members, dict) and isinstance(members.get("alg"), str)


def _is_random(text: str) -> bool:
    """Say whether this is no word of a language."""
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def _decoded(encoded: str) -> bytes:
    """Return the whole groups of a text of base64's alphabet."""
    encoded = encoded.rstrip("=")
    return b64decode(encoded[: len(encoded) // 4 * 4])
