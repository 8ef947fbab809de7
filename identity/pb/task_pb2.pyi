import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Delivery(_message.Message):
    __slots__ = ("private_socket", "own_key", "shared_socket")
    class PrivateSocket(_message.Message):
        __slots__ = ("uid",)
        UID_FIELD_NUMBER: _ClassVar[int]
        uid: int
        def __init__(self, uid: _Optional[int] = ...) -> None: ...
    class OwnKey(_message.Message):
        __slots__ = ("csr",)
        CSR_FIELD_NUMBER: _ClassVar[int]
        csr: str
        def __init__(self, csr: _Optional[str] = ...) -> None: ...
    class SharedSocket(_message.Message):
        __slots__ = ("uid",)
        UID_FIELD_NUMBER: _ClassVar[int]
        uid: int
        def __init__(self, uid: _Optional[int] = ...) -> None: ...
    PRIVATE_SOCKET_FIELD_NUMBER: _ClassVar[int]
    OWN_KEY_FIELD_NUMBER: _ClassVar[int]
    SHARED_SOCKET_FIELD_NUMBER: _ClassVar[int]
    private_socket: Delivery.PrivateSocket
    own_key: Delivery.OwnKey
    shared_socket: Delivery.SharedSocket
    def __init__(self, private_socket: _Optional[_Union[Delivery.PrivateSocket, _Mapping[str, object]]] = ..., own_key: _Optional[_Union[Delivery.OwnKey, _Mapping[str, object]]] = ..., shared_socket: _Optional[_Union[Delivery.SharedSocket, _Mapping[str, object]]] = ...) -> None: ...

class StartTaskRequest(_message.Message):
    __slots__ = ("agent", "id_token", "lifetime_seconds", "delivery")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ID_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    agent: str
    id_token: str
    lifetime_seconds: int
    delivery: Delivery
    def __init__(self, agent: _Optional[str] = ..., id_token: _Optional[str] = ..., lifetime_seconds: _Optional[int] = ..., delivery: _Optional[_Union[Delivery, _Mapping[str, object]]] = ...) -> None: ...

class StartTaskResponse(_message.Message):
    __slots__ = ("task", "identity", "decision_id")
    TASK_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    task: str
    identity: Identity
    decision_id: str
    def __init__(self, task: _Optional[str] = ..., identity: _Optional[_Union[Identity, _Mapping[str, object]]] = ..., decision_id: _Optional[str] = ...) -> None: ...

class RenewTaskRequest(_message.Message):
    __slots__ = ("task", "delivery")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    task: str
    delivery: Delivery
    def __init__(self, task: _Optional[str] = ..., delivery: _Optional[_Union[Delivery, _Mapping[str, object]]] = ...) -> None: ...

class RenewTaskResponse(_message.Message):
    __slots__ = ("identity", "decision_id")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    identity: Identity
    decision_id: str
    def __init__(self, identity: _Optional[_Union[Identity, _Mapping[str, object]]] = ..., decision_id: _Optional[str] = ...) -> None: ...

class EndTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class EndTaskResponse(_message.Message):
    __slots__ = ("decision_id",)
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    def __init__(self, decision_id: _Optional[str] = ...) -> None: ...

class Identity(_message.Message):
    __slots__ = ("spiffe_id", "deadline", "endpoint_socket", "certificate_chain", "not_after", "bundle")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_SOCKET_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_CHAIN_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    deadline: _timestamp_pb2.Timestamp
    endpoint_socket: str
    certificate_chain: _containers.RepeatedScalarFieldContainer[bytes]
    not_after: _timestamp_pb2.Timestamp
    bundle: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, spiffe_id: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., endpoint_socket: _Optional[str] = ..., certificate_chain: _Optional[_Iterable[bytes]] = ..., not_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., bundle: _Optional[_Iterable[bytes]] = ...) -> None: ...
