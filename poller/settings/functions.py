"""The `functions` section: what each name invokes. No I/O, no clock."""

from __future__ import annotations

from pathlib import Path

from poller.settings import values
from poller.settings.arns import lambda_function
from poller.settings.checking import checked
from poller.settings.keys import unknown
from poller.settings.shapes import FUNCTION_KINDS, HttpShape, LambdaShape, LocalShape
from poller.settings.tree import Mistake, Report, Tree, is_broken, listed, plain, shown
from poller.targets import TargetSettings
from poller.targets.aws_lambda import LambdaFunction
from poller.targets.http import HttpFunction, SigV4, signed_for
from poller.targets.local import LocalFunction

LONGEST_NAME = 64
_OF_SIGNING = {
    "service": "says what to sign for",
    "region": "says what to sign for",
    "role_arn": "says who signs",
}
"""Keys of a function with url that mean nothing without sigv4."""


def function_of(name: str, tree: Tree, report: Report) -> TargetSettings | None:
    """The function, None when something is wrong with it, all of which is reported."""
    found: list[Mistake] = []
    try:
        values.name(name, longest=LONGEST_NAME)
    except ValueError as error:
        found.append(Mistake(place=tree.place, text=str(error)))
    target = _target(name, tree, found)
    for mistake in found:
        report(mistake)
    return None if found or is_broken(tree) else target


def _target(name: str, tree: Tree, found: list[Mistake]) -> TargetSettings | None:
    kinds = [kind for kind in FUNCTION_KINDS if kind in tree.entries()]
    if len(kinds) != 1:
        if not is_broken(tree) or tree.entries():
            had = f"has {listed(kinds, last='and')}" if kinds else _instead(tree)
            found.append(Mistake(place=tree.place, text=f"{had}, allowed: exactly one of url, command and lambda"))
        known = {key: key for shape in FUNCTION_KINDS.values() for key in shape.spellings()}
        found += [
            Mistake(place=child.place, text=unknown(key, known, {}))
            for key, child in tree.entries().items()
            if key not in known
        ]
        return None
    shape = checked(FUNCTION_KINDS[kinds[0]], tree, found.append).shape
    match shape:
        case HttpShape():
            return _http(name, shape, tree, found)
        case LocalShape():
            return LocalFunction(
                name=name,
                command=tuple(shape.command),
                directory=_path(shape.directory, tree, "directory"),
                timeout=shape.timeout,
                concurrency=shape.concurrency,
                environment=tuple(shape.environment.items()),
                memory_size=shape.memory_size,
                idle_timeout=shape.idle_timeout,
            )
        case LambdaShape():
            return _lambda(name, shape, tree, found)
        case None:
            return None


def _instead(tree: Tree) -> str:
    if isinstance(tree.value, dict):
        return "has none of them" if tree.value else "is empty"
    return "has no value" if tree.value is None else f"is {shown(plain(tree))}"


def _path(given: str | None, tree: Tree, key: str) -> str | None:
    """A path of the file, which starts at the file's folder."""
    return values.absolute(given, str(Path(tree.find((key,)).file).parent)) if given else None


def _http(name: str, shape: HttpShape, tree: Tree, found: list[Mistake]) -> HttpFunction:
    signing: SigV4 | None = None
    if shape.sigv4:
        known = signed_for(shape.url)
        signing = SigV4(
            service=shape.service or known.service, region=shape.region or known.region, role_arn=shape.role_arn
        )
        if any(header.lower() == "authorization" for header in shape.headers):
            text = "holds Authorization, which sigv4 makes: leave one of them out"
            found.append(Mistake(place=tree.find(("headers",)), text=text))
    unsigned = [key for key in _OF_SIGNING if getattr(shape, key) and not shape.sigv4]
    found += [Mistake(place=tree.find((key,)), text=f"{_OF_SIGNING[key]}, needed: sigv4: true") for key in unsigned]
    if shape.ca and not shape.url.lower().startswith("https:"):
        found.append(Mistake(place=tree.find(("ca",)), text="is only for a url of https"))
    return HttpFunction(
        name=name,
        url=shape.url,
        timeout=shape.timeout,
        headers=tuple(shape.headers.items()),
        ca=_path(shape.ca, tree, "ca"),
        sigv4=signing,
    )


def _lambda(name: str, shape: LambdaShape, tree: Tree, found: list[Mistake]) -> LambdaFunction | None:
    try:
        region = lambda_function(shape.lambda_).region
    except ValueError as error:
        found.append(Mistake(place=tree.find(("lambda",)), text=str(error)))
        return None
    return LambdaFunction(
        name=name, function=shape.lambda_, region=region, role_arn=shape.role_arn, timeout=shape.timeout
    )
