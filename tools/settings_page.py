"""docs/settings.md, made of the schema of the configuration. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_INTRODUCTION = """\
# Settings

<!-- Made from poller/settings by `make monitoring`: edit the descriptions of the shapes there. -->

Every key that a configuration may have. `poller check CONFIG` says what is wrong with one, with the line;
[full.yaml](../config/full.yaml) shows all of them in use, [schema.json](../config/schema.json) brings them into an editor.

- `CONFIG` is a YAML file (JSON is YAML), or a folder whose `*.yaml`, `*.yml` and `*.json` files are read as one.
- `${NAME}` and `${NAME:-default}` in a value are replaced from the environment; `$${` stands for the characters themselves.
- Relative paths start at the folder that holds the file. Durations are seconds.
- A key that is not here is a mistake, and so is one that another source alone knows: "Streams only" is Kinesis and
  DynamoDB Streams, "Queues only" is SQS.
- SIGHUP reloads. A mapping that changed finishes what is in flight and begins anew, the others are not touched; a change
  outside of `mappings` and `functions` restarts all of them.
"""
_SECTIONS = (
    ("aws", "AwsSection", "aws", ""),
    ("server", "ServerShape", "server", ""),
    ("fleet", "FleetShape", "fleet", "[Replicas](replicas.md) says what it is for."),
    ("limits", "LimitsShape", "limits", ""),
    ("functions: an HTTP endpoint", "HttpShape", "functions.NAME", "[Functions](functions.md) tells the kinds apart."),
    ("functions: a local process", "LocalShape", "functions.NAME", ""),
    ("functions: AWS Lambda", "LambdaShape", "functions.NAME", ""),
    (
        "mappings",
        "MappingShape",
        "mappings.NAME",
        "AWS's keys, ranges and defaults, then ours. AWS's others: [coming from Lambda](from-lambda.md#every-setting).",
    ),
)
_TERRAFORM = "Terraform's spelling of "


def page(schema: Mapping[str, Any]) -> str:
    """The page."""
    parts = schema["$defs"]
    top = [_row(name, part, parts, required="mappings") for name, part in schema["properties"].items()]
    sections = ["## The file", "", *_head(), *top, ""]
    for title, shape, path, more in _SECTIONS:
        sections += [f"## {title}", "", f"`{path}`: {_lowered(parts[shape]['description'])}", ""]
        sections += [more, ""] if more else []
        sections += [*_head(), *_rows("", parts[shape], parts), ""]
    return "\n".join([_INTRODUCTION, *sections])


def _head() -> list[str]:
    return ["| key | allowed | default | meaning |", "|---|---|---|---|"]


def _rows(path: str, shape: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    """A row for each key, those of blocks within it by their path."""
    spellings = {
        part["description"].removeprefix(_TERRAFORM).rstrip("."): name
        for name, part in shape["properties"].items()
        if str(part.get("description", "")).startswith(_TERRAFORM)
    }
    for name, part in shape["properties"].items():
        if name in spellings.values():
            continue
        needed = f"{path}{name}" if name in _required(shape) else ""
        yield _row(f"{path}{name}", part, parts, terraform=spellings.get(name, ""), required=needed)
        inner = part.get("items", part)
        block = parts.get(str(inner.get("$ref", "")).rpartition("/")[2])
        if block and "properties" in block:
            yield from _rows(f"{path}{name}{'[]' if 'items' in part else ''}.", block, parts)


def _required(shape: Mapping[str, Any]) -> set[str]:
    """The keys that must be there, in AWS's spelling where there are two."""
    either = {choice["anyOf"][0]["required"][0] for choice in shape.get("allOf", ())}
    return either | set(shape.get("required", ()))


def _row(
    path: str, part: Mapping[str, Any], parts: Mapping[str, Any], *, terraform: str = "", required: str = ""
) -> str:
    spelled = f"<br>`{terraform}`" if terraform else ""
    given = _value(part.get("default", ""))
    default = "required" if path == required else f"`{given}`" if given else ""
    return f"| `{path}`{spelled} | {_allowed(part, parts)} | {default} | {part['description']} |"


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case int() if value and value % 2**20 == 0:
            return f"{value >> 20}MiB"
        case _:
            return str(value)


def _allowed(part: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in part:
        choices = (_allowed(_without(choice, part), parts) for choice in part["anyOf"])
        return " or ".join(dict.fromkeys(choice for choice in choices if choice))
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return "" if name == "FromEnvironment" else "a block"
    if "const" in part:
        return f"`{_value(part['const'])}`"
    if "enum" in part:
        return " or ".join(f"`{each}`" for each in part["enum"])
    match part.get("type"):
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number" as kind:
            return f"{'an integer' if kind == 'integer' else 'a number'}{_range(part)}"
        case "array":
            return f"a list{_lengths(part)} of {_allowed(part['items'], parts)}"
        case "object":
            inner = part.get("additionalProperties")
            each = "text" if inner and inner.get("type") == "string" else "a block"
            return f"names with {each} each" if inner else "a block"
        case _ if part.get("format") == "uri":
            return "an address"
        case _ if part.get("format") == "date-time":
            return "a time"
        case _ if "maxLength" in part and part["maxLength"] > 1:
            return f"text, at most {part['maxLength']} characters"
        case _:
            return f"text, `{part['pattern'].strip('^$')}`" if "pattern" in part else "text"


def _without(choice: Mapping[str, Any], around: Mapping[str, Any]) -> Mapping[str, Any]:
    """A choice, with the type that stands beside the choices."""
    return {**choice, "type": around["type"]} if "type" in around and "type" not in choice else choice


def _range(part: Mapping[str, Any]) -> str:
    least, above, most = (
        _value(part[key]) if key in part else None for key in ("minimum", "exclusiveMinimum", "maximum")
    )
    if least is not None and most is not None:
        return f", {least} to {most}"
    words = [f"above {above}"] if above is not None else [f"at least {least}"] if least is not None else []
    words += [f"at most {most}"] if most is not None else []
    return "".join(f", {word}" for word in words)


def _lengths(part: Mapping[str, Any]) -> str:
    return f" (at most {part['maxItems']})" if "maxItems" in part else ""


def _lowered(sentence: str) -> str:
    return sentence if sentence.startswith("AWS") else sentence[0].lower() + sentence[1:]
