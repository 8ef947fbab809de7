"""The JSON Schemas of what goes into the policy, what comes out, and of `grants.yaml`.

- They describe the forms to people, editors and tests. On the way of a call the parsers speak (verdict.py,
  grants.py), which are stricter; a test holds both against each other.
- A schema that is not one is found when it is loaded.
- A sentence about a misfit names the place and the rule, never the value: it may be a secret.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Literal, cast

from jsonschema import Draft202012Validator, SchemaError, ValidationError

from authz.errors import PolicyLoadError

Name = Literal["input", "result", "grants", "admin"]
Schema = dict[str, object]

_MAX_PROBLEMS = 20
_SHOWN = 120


def schema(name: Name) -> Schema:
    """Return a schema, a fresh copy.

    Raises:
        PolicyLoadError: if the file is missing or is no JSON Schema.
    """
    try:
        value = cast("Schema", json.loads((files("authz.policy") / "schemas" / f"{name}.json").read_bytes()))
        Draft202012Validator.check_schema(value)
    except (OSError, ValueError, SchemaError) as error:
        raise PolicyLoadError(f"the schema {name}.json cannot be used: install the package again") from error
    return value


def problems(name: Name, value: object) -> tuple[str, ...]:
    """Say where a JSON value does not fit a schema; nothing when it fits.

    Raises:
        PolicyLoadError: if the schema cannot be used.
    """
    # Through JSON, so that a tuple is the array that an engine will see.
    misfits = _validator(name).iter_errors(json.loads(json.dumps(value)))
    return tuple(sorted({_sentence(misfit) for misfit in misfits}))[:_MAX_PROBLEMS]


def _sentence(misfit: ValidationError) -> str:
    members = misfit.instance if isinstance(misfit.instance, dict) else {}
    match misfit.validator, misfit.validator_value:
        case "required", list() as required:
            return f"{misfit.json_path}: lacks {', '.join(key for key in required if key not in members)}"
        case "additionalProperties", _:
            known = misfit.schema.get("properties", {}) if isinstance(misfit.schema, dict) else {}
            return f"{misfit.json_path}: has unknown members; known here: {', '.join(known)}"
        case _:
            wanted = json.dumps(misfit.validator_value)[:_SHOWN]
            return f"{misfit.json_path}: must fit {misfit.validator} {wanted}"


@cache
def _validator(name: Name) -> Draft202012Validator:
    return Draft202012Validator(schema(name))
