"""What is around the mappings: sections, functions, stores, and the mistakes in them."""

from pathlib import Path

import pytest

from poller.aws.session import AwsSettings
from poller.settings import ServerSettings
from poller.stores import StoreSettings
from poller.stores.dynamodb import DynamoStore
from poller.stores.memory import MemoryStore
from poller.stores.postgres import PostgresStore
from poller.stores.sqlite import SqliteStore
from poller.targets import TargetSettings
from poller.targets.aws_lambda import LambdaFunction
from poller.targets.http import HttpFunction, SigV4
from poller.targets.local import LocalFunction
from tests.unit.settings_file import KINESIS, QUEUE, mapping, mistakes, settings

_STORES = "memory://, sqlite:///ABSOLUTE/PATH, sqlite://./RELATIVE/PATH, dynamodb://TABLE or postgresql://USER:PASSWORD@HOST/DATABASE"  # fmt: skip
_POSTGRES = "allowed: postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE"
_SIZES = "bytes or a size such as 256MiB (KiB, MiB, GiB, KB, MB, GB), at least 32MiB"

# (id, the first line of the file, the mistake behind "poller.yaml:1: ")
WRONG = [
    ("unknown section", "sever: {}", "sever: is not a known key, did you mean server?"),
    ("far from every section", "x: 1", "x: is not a known key, allowed: aws, store, server, shutdown_grace, memory, poll_interval, fleet, limits, functions and mappings"),
    ("section that is no block", "server: 9464", "server: 9464 is a number, allowed: a block with host, port and token"),
    ("port as text", 'server: {port: "80"}', 'server.port: "80" is text, allowed: a whole number, 0 to 65535'),
    ("port out of range", "server: {port: 65536}", "server.port: 65536 is out of range, allowed: 0 to 65535"),
    ("token", "server: {token: secret}", "server.token: its value has the wrong form, allowed: text that matches ^[!-~]{16,512}$"),
    ("host as a number", "server: {host: 1}", 'server.host: 1 is a number, allowed: text, not empty (put it in quotes: "...")'),
    ("negative grace", "shutdown_grace: -1", "shutdown_grace: -1 is out of range, allowed: 0 to 3600"),
    ("grace as a date", "shutdown_grace: 2026-01-01", "shutdown_grace: 2026-01-01 is a date, allowed: a number, 0 to 3600"),
    ("poll interval of zero", "poll_interval: 0", "poll_interval: 0 is out of range, allowed: 0.05 to 3600"),
    ("little memory", "memory: 31MiB", f'memory: "31MiB" is too small, allowed: {_SIZES}'),
    ("memory in an unknown unit", "memory: 1Ti", f'memory: "1Ti" is not a size, allowed: {_SIZES}'),
    ("memory as a boolean", "memory: true", f"memory: true is not a size, allowed: {_SIZES}"),
    ("unknown client", "aws: {client: boto3}", 'aws.client: "boto3" is not one of the choices, allowed: fast or botocore'),
    ("credentials", "aws: {access_key_id: A}", "aws.access_key_id: has no place in this file: credentials come from the standard AWS chain (environment, profile, role)"),
    ("region in capitals", "aws: {region: EU}", 'aws.region: "EU" has the wrong form, allowed: text that matches ^[a-z0-9-]{1,32}$'),
    ("endpoint without a scheme", "aws: {endpoint_url: localhost}", 'aws.endpoint_url: "localhost" is not a URL, allowed: http://HOST[:PORT][/PATH] or https://...'),
    ("endpoint with a bad port", "aws: {endpoints: {sqs: 'http://a:99999'}}", 'aws.endpoints.sqs: "http://a:99999" is not a URL, allowed: http://HOST[:PORT][/PATH] or https://...'),
    ("endpoint of an unknown service", "aws: {endpoints: {lamda: 'http://a'}}", "aws.endpoints.lamda: is not a known key, did you mean lambda?"),
    ("store that is none", "store: state.db", f"store: is not a store, allowed: {_STORES}"),
    ("store in a table without a name", "store: 'dynamodb://?create=true'", 'store: "" is not the name of a table, allowed: dynamodb://TABLE, a name of 3 to 255 letters, digits, -, _ and .'),
    ("store in a table whose name is none", "store: dynamodb://my/table", 'store: "my/table" is not the name of a table, allowed: dynamodb://TABLE, a name of 3 to 255 letters, digits, -, _ and .'),
    ("store in a table with an unknown key", "store: 'dynamodb://table?endpoint=http://a'", 'store: "endpoint", after the ?, is not a known key, did you mean endpoint_url?'),
    ("store in a table with a key given twice", "store: 'dynamodb://table?create=true&create=true'", "store: create is given twice after the ?, allowed: once"),
    ("store in a table with a key without a value", "store: 'dynamodb://table?region='", "store: region, after the ?, has no value, give one or leave it out"),
    ("store in a table made perhaps", "store: 'dynamodb://table?create=yes'", 'store: create="yes" has the wrong form, allowed: true or false'),
    ("store in a table in no region", "store: 'dynamodb://table?region=EU'", 'store: region="EU" has the wrong form, allowed: a region such as eu-west-1'),
    ("store in a table at no URL", "store: 'dynamodb://table?endpoint_url=localhost'", 'store: "localhost" is not a URL, allowed: http://HOST[:PORT][/PATH] or https://...'),
    ("store in a database without a host, whose password is kept", "store: 'postgresql:///db?password=secret'", f"store: does not name a host, {_POSTGRES}"),
    ("store in no database, whose password is kept", "store: postgresql://me:secret@host", f"store: does not name a database, {_POSTGRES}"),
    ("store in a database at a bad port", "store: postgresql://me:secret@a,b:70000/db", f'store: "b:70000" is not HOST or HOST:PORT, {_POSTGRES}'),
    ("store in a database with an unknown key", "store: 'postgresql://me:secret@host/db?ssl_mode=require'", 'store: "ssl_mode", after the ?, is not a known key, did you mean sslmode?'),
    ("store in a database with TLS of no kind", "store: 'postgresql://host/db?sslmode=on'", 'store: sslmode="on" is not one of the choices, allowed: disable, allow, prefer, require, verify-ca or verify-full'),
    ("store in a database that cannot be written to", "store: 'postgresql://host/db?target_session_attrs=standby'", 'store: target_session_attrs="standby" is not one of the choices, allowed: read-write or primary'),
    ("store in a database at no address, whose password is kept", "store: 'postgresql://me:secret@\u2100/db'", f"store: is not an address, {_POSTGRES}"),
    ("store in a database at half an IPv6 address", "store: 'postgresql://['", f"store: is not an address, {_POSTGRES}"),
    ("store with a fragment", "store: 'postgresql://me:se#cret@host/db'", f"store: has a # that is not written as %23, {_POSTGRES}"),
    ("store without a file", "store: sqlite:///", "store: does not name a file, allowed: sqlite:///ABSOLUTE/PATH or sqlite://./RELATIVE/PATH"),
    ("store with a bare name", "store: sqlite://state.db", "store: does not name a file, allowed: sqlite:///ABSOLUTE/PATH or sqlite://./RELATIVE/PATH"),
    ("store in SQLite's memory", "store: 'sqlite:///:memory:'", "store: is a store that forgets, allowed for that: memory://"),
    ("functions as a list", "functions: []", "functions: is a list, allowed: a block of names, each with its own block of keys"),
    ("function of no kind", "functions: {g: {timeout: 1}}", "functions.g: has none of them, allowed: exactly one of url, command and lambda"),
    ("function of two kinds", "functions: {g: {url: 'http://a', command: [a]}}", "functions.g: has url and command, allowed: exactly one of url, command and lambda"),
    ("function without a block", "functions: {g: }", "functions.g: has no value, allowed: exactly one of url, command and lambda"),
    ("headers of a command", "functions: {g: {command: [a], headers: {}}}", "functions.g.headers: is only for a function with url"),
    ("concurrency of a url", "functions: {g: {url: 'http://a', concurrency: 2}}", "functions.g.concurrency: is only for a function with command"),
    ("role of a command", "functions: {g: {command: [a], role_arn: r}}", "functions.g.role_arn: is only for a function with lambda, or with url and sigv4"),
    ("role of what is not signed", "functions: {g: {url: 'http://a', role_arn: 'arn:aws:iam::123456789012:role/r'}}", "functions.g.role_arn: says who signs, needed: sigv4: true"),
    ("signed command", "functions: {g: {command: [a], sigv4: true}}", "functions.g.sigv4: is only for a function with url"),
    ("region of what is not signed", "functions: {g: {url: 'http://a', region: eu-west-1}}", "functions.g.region: says what to sign for, needed: sigv4: true"),
    ("two authorizations", "functions: {g: {url: 'http://a', sigv4: true, headers: {authorization: x}}}", "functions.g.headers: holds Authorization, which sigv4 makes: leave one of them out"),
    ("certificates without TLS", "functions: {g: {url: 'http://a', ca: ca.pem}}", "functions.g.ca: is only for a url of https"),
    ("memory of a url", "functions: {g: {url: 'http://a', memory_size: 128}}", "functions.g.memory_size: is only for a function with command"),
    ("memory below the least", "functions: {g: {command: [a], memory_size: 64}}", "functions.g.memory_size: 64 is out of range, allowed: 128 to 10240"),
    ("command as text", "functions: {g: {command: python}}", 'functions.g.command: "python" is text, allowed: a list of text, not empty'),
    ("empty command", "functions: {g: {command: []}}", "functions.g.command: is 0 entries long, allowed: a list of text, not empty"),
    ("timeout of zero", "functions: {g: {url: 'http://a', timeout: 0}}", "functions.g.timeout: 0 is out of range, allowed: above 0 to 86400"),
    ("header that is a number, not repeated", "functions: {g: {url: 'http://a', headers: {Key: 123}}}", 'functions.g.headers.Key: is a number, allowed: text (put it in quotes: "...")'),
    ("header with a line break, not repeated", 'functions: {g: {url: "http://a", headers: {Key: "a\\nb"}}}', 'functions.g.headers: the value of "Key" holds a line break or another control character'),
    ("variable that is a boolean, not repeated", "functions: {g: {command: [a], environment: {DEBUG: true}}}", 'functions.g.environment.DEBUG: is a boolean, allowed: text (put it in quotes: "...")'),
    ("name of a function", "functions: {a/b: {url: 'http://a'}}", "functions.a/b: is not a name, allowed: letters, digits, -, _ and ., at most 64"),
    ("role of a lambda", "functions: {g: {lambda: f, role_arn: r}}", 'functions.g.role_arn: "r" is not the ARN of a role, allowed: arn:aws:iam::ACCOUNT:role/NAME'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_mistake_around_the_mappings_is_named_with_its_line(tmp_path: Path, line: str, expected: str):
    text = f"{line}\nmappings: {{m: {{EventSourceArn: '{QUEUE}', FunctionName: f}}}}\n"
    assert mistakes(tmp_path, text) == [f"poller.yaml:1: {expected}"]


@pytest.mark.parametrize(
    ("block", "key", "near"),
    [
        ("{ulr: 'http://a', timeout: 1}", "ulr", "url"),
        ("{comand: [a]}", "comand", "command"),
        ("{url: 'http://a', command: [a], timeuot: 1}", "timeuot", "timeout"),
    ],
)
def test_a_misspelled_key_of_a_function_whose_kind_is_unknown_is_named_with_the_nearest(
    tmp_path: Path, block: str, key: str, near: str
):
    found = mistakes(tmp_path, f"functions: {{g: {block}}}\n" + mapping(QUEUE))
    assert found[0].endswith("allowed: exactly one of url, command and lambda")
    assert found[1:] == [f"poller.yaml:1: functions.g.{key}: is not a known key, did you mean {near}?"]


def test_a_lambda_that_is_no_function_is_named_where_it_stands(tmp_path: Path):
    text = mapping(QUEUE).replace("FunctionName: f", "FunctionName: g h") + "functions:\n  g:\n    lambda: a b\n"
    allowed = (
        "allowed: a name in functions, a Lambda function's name (letters, digits, - and _, at most 64), or its ARN "
        "arn:aws:lambda:REGION:ACCOUNT:function:NAME, each with :VERSION or :ALIAS"
    )
    assert mistakes(tmp_path, text) == [
        f'poller.yaml:5: mappings.m.FunctionName: "g h" is no function, {allowed}',
        f'poller.yaml:8: functions.g.lambda: "a b" is no function, {allowed}',
    ]


def test_a_stream_needs_a_store(tmp_path: Path):
    assert mistakes(tmp_path, mapping(KINESIS).removeprefix("store: memory://\n")) == [
        f"poller.yaml:1: store: is missing, m reads a stream and keeps its position in it, allowed: {_STORES}"
    ]


def test_queues_alone_need_no_store(tmp_path: Path):
    assert settings(tmp_path, mapping(QUEUE).removeprefix("store: memory://\n")).store == MemoryStore()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("memory://", MemoryStore()),
        ("sqlite:///var/lib/x.db", SqliteStore(path="/var/lib/x.db")),
        ("sqlite:////var/lib/x.db", SqliteStore(path="/var/lib/x.db")),
        ("dynamodb://a.table", DynamoStore(table="a.table")),
        (
            "dynamodb://table?region=eu-west-1&endpoint_url=http://127.0.0.1:8000&create=true",
            DynamoStore(table="table", region="eu-west-1", endpoint_url="http://127.0.0.1:8000", create=True),
        ),
        *(
            (address, PostgresStore(address=address))
            for address in (
                "postgresql://me:secret@host/db",
                "postgres://me@[::1]:5432/db?sslmode=verify-full&sslrootcert=/ca.pem&application_name=poller",
                "postgresql://a:5432,b:5433/db?target_session_attrs=read-write",
                "postgresql:///db?host=/run/postgresql",
            )
        ),
    ],
)
def test_a_store_is_named_by_its_address(tmp_path: Path, address: str, expected: StoreSettings):
    assert settings(tmp_path, mapping(QUEUE).replace("memory://", address)).store == expected


