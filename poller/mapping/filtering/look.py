"""A record's body, read as far as filters need it and no further, once. No I/O, no clock.

A payload is decoded when a condition on it is reached, never for a pattern that looks at metadata alone. What cannot
be read is no error: the conditions on it do not hold. Source: semantics 5.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, NoReturn, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from poller.mapping.filtering.match import Held, Look
from poller.mapping.filtering.pattern import Node

Kind: TypeAlias = Literal["kinesis", "dynamodb", "sqs", "document"]
"""Whose records are looked at; a document is taken as it is."""
PAYLOADS = {"kinesis": "data", "sqs": "body"}
"""The field that holds what the producer wrote, where it is wrapped in text. DynamoDB's images are plain JSON."""

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_bytes = msgspec.json.Decoder(bytes)
"""Of base64."""
_text = msgspec.json.Decoder(str)
_LONGEST_INTEGER = 4000
"""Digits; longer ones are compared as doubles."""
_NOT_IN_NAMES = frozenset('"\\')
_Named: TypeAlias = dict[str, "_Named"]


class Looker:
    """Reads what some patterns look at in the records of one kind of source."""

    def __init__(self, kind: Kind, patterns: Iterable[Node]) -> None:
        named: _Named = {}
        for pattern in patterns:
            _name(pattern, named)
        self._kind = kind
        self._payload = PAYLOADS.get(kind, "")
        self._attribute = ""
        inner = named.pop(self._payload, None) if self._payload else None
        if inner is not None:
            self._attribute = _attribute(self._payload)
            self._payload_decoder = msgspec.json.Decoder(_type(inner))
        raw = {self._payload: Raw} if inner is not None else {}
        record = _type(named, raw)
        outer = msgspec.defstruct("Outer", [("kinesis", record)], gc=False) if kind == "kinesis" else record
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(outer)

    def look(self, body: bytes) -> Any:
        """The record as patterns see it; UNSET when it cannot be read."""
        try:
            found = self._decoder.decode(body)
        except _UNREADABLE:
            found = read_slowly(body)
        if self._kind == "kinesis":
            found = found.get("kinesis", UNSET) if type(found) is dict else getattr(found, "kinesis", UNSET)
        if not isinstance(found, Look | dict):
            return UNSET
        if self._attribute:
            self._hold(found)
        return found

    def _hold(self, record: Look | dict[str, Any]) -> None:
        """Put the payload in its place, unread."""
        if isinstance(record, dict):
            record[self._payload] = Held(_Payload(self, record.get(self._payload)))
        else:
            setattr(record, self._attribute, Held(_Payload(self, getattr(record, self._attribute, None))))

    def text_of(self, field: Any) -> str | None:
        """What the producer wrote, of a payload's field as it came; None when that is no UTF-8."""
        try:
            if self._kind == "kinesis":
                return (_bytes.decode(field) if isinstance(field, Raw) else msgspec.convert(field, bytes)).decode()
            return _text.decode(field) if isinstance(field, Raw) else msgspec.convert(field, str)
        except _UNREADABLE:
            return _slow_text(field) if self._kind == "sqs" and isinstance(field, Raw) else None

    def value_of(self, text: str) -> Any:
        """The object or list that a payload is in JSON; UNSET when it is neither."""
        if not text.lstrip(" \t\n\r").startswith(("{", "[")):
            return UNSET
        try:
            return self._payload_decoder.decode(text)
        except _UNREADABLE:
            return read_slowly(text)


class _Payload:
    """One record's payload, each form of it made at most once."""

    __slots__ = ("_field", "_looker", "_text", "_value")

    def __init__(self, looker: Looker, field: Any) -> None:
        self._looker = looker
        self._field = field
        self._text: str | UnsetType | None = UNSET
        self._value: Any = None

    def json(self) -> Any:
        if self._value is None:
            text = self._whole()
            self._value = UNSET if text is None else self._looker.value_of(text)
        return self._value

    def text(self) -> str | None:
        return self._whole() if self.json() is UNSET else None

    def _whole(self) -> str | None:
        if self._text is UNSET:
            self._text = self._looker.text_of(self._field)
        return self._text if isinstance(self._text, str) else None


def read_slowly(text: bytes | str) -> Any:
    """Any JSON, also what the fast decoders refuse: half a character, huge numbers. UNSET when it is none."""
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_integer)
    except (ValueError, RecursionError):
        return UNSET


def _slow_text(field: Raw) -> str | None:
    found = read_slowly(bytes(field))
    return found if isinstance(found, str) else None


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _attribute(key: str) -> str:
    return f"f_{key.encode().hex()}"


def _name(node: Node, into: _Named) -> None:
    """Gather the fields that a pattern names."""
    for field in node.named():
        _name(field.node, into.setdefault(field.key, {}))


def _type(named: _Named, raw: dict[str, Any] | None = None) -> Any:
    """What to read of a value: of objects the named fields alone, everything where no field is named."""
    plain = raw or {}
    if not named and not plain and raw is None:
        return Any
    if any(not _NOT_IN_NAMES.isdisjoint(key) or any(char < " " for char in key) for key in named):
        return Any  # such names cannot be asked for; objects are read whole
    fields: list[tuple[str, Any, Any]] = [(_attribute(key), kind | UnsetType, UNSET) for key, kind in plain.items()]
    fields += [(_attribute(key), _type(child) | UnsetType, UNSET) for key, child in named.items()]
    names = {_attribute(key): key for key in (*plain, *named)}
    look = msgspec.defstruct("Fields", fields, bases=(Look,), rename=names, gc=False)
    scalar = str | int | float | bool | None
    return look | list[look | list[Any] | scalar] | scalar  # type: ignore[valid-type]
