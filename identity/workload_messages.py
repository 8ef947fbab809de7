"""What the Workload API says, as bytes (SPIFFE Workload API sections 5 to 7).

- Every message is the complete state; what is not in it is withdrawn (section 4.4).
- Certificates and roots are concatenated DER, the leaf first; keys are PKCS#8 or, for WIT-SVIDs, a JWK.
- A bundle is named by the SPIFFE ID of its trust domain, and holds keys of its own kind alone. It says no
  `use`: plain JWT libraries take a key with a use that they do not know for none.
- A federated domain without roots is left out of X.509 bundles: clients cannot read an empty one, and unload
  what is absent. Its empty JWK Set is a bundle.
- An identity is there once; of two with one hint, the later has none (section 5.2.1).
- The same state gives the same bytes, so that nothing is sent that the client has.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import DESCRIPTOR as STRUCT_FILE

from identity.base64url import encode_base64url
from identity.entitlement import MAX_HINT, Entitlement, HeldSvid, HeldWit
from identity.errors import IssuanceUnavailableError
from identity.keys import KeySet, SigningKey
from identity.pb import workload_pb2 as pb
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles

SERVICE: Final = "SpiffeWorkloadAPI"

# What a claim of another trust domain may say to our workloads (section 6.2.3); the rest is theirs.
_FOREIGN_CLAIMS: Final = ("sub", "aud", "exp")


@dataclass(frozen=True, slots=True)
class BundleBytes:
    """All bundles as the API sends them, by the SPIFFE ID of their trust domain."""

    own: str
    x509: Mapping[str, bytes]
    jwt: Mapping[str, bytes]
    wit: Mapping[str, str]

    @classmethod
    def of(cls, bundles: TrustBundles) -> "BundleBytes":
        """Encode what verifies SVIDs."""
        named = {str(domain.spiffe_id): bundle for domain, bundle in bundles.all.items()}
        return cls(
            str(bundles.own.trust_domain.spiffe_id),
            {name: _ders(bundle.roots) for name, bundle in named.items() if bundle.roots},
            {name: _key_set(bundle.jwt_keys).encode("ascii") for name, bundle in named.items()},
            {name: _key_set(bundle.wit_keys) for name, bundle in named.items()},
        )

    def roots_of(self, trust_domain: TrustDomain) -> bytes:
        """Return the roots that an SVID of ours is verified with.

        Raises:
            IssuanceUnavailableError: if there are none.
        """
        roots = self.x509.get(str(trust_domain.spiffe_id))
        if roots is None:
            raise IssuanceUnavailableError(f"no roots of the trust domain {trust_domain.name!r}")
        return roots


def distinct(entitlements: Iterable[Entitlement]) -> tuple[Entitlement, ...]:
    """Return each identity once, and each hint."""
    found: dict[SpiffeId, Entitlement] = {}
    hints: set[str] = set()
    for entitlement in entitlements:
        if entitlement.spiffe_id in found:
            continue
        hint = entitlement.hint
        if hint and (hint in hints or len(hint.encode()) > MAX_HINT):
            entitlement = replace(entitlement, hint="")  # noqa: PLW2901  # the same identity, told with less
        hints.add(hint)
        found[entitlement.spiffe_id] = entitlement
    return tuple(found.values())


def x509_svids(held: Sequence[tuple[Entitlement, HeldSvid]], bundles: BundleBytes) -> bytes:
    """Return an X509SVIDResponse."""
    federated = {name: roots for name, roots in bundles.x509.items() if name != bundles.own}
    return _bytes(
        pb.X509SVIDResponse(
            svids=[
                pb.X509SVID(
                    spiffe_id=str(svid.spiffe_id),
                    x509_svid=b"".join(svid.chain),
                    x509_svid_key=svid.reveal_key(),
                    bundle=bundles.roots_of(svid.spiffe_id.trust_domain),
                    hint=entitlement.hint,
                )
                for entitlement, svid in held
            ],
            federated_bundles=federated,
        )
    )


def x509_bundles(bundles: BundleBytes) -> bytes:
    """Return an X509BundlesResponse."""
    return _bytes(pb.X509BundlesResponse(bundles=bundles.x509))


def jwt_svids(held: Sequence[tuple[Entitlement, str]]) -> bytes:
    """Return a JWTSVIDResponse."""
    svids = [pb.JWTSVID(spiffe_id=str(of.spiffe_id), svid=token, hint=of.hint) for of, token in held]
    return _bytes(pb.JWTSVIDResponse(svids=svids))


def jwt_bundles(bundles: BundleBytes) -> bytes:
    """Return a JWTBundlesResponse."""
    return _bytes(pb.JWTBundlesResponse(bundles=bundles.jwt))


def validated(spiffe_id: SpiffeId, claims: Mapping[str, object], own: TrustDomain) -> bytes:
    """Return a ValidateJWTSVIDResponse with verified claims, of a foreign SVID only the standard ones.

    Raises:
        ValueError: if a claim does not fit into a Struct.
    """
    shown: dict[str, Any] = (
        dict(claims)
        if spiffe_id.trust_domain == own
        else {name: claims[name] for name in _FOREIGN_CLAIMS if name in claims}
    )
    answer = pb.ValidateJWTSVIDResponse(spiffe_id=str(spiffe_id))
    try:
        answer.claims.update(shown)
    except (OverflowError, ValueError) as error:
        raise ValueError("a claim that no Struct can hold") from error
    return _bytes(answer)


def wit_svids(held: Sequence[tuple[Entitlement, HeldWit]]) -> bytes:
    """Return a WITSVIDResponse."""
    return _bytes(
        pb.WITSVIDResponse(
            svids=[
                pb.WITSVID(
                    spiffe_id=str(svid.spiffe_id),
                    wit_svid=svid.token,
                    wit_svid_key=_private_jwk(svid.key),
                    hint=entitlement.hint,
                )
                for entitlement, svid in held
            ]
        )
    )


def wit_bundles(bundles: BundleBytes) -> bytes:
    """Return a WITBundlesResponse."""
    return _bytes(pb.WITBundlesResponse(bundles=bundles.wit))


def standard_file() -> FileDescriptor:
    """Return the service under the names of the standard, which are in no package, from a pool of its own."""
    proto = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(proto)
    prefix = f".{proto.package}."
    proto.name = "workload.proto"
    proto.ClearField("package")
    for message in proto.message_type:
        _rename(message, prefix)
    for method in (method for service in proto.service for method in service.method):
        method.input_type = method.input_type.replace(prefix, ".", 1)
        method.output_type = method.output_type.replace(prefix, ".", 1)
    pool = DescriptorPool()
    pool.AddSerializedFile(STRUCT_FILE.serialized_pb)
    pool.AddSerializedFile(proto.SerializeToString())
    return pool.FindFileByName(proto.name)


def _rename(message: DescriptorProto, prefix: str) -> None:
    for member in (field for field in message.field if field.type_name):
        member.type_name = member.type_name.replace(prefix, ".", 1)
    for nested in message.nested_type:
        _rename(nested, prefix)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _ders(roots: Iterable[x509.Certificate]) -> bytes:
    return b"".join(root.public_bytes(serialization.Encoding.DER) for root in roots)


def _key_set(keys: KeySet) -> str:
    return _json({"keys": [key.jwk() for key in keys]})


def _private_jwk(key: SigningKey) -> str:
    private = key.private_key.private_numbers().private_value
    return _json({**key.public.jwk(), "d": encode_base64url(private.to_bytes(32))})


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