def test_the_password_of_a_store_is_not_shown():
    assert "secret" not in repr(PostgresStore(address="postgresql://me:secret@host/db"))


def test_a_relative_store_starts_at_the_folder_of_the_file(tmp_path: Path):
    text = mapping(QUEUE).replace("memory://", "sqlite://./state/../state.db")
    assert settings(tmp_path, text).store == SqliteStore(path=str(tmp_path / "state.db"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("33554432", 33554432),
        ("32MiB", 33554432),
        ("32 mib", 33554432),
        ("1.5GiB", 1610612736),
        ("1GB", 1_000_000_000),
        ("65536KiB", 67108864),
        ("40MB", 40_000_000),
        ("34000KB", 34_000_000),
    ],
)
def test_memory_is_given_in_bytes_or_with_a_unit(tmp_path: Path, size: str, expected: int):
    assert settings(tmp_path, f"memory: {size}\n{mapping(QUEUE)}").memory_bytes == expected


def test_sections_that_are_left_out_have_their_defaults(tmp_path: Path):
    found = settings(tmp_path, mapping(QUEUE))
    assert found.aws == AwsSettings()
    assert found.server == ServerSettings(host="127.0.0.1", port=9464)
    assert (found.shutdown_grace, found.memory_bytes) == (30.0, 268_435_456)
    assert found.mappings[0].policy.poll_interval == 1.0


