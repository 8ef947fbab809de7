import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_X509: _ClassVar[Role]
    ROLE_JWT: _ClassVar[Role]
    ROLE_TOKENS: _ClassVar[Role]
    ROLE_WIT: _ClassVar[Role]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_PREPARED: _ClassVar[Stage]
    STAGE_ACTIVE: _ClassVar[Stage]
    STAGE_RETIRED: _ClassVar[Stage]
ROLE_UNSPECIFIED: Role
ROLE_X509: Role
ROLE_JWT: Role
ROLE_TOKENS: Role
ROLE_WIT: Role
STAGE_UNSPECIFIED: Stage
STAGE_PREPARED: Stage
STAGE_ACTIVE: Stage
STAGE_RETIRED: Stage

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuthorityStatus(_message.Message):
    __slots__ = ("trust_domain", "sequence", "key_store", "at", "roles", "federation")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KEY_STORE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    sequence: int
    key_store: str
    at: _timestamp_pb2.Timestamp
    roles: _containers.RepeatedCompositeFieldContainer[RoleStatus]
    federation: _containers.RepeatedCompositeFieldContainer[FederatedDomain]
    def __init__(self, trust_domain: _Optional[str] = ..., sequence: _Optional[int] = ..., key_store: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., roles: _Optional[_Iterable[_Union[RoleStatus, _Mapping[str, object]]]] = ..., federation: _Optional[_Iterable[_Union[FederatedDomain, _Mapping[str, object]]]] = ...) -> None: ...

class RoleStatus(_message.Message):
    __slots__ = ("role", "keys", "next_step", "next_step_at")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_FIELD_NUMBER: _ClassVar[int]
    NEXT_STEP_AT_FIELD_NUMBER: _ClassVar[int]
    role: Role
    keys: _containers.RepeatedCompositeFieldContainer[KeyStatus]
    next_step: str
    next_step_at: _timestamp_pb2.Timestamp
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., keys: _Optional[_Iterable[_Union[KeyStatus, _Mapping[str, object]]]] = ..., next_step: _Optional[str] = ..., next_step_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ...) -> None: ...

class KeyStatus(_message.Message):
    __slots__ = ("key_id", "stage", "published_at", "not_after", "tainted")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    TAINTED_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    stage: Stage
    published_at: _timestamp_pb2.Timestamp
    not_after: _timestamp_pb2.Timestamp
    tainted: bool
    def __init__(self, key_id: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ..., published_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., not_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., tainted: _Optional[bool] = ...) -> None: ...

class RotateRequest(_message.Message):
    __slots__ = ("roles", "now")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedScalarFieldContainer[Role]
    now: bool
    def __init__(self, roles: _Optional[_Iterable[_Union[Role, str]]] = ..., now: _Optional[bool] = ...) -> None: ...

class RotateProgress(_message.Message):
    __slots__ = ("role", "key_id", "stage", "seconds_left")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    role: Role
    key_id: str
    stage: Stage
    seconds_left: int
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., key_id: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ..., seconds_left: _Optional[int] = ...) -> None: ...

class TaintRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("key_id", "force")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    force: bool
    def __init__(self, key_id: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class KeyChanged(_message.Message):
    __slots__ = ("role", "key_id", "sequence")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    role: Role
    key_id: str
    sequence: int
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., key_id: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class ListFederationRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FederationList(_message.Message):
    __slots__ = ("domains",)
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    domains: _containers.RepeatedCompositeFieldContainer[FederatedDomain]
    def __init__(self, domains: _Optional[_Iterable[_Union[FederatedDomain, _Mapping[str, object]]]] = ...) -> None: ...

class FederatedDomain(_message.Message):
    __slots__ = ("trust_domain", "url", "profile", "endpoint_spiffe_id", "roots", "jwt_keys", "sequence", "fetched_at", "tried_at", "problem")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    JWT_KEYS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FETCHED_AT_FIELD_NUMBER: _ClassVar[int]
    TRIED_AT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    url: str
    profile: str
    endpoint_spiffe_id: str
    roots: int
    jwt_keys: int
    sequence: int
    fetched_at: _timestamp_pb2.Timestamp
    tried_at: _timestamp_pb2.Timestamp
    problem: str
    def __init__(self, trust_domain: _Optional[str] = ..., url: _Optional[str] = ..., profile: _Optional[str] = ..., endpoint_spiffe_id: _Optional[str] = ..., roots: _Optional[int] = ..., jwt_keys: _Optional[int] = ..., sequence: _Optional[int] = ..., fetched_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., tried_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., problem: _Optional[str] = ...) -> None: ...

class AddFederationRequest(_message.Message):
    __slots__ = ("trust_domain", "url", "profile", "endpoint_spiffe_id", "ca_file", "bundle")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    CA_FILE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    url: str
    profile: str
    endpoint_spiffe_id: str
    ca_file: str
    bundle: bytes
    def __init__(self, trust_domain: _Optional[str] = ..., url: _Optional[str] = ..., profile: _Optional[str] = ..., endpoint_spiffe_id: _Optional[str] = ..., ca_file: _Optional[str] = ..., bundle: _Optional[bytes] = ...) -> None: ...

class RemoveFederationRequest(_message.Message):
    __slots__ = ("trust_domain",)
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    def __init__(self, trust_domain: _Optional[str] = ...) -> None: ...

class FederationChanged(_message.Message):
    __slots__ = ("domain",)
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    domain: FederatedDomain
    def __init__(self, domain: _Optional[_Union[FederatedDomain, _Mapping[str, object]]] = ...) -> None: ...
