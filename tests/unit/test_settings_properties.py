"""Whatever the file holds, it is loaded or refused with lines for people."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from poller.model.errors import SettingsError
from poller.settings import load, schema
from tests.unit.settings_file import DYNAMODB, FIFO, KINESIS, NOW, QUEUE

_SCHEMA: dict[str, Any] = schema()
_KEYS = sorted({key for part in [_SCHEMA, *_SCHEMA["$defs"].values()] for key in part.get("properties", {})})
_ODD = ["${X}", "${", "$${X}", "", "\0", "a\u2028b", "\ud83d", "0x_", "=", "<<", "kafka://", "arn:aws:sqs", "[" * 60]
_words = st.sampled_from([*_KEYS, *_ODD, KINESIS, DYNAMODB, QUEUE, FIFO, "TRIM_HORIZON", "AT_TIMESTAMP", "memory://"])
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _words
    | st.text(max_size=20)
    | st.dates()
    | st.datetimes()
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words | st.text(max_size=8), inner, max_size=6),
    max_leaves=25,
)
_mappings = st.dictionaries(
    st.sampled_from(sorted(_SCHEMA["$defs"]["MappingShape"]["properties"])), _values, max_size=8
)
_functions = st.dictionaries(
    st.sampled_from(["url", "command", "lambda", "headers", "timeout", "environment"]), _values
)
_files = st.fixed_dictionaries(
    {"mappings": st.dictionaries(st.sampled_from(["a", "b"]), _mappings | _values, max_size=2)},
    optional={
        **{key: _values for key in _SCHEMA["properties"] if key not in {"mappings", "functions"}},
        "functions": st.dictionaries(st.sampled_from(["f", "g"]), _functions | _values, max_size=2),
    },
)
_thorough = hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _load_or_refuse(folder: Path, text: str) -> None:
    path = folder / "poller.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path, {"X": text[:9]}, now=NOW)
    except SettingsError as refusal:
        lines = str(refusal).splitlines()
        assert lines
        assert all(line.startswith(f"{path}:") for line in lines)
        assert all(line.encode() for line in lines)


@_thorough
@given(text=st.text(max_size=80) | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?,<=${}~ \n\t\\0x.1", max_size=80))
def test_any_text_is_loaded_or_refused(tmp_path: Path, text: str):
    _load_or_refuse(tmp_path, text)


@_thorough
@given(value=_files | _values)
def test_any_value_is_loaded_or_refused(tmp_path: Path, value: Any):
    _load_or_refuse(tmp_path, yaml.dump(value, allow_unicode=True))


@pytest.mark.parametrize("arn", [KINESIS, DYNAMODB, QUEUE, FIFO], ids=["kinesis", "dynamodb", "queue", "FIFO queue"])
@_thorough
@given(more=_mappings)
def test_any_mapping_of_a_source_is_loaded_or_refused(tmp_path: Path, arn: str, more: dict[str, Any]):
    block = {"EventSourceArn": arn, "FunctionName": "f"} | more
    _load_or_refuse(tmp_path, yaml.dump({"store": "memory://", "mappings": {"m": block}}))
