"""What all shapes of the file have in common. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from poller.settings import arns, values


class Shape(BaseModel):
    """A block of keys, all of them known. A string is no number here, and a boolean is none either."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    hints: ClassVar[Mapping[str, str]] = {}
    """Keys that people try and that are not taken, with what to tell them."""

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The fields by the name they have in the file."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def spellings(cls) -> dict[str, str]:
        """Every spelling that is taken, and the one it stands for."""
        return {name: name for name in cls.fields()}


class AwsShape(Shape):
    """A block of AWS's: a field's name is Terraform's spelling, its alias AWS's own; the file may use either."""

    @classmethod
    def spellings(cls) -> dict[str, str]:
        """AWS's spellings, then Terraform's."""
        terraform = {name: field.alias or name for name, field in cls.model_fields.items()}
        return super().spellings() | terraform


def block_of(annotation: Any) -> type[Shape] | None:
    """The shape that a field's type holds: itself, one of a list, or one that may be left out."""
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return annotation
    found = (block_of(argument) for argument in get_args(annotation))
    return next((shape for shape in found if shape), None)


Url = Annotated[str, AfterValidator(values.url), WithJsonSchema({"type": "string", "format": "uri"})]
RoleArn = Annotated[str, AfterValidator(arns.role)]
PollInterval = Annotated[float, Field(ge=0.05, le=3600)]
Timestamp = Annotated[
    float,
    BeforeValidator(values.timestamp),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "format": "date-time"}]}),
]
