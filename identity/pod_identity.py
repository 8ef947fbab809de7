"""Which pod a Kubernetes ServiceAccount token belongs to, as the API server says (authentication.k8s.io/v1).

- We ask about one audience, ours, and the answer must name it: an API server that does not know audiences
  answers without it, and would let the token of any pod pass.
- The token must be bound to a pod: its name and uid stand in the answer exactly once. Such a token dies with
  its pod; one that is bound to nothing could have been copied from anywhere.
- The user is a service account by name and by its groups; a person of that name is not.
- What we do not understand in full, and an answer with an error beside its yes, is a no.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from identity.errors import AttestationError, SpiffeIdError
from identity.spiffe import SpiffeId, TrustDomain
from identity.strict_json import Limits, StrictJsonError, loads

API_VERSION: Final = "authentication.k8s.io/v1"
REVIEW_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
MAX_TOKEN: Final = 8192
# The answer repeats the token, and tells of who changed which field.
MAX_ANSWER: Final = 64 * 1024

_KIND: Final = ("TokenReview", API_VERSION)
_LIMITS: Final = Limits(depth=24, keys=1000)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123
_SUBDOMAIN: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_USER: Final = re.compile(rf"system:serviceaccount:({_LABEL}):([a-z0-9.-]{{1,253}})")
_UID: Final = re.compile(r"[A-Za-z0-9-]{1,128}")
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_ALL_ACCOUNTS: Final = "system:serviceaccounts"


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """One pod, and the service account that it runs as."""

    namespace: str
    service_account: str
    pod_name: str
    pod_uid: str

    @classmethod
    def parse(cls, answer: bytes, audience: str) -> "PodIdentity":
        """Read what the API server answered to a `token_review` for an audience.

        Raises:
            AttestationError: if it does not say, for sure, that the token is that of one pod and for us.
        """
        status = _member(_review(answer), "status")
        # 1. Authenticated, without a doubt beside it.
        if status.get("error", "") != "":
            raise AttestationError("the API server could not check the token for sure")
        if status.get("authenticated", False) is not True:
            raise AttestationError("a token that the API server does not accept for our audience")
        # 2. For us.
        if audience not in _texts(status, "audiences"):
            raise AttestationError("an answer without our audience: the API server does not know audiences")
        # 3. A service account, by name and by groups.
        user = _member(status, "user")
        named = _USER.fullmatch(_text(user, "username"))
        if named is None or not _SUBDOMAIN.fullmatch(named[2]):
            raise AttestationError("a token of somebody who is no service account")
        namespace, account = named[1], named[2]
        if not {_ALL_ACCOUNTS, f"{_ALL_ACCOUNTS}:{namespace}"} <= set(_texts(user, "groups")):
            raise AttestationError("a user with the name of a service account, and not its groups")
        # 4. Bound to one pod.
        extra = _member(user, "extra") if "extra" in user else {}
        pod_name, pod_uid = _only(extra, _POD_NAME, _SUBDOMAIN), _only(extra, _POD_UID, _UID)
        return cls(namespace, account, pod_name, pod_uid)

    def workload(self, trust_domain: TrustDomain) -> SpiffeId:
        """Return the mesh identity of the service account, `/ns/<namespace>/sa/<account>`.

        Raises:
            AttestationError: if the names are too long for an ID.
        """
        try:
            return SpiffeId.parse(f"{trust_domain.spiffe_id}/ns/{self.namespace}/sa/{self.service_account}")
        except SpiffeIdError as error:
            raise AttestationError(f"a service account that cannot have an ID: {error}") from error


def token_review(token: str, audience: str) -> bytes:
    """Return the question whose token it is.

    Raises:
        AttestationError: if it has not the form of a token; it is then not sent anywhere.
    """
    if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise AttestationError(f"not a ServiceAccount token of at most {MAX_TOKEN} characters")
    spec = {"token": token, "audiences": [audience]}
    return json.dumps({"apiVersion": API_VERSION, "kind": "TokenReview", "spec": spec}).encode("ascii")


def _review(answer: bytes) -> Mapping[str, object]:
    if len(answer) > MAX_ANSWER:
        raise AttestationError(f"an answer longer than {MAX_ANSWER} bytes")
    try:
        review = loads(answer, _LIMITS)
    except StrictJsonError:
        # Without the cause: the answer repeats the token.
        raise AttestationError("an answer that is not strict JSON") from None
    if not isinstance(review, dict) or (review.get("kind"), review.get("apiVersion")) != _KIND:
        raise AttestationError(f"an answer that is not a TokenReview of {API_VERSION}")
    return review


def _member(parent: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise AttestationError(f"an answer without the object {name}")
    return value


def _text(parent: Mapping[str, object], name: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str):
        raise AttestationError(f"an answer without the text {name}")
    return value


def _texts(parent: Mapping[str, object], name: str) -> list[str]:
    values = parent.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise AttestationError(f"an answer whose {name} are not texts")
    return values


def _only(extra: Mapping[str, object], name: str, form: re.Pattern[str]) -> str:
    match extra.get(name):
        case [str(value)] if form.fullmatch(value):
            return value
    raise AttestationError(f"a token that is not bound to one pod: {name.rpartition('/')[2]}")
