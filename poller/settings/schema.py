"""The JSON Schema of the file, for editors: what the shapes say, plus what YAML and Terraform allow. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from poller.settings.mapping_shape import MappingShape
from poller.settings.shape import AwsShape, Shape, block_of
from poller.settings.shapes import FileShape

_FROM_ENVIRONMENT = {"$ref": "#/$defs/FromEnvironment"}
_NEEDED = {"event_source_arn": "EventSourceArn", "function_name": "FunctionName"}


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one configuration file."""
    document: dict[str, Any] = _tidy(FileShape.model_json_schema())
    parts = document["$defs"]
    for shape in _aws_shapes(MappingShape):
        parts[shape.__name__]["properties"] |= _terraform_spellings(shape)
    mapping = parts["MappingShape"]
    del mapping["required"]
    mapping["allOf"] = [
        {"anyOf": [{"required": [aws]}, {"required": [terraform]}]} for terraform, aws in _NEEDED.items()
    ]
    document = _with_substitution(document)
    document["$defs"]["FromEnvironment"] = {
        "description": "Replaced from the environment before it is read: ${NAME} or ${NAME:-default}.",
        "type": "string",
        "pattern": r"\$\{[A-Za-z_]",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Configuration of poller"} | document


def _aws_shapes(shape: type[Shape]) -> Iterator[type[Shape]]:
    """The shape and all within it that have two spellings."""
    if issubclass(shape, AwsShape):
        yield shape
        for field in shape.model_fields.values():
            inner = block_of(field.annotation)
            if inner is not None:
                yield from _aws_shapes(inner)


def _terraform_spellings(shape: type[Shape]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in shape.model_fields.items():
        if field.alias is not None and field.alias != name:
            same: dict[str, Any] = {"$ref": f"#/$defs/{shape.__name__}/properties/{field.alias}"}
            inner = block_of(field.annotation)
            if name == "filter" and inner is not None:
                same = {"anyOf": [same, {"$ref": f"#/$defs/{inner.__name__}"}]}
            found[name] = same | {"description": f"Terraform's spelling of {field.alias}."}
    return found


def _tidy(part: Any) -> Any:
    """Without null: a key may be left out, but null is no value for it. Without titles that repeat the key."""
    match part:
        case dict():
            kept = {
                key: _tidy(value)
                for key, value in part.items()
                if not (key == "default" and value is None) and not (key == "title" and isinstance(value, str))
            }
            choices = [choice for choice in kept.get("anyOf", ()) if choice != {"type": "null"}]
            if "anyOf" in kept and len(choices) == 1:
                del kept["anyOf"]
                return choices[0] | kept
            return kept | ({"anyOf": choices} if choices else {})
        case list():
            return [_tidy(item) for item in part]
        case _:
            return part


def _is_narrow(part: dict[str, Any]) -> bool:
    """Whether a text with `${NAME}` would not do."""
    return part["type"] != "string" or not part.keys().isdisjoint({"enum", "const", "pattern", "format"})


def _with_substitution(part: Any) -> Any:
    """Let `${NAME}` stand wherever something else than free text is asked for."""
    match part:
        case {"type": "integer" | "number" | "boolean" | "string"} if _is_narrow(part):
            about = {key: part[key] for key in ("description", "default") if key in part}
            rule = {key: value for key, value in part.items() if key not in about}
            return about | {"anyOf": [rule, _FROM_ENVIRONMENT]}
        case dict():
            return {key: _with_substitution(value) for key, value in part.items()}
        case list():
            return [_with_substitution(item) for item in part]
        case _:
            return part
