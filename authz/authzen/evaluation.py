"""What an AuthZEN client asks, read as the standard says (Authorization API 1.0, sections 5 to 7).

- Required are `subject.type` and `id`, `action.name`, `resource.type` and `id`; what is missing or of the
  wrong type is an error of the request, what is unknown is ignored.
- In a batch, `subject`, `action`, `resource` and `context` at the top are defaults; an item that has one of
  its own replaces it whole. Order and length are kept.
- The JSON is read strictly: no member twice, bounded in size, depth and number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

from authz.errors import AuthzError
from identity.strict_json import Limits, StrictJsonError, loads

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]

MAX_EVALUATIONS: Final = 64

_LIMITS: Final = Limits(depth=32, keys=4096)
_ENTITIES: Final = ("subject", "action", "resource", "context")
_TEXT: Final = 2048


class EvaluationError(AuthzError):
    """A request that is no evaluation; the message is for the one who asked."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A subject or a resource."""

    type: str
    id: str
    properties: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One question; the context may hold a credential and arguments."""

    subject: Entity
    action: str
    resource: Entity
    context: Mapping[str, object] = field(repr=False)

    @classmethod
    def parse(cls, value: Mapping[str, object]) -> "Evaluation":
        """Read one evaluation.

        Raises:
            EvaluationError: if something is missing or of the wrong type.
        """
        action = _object(value, "action")
        context = value.get("context", {})
        if not isinstance(context, dict):
            raise EvaluationError("context is not an object")
        return cls(
            _entity(value, "subject"), _text(action, "action", "name"), _entity(value, "resource"), context
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Several questions, each read or refused, and when to stop."""

    items: tuple[Evaluation | EvaluationError, ...]
    semantic: Semantic

    def ends_with(self, decision: bool) -> bool:  # noqa: FBT001 - the decision itself
        """Say whether no further one is answered after this decision."""
        match self.semantic:
            case "deny_on_first_deny":
                return not decision
            case "permit_on_first_permit":
                return decision
        return False


def read_object(body: bytes) -> Mapping[str, object]:
    """Read the body of a request.

    Raises:
        EvaluationError: if it is not one JSON object.
    """
    try:
        value = loads(body, _LIMITS)
    except StrictJsonError as error:
        raise EvaluationError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise EvaluationError("the body is not an object")
    return value


def read_batch(value: Mapping[str, object]) -> Batch | None:
    """Read `evaluations`; None where there are none: then it is a single one.

    Raises:
        EvaluationError: if the form of the batch itself is wrong.
    """
    listed = value.get("evaluations", [])
    if not isinstance(listed, list):
        raise EvaluationError("evaluations is not a list")
    if not listed:
        return None
    if len(listed) > MAX_EVALUATIONS:
        raise EvaluationError(f"more than {MAX_EVALUATIONS} evaluations")
    defaults = {name: value[name] for name in _ENTITIES if name in value}
    return Batch(tuple(_item(item, defaults) for item in listed), _semantic(value))


def _item(item: object, defaults: Mapping[str, object]) -> Evaluation | EvaluationError:
    if not isinstance(item, dict):
        return EvaluationError("an evaluation that is not an object")
    try:
        return Evaluation.parse({**defaults, **item})
    except EvaluationError as error:
        return error


def _semantic(value: Mapping[str, object]) -> Semantic:
    options = value.get("options", {})
    if not isinstance(options, dict):
        raise EvaluationError("options is not an object")
    semantic = options.get("evaluations_semantic", "execute_all")
    if semantic not in get_args(Semantic):
        raise EvaluationError("options.evaluations_semantic is not one of the standard's")
    return cast("Semantic", semantic)


def _entity(value: Mapping[str, object], name: str) -> Entity:
    entity = _object(value, name)
    properties = entity.get("properties", {})
    if not isinstance(properties, dict):
        raise EvaluationError(f"{name}.properties is not an object")
    return Entity(_text(entity, name, "type"), _text(entity, name, "id"), properties)


def _object(value: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise EvaluationError(f"{name} is not an object")
    return found


def _text(value: Mapping[str, object], name: str, member: str) -> str:
    text = value.get(member)
    if not isinstance(text, str) or not 1 <= len(text) <= _TEXT:
        raise EvaluationError(f"{name}.{member} is not a text of 1 to {_TEXT} characters")
    return text
