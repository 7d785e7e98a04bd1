"""The files in `config/`: each loads, and each satisfies the checked-in schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from poller.settings import load, schema
from poller.settings.not_yet import NOT_YET
from poller.sources.dynamodb import DynamoDBStream
from poller.sources.kinesis import KinesisStream
from poller.sources.sqs import SqsQueue
from poller.stores.memory import MemoryStore
from poller.targets.local import LocalFunction
from tests.unit.settings_file import NOW

CONFIG = Path(__file__).parents[2] / "config"
_STREAM = "arn:aws:dynamodb:eu-west-1:123456789012:table/demo/stream/2026-01-01T00:00:00.000"
_DEMO = {
    "POLLER_DEMO_ENDPOINT": "http://127.0.0.1:4566",
    "POLLER_DEMO_STREAM_ARN": _STREAM,
    "POLLER_DEMO_FUNCTIONS": "/opt/functions",
}
FILES = sorted(CONFIG.glob("*.yaml"), key=lambda path: path.name)


def _raw(path: Path) -> Any:
    """The file as an editor sees it: dates as text, nothing replaced."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=lambda date: date.isoformat()))


def test_the_checked_in_schema_is_the_schema():
    assert json.loads((CONFIG / "schema.json").read_text()) == schema()


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_satisfies_the_schema(path: Path):
    assert [error.message for error in jsonschema.Draft202012Validator(schema()).iter_errors(_raw(path))] == []


@pytest.mark.parametrize(
    "change",
    [
        {"BatchSize": 10_001},
        {"batch_size": "many"},
        {"StartingPosition": "EARLIEST"},
        {"MaximumRecordAgeInSeconds": 59},
        {"Topics": ["a"]},
        {"EventSourceArn": None},
        {"FilterCriteria": {"Filters": {"Pattern": "{}"}}},
        {"Tags": {"a": 1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_an_editor_should_underline(change: dict[str, Any]):
    document = _raw(CONFIG / "minimal.yaml")
    document["mappings"]["orders"] |= change
    assert not jsonschema.Draft202012Validator(schema()).is_valid(document)


def test_the_schema_needs_a_source_and_a_function_in_either_spelling():
    validator = jsonschema.Draft202012Validator(schema())
    assert not validator.is_valid({"mappings": {"m": {"FunctionName": "f"}}})
    assert validator.is_valid({"mappings": {"m": {"function_name": "f", "EventSourceArn": "${ARN}"}}})


def test_every_key_of_the_schema_is_described():
    parts = [schema(), *schema()["$defs"].values()]
    bare = [key for part in parts for key, about in part.get("properties", {}).items() if "description" not in about]
    assert bare == []


def test_the_minimal_file_has_one_queue():
    (mapping,) = load(CONFIG / "minimal.yaml", {}, now=NOW).mappings
    assert isinstance(mapping.source, SqsQueue)


def test_the_full_file_loads_without_an_environment():
    assert len(load(CONFIG / "full.yaml", {}, now=NOW).mappings) == 4


def test_the_full_file_shows_every_key_that_is_supported():
    document = _raw(CONFIG / "full.yaml")
    parts = schema()["$defs"]
    ours = {"EventSourceArn", "FunctionName"} | {key for mapping in document["mappings"].values() for key in mapping}
    aws_names = {key for key in parts["MappingShape"]["properties"] if key[0].isupper()}
    aws_names |= {"role_arn", "destination_role_arn", "poll_interval", "extend_visibility"}
    assert aws_names - ours <= {field for field, idle in NOT_YET.items() if idle is None}
    assert document.keys() == schema()["properties"].keys()
    assert document["aws"].keys() == parts["AwsSection"]["properties"].keys()
    assert document["aws"]["endpoints"].keys() == parts["EndpointsShape"]["properties"].keys()
    assert document["server"].keys() == parts["ServerShape"]["properties"].keys()
    for function, shape in (("orders", "HttpShape"), ("resize", "LocalShape"), ("billing", "LambdaShape")):
        assert document["functions"][function].keys() == parts[shape]["properties"].keys()


def test_the_full_file_has_a_comment_for_every_key():
    lines = (CONFIG / "full.yaml").read_text().partition("  customers-table:")[0].splitlines()
    keyed = [line for line in lines if ":" in line and not line.lstrip().startswith("#")]
    assert [line for line in keyed if "  # " not in line and not line.strip().endswith((":", "orders:"))] == []


def test_the_demo_file_has_one_source_of_each_kind():
    found = load(CONFIG / "demo.yaml", _DEMO, now=NOW)
    assert [type(mapping.source) for mapping in found.mappings] == [KinesisStream, DynamoDBStream, SqsQueue]
    assert [mapping.name for mapping in found.mappings] == ["demo-orders", "demo-table", "demo-mail"]
    assert (found.store, found.server.port, found.aws.region) == (MemoryStore(), 9464, "eu-west-1")
    assert found.aws.endpoint_url == _DEMO["POLLER_DEMO_ENDPOINT"]


def test_the_demo_file_takes_its_surroundings_from_the_environment():
    environ = _DEMO | {"POLLER_DEMO_PORT": "0", "POLLER_DEMO_PYTHON": "/usr/bin/python3"}
    found = load(CONFIG / "demo.yaml", environ, now=NOW)
    assert found.server.port == 0
    assert [mapping.target for mapping in found.mappings] == [
        LocalFunction(
            name=handler,
            command=("/usr/bin/python3", "-m", "awslambdaric", f"demo_functions.{handler}"),
            directory="/opt/functions",
        )
        for handler in ("orders", "table", "mail")
    ]