def test_endpoints_are_kept_for_each_service(tmp_path: Path):
    text = "aws: {region: eu-west-1, profile: p, endpoints: {sqs: 'http://a:1', lambda: 'http://b'}}\n" + mapping(QUEUE)
    assert settings(tmp_path, text).aws == AwsSettings(
        region="eu-west-1", profile="p", endpoints=(("sqs", "http://a:1"), ("lambda", "http://b"))
    )


@pytest.mark.parametrize(
    ("text", "client"), [("{}", "fast"), ("{client: fast}", "fast"), ("{client: botocore}", "botocore")]
)
def test_the_hot_calls_travel_fast_unless_the_file_says_otherwise(tmp_path: Path, text: str, client: str):
    assert settings(tmp_path, f"aws: {text}\n{mapping(QUEUE)}").aws.client == client


_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:bill:live"


@pytest.mark.parametrize(
    ("function", "name", "expected"),
    [
        ("{url: 'http://a', sigv4: true, role_arn: 'arn:aws:iam::123456789012:role/r'}", "g", HttpFunction(name="g", url="http://a", sigv4=SigV4(role_arn="arn:aws:iam::123456789012:role/r"))),
        ("{url: 'http://a/b', timeout: 5, headers: {A: x}}", "g", HttpFunction(name="g", url="http://a/b", timeout=5.0, headers=(("A", "x"),))),
        ("{command: [a, b], timeout: 5, concurrency: 2, environment: {M: x}, memory_size: 256}", "g", LocalFunction(name="g", command=("a", "b"), timeout=5.0, concurrency=2, environment=(("M", "x"),), memory_size=256)),
        (f"{{lambda: '{_ARN}', timeout: 5}}", "g", LambdaFunction(name="g", function=_ARN, region="eu-central-1", timeout=5.0)),
        ("{lambda: bill}", "g", LambdaFunction(name="g", function="bill", region=None)),
        ("{lambda: bill}", "other:2", LambdaFunction(name="other:2", function="other:2", region=None)),
        ("{lambda: bill}", "123456789012:function:o:$LATEST", LambdaFunction(name="123456789012:function:o:$LATEST", function="123456789012:function:o:$LATEST", region=None)),
        ("{lambda: bill}", _ARN, LambdaFunction(name=_ARN, function=_ARN, region="eu-central-1")),
    ],
    ids=["signed http", "http", "local", "lambda by ARN", "lambda by name", "unlisted name", "unlisted partial ARN", "unlisted ARN"],
)  # fmt: skip
def test_a_function_name_is_looked_up_then_taken_for_a_lambda(
    tmp_path: Path, function: str, name: str, expected: TargetSettings
):
    text = f"functions: {{g: {function}}}\n" + mapping(QUEUE).replace("FunctionName: f", f"FunctionName: {name}")
    assert settings(tmp_path, text).mappings[0].target == expected


def test_a_relative_directory_starts_at_the_folder_of_the_file(tmp_path: Path):
    text = "functions: {f: {command: [a], directory: ./code}}\n" + mapping(QUEUE)
    target = settings(tmp_path, text).mappings[0].target
    assert isinstance(target, LocalFunction)
    assert target.directory == str(tmp_path / "code")
