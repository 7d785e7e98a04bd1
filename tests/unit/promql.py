"""What an expression of PromQL asks for and answers with, without asking anybody. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import promql_parser as promql

from poller.service.families import Family

TARGET = frozenset({"job", "instance"})
"""What Prometheus adds to whatever it scrapes."""
_SETS = ("and", "or", "unless")
_KEEP = ("topk", "bottomk")


class Unknown(Exception):
    """An expression asks for a metric, a label or a value that nobody exports, or matches what cannot match."""


class Metric(NamedTuple):
    labels: frozenset[str]
    values: Mapping[str, tuple[str, ...]] = {}  # never written
    """Of labels with a closed set."""


def exported(families: Iterable[Family]) -> dict[str, Metric]:
    """The series' names of a table with what they carry."""
    found: dict[str, Metric] = {}
    for family in families:
        closed = {family.labels[-1]: family.values} if family.values else {}
        labels = TARGET | frozenset(family.labels)
        if family.kind == "histogram":
            found[f"{family.name}_bucket"] = Metric(labels | {"le"}, closed)
            found[f"{family.name}_sum"] = found[f"{family.name}_count"] = Metric(labels, closed)
        else:
            found[family.name] = Metric(labels, closed)
    return found


def labels_of(expr: str, known: Mapping[str, Metric]) -> frozenset[str]:
    """The labels of its answer. Raises `Unknown`."""
    return _labels(promql.parse(expr), known) or frozenset()


def names_in(expr: str) -> set[str]:
    """The metrics that it asks for."""
    found: set[str] = set()

    def visit(part: promql.Expr) -> bool:
        if isinstance(part, promql.VectorSelector) and part.name:
            found.add(part.name)
        return True

    promql.walk(promql.parse(expr), visit)
    return found


def queries(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """The expressions of a dashboard by the place they stand at, with values in place of its variables."""
    chosen = {f"${each['name']}": ".*" for each in dashboard["templating"]["list"]}
    variables = {"$__rate_interval": "5m", "$__range": "1h", **chosen}
    found = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"]
            for name, value in variables.items():
                expr = expr.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = expr
    return found


def _labels(expr: Any, known: Mapping[str, Metric]) -> frozenset[str] | None:
    """Of a vector; None for a number."""
    match expr:
        case promql.NumberLiteral() | promql.StringLiteral():
            return None
        case promql.VectorSelector():
            return _selected(expr, known)
        case promql.MatrixSelector():
            return _labels(expr.vector_selector, known)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(expr.expr, known)
        case promql.Call():
            return _called(expr, known)
        case promql.AggregateExpr():
            return _aggregated(expr, known)
        case promql.BinaryExpr():
            return _matched(expr, known)
        case _:
            raise Unknown(f"{expr} is not understood")


def _selected(expr: promql.VectorSelector, known: Mapping[str, Metric]) -> frozenset[str]:
    metric = known.get(expr.name or "")
    if metric is None:
        raise Unknown(f"no metric {expr.name}")
    for matcher in expr.matchers.matchers:
        if matcher.name not in metric.labels:
            raise Unknown(f"{expr.name} has no label {matcher.name}")
        allowed = metric.values.get(matcher.name)
        asked = (
            re.split(r"\|", matcher.value)
            if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
            else [matcher.value]
        )
        if allowed and not set(asked) <= {*allowed, ".*"}:
            raise Unknown(f"{expr.name} has no {matcher.name} {matcher.value}")
    return metric.labels


def _called(expr: promql.Call, known: Mapping[str, Metric]) -> frozenset[str] | None:
    given = [labels for labels in (_labels(each, known) for each in expr.args) if labels is not None]
    match expr.func.name:
        case "vector" | "absent":
            return frozenset()
        case "time":
            return None
        case "histogram_quantile":
            if "le" not in given[0]:
                raise Unknown(f"{expr.prettify()} needs the label le")
            return given[0] - {"le"}
        case _:
            return given[0]


def _aggregated(expr: promql.AggregateExpr, known: Mapping[str, Metric]) -> frozenset[str]:
    inner = _labels(expr.expr, known)
    if inner is None:
        raise Unknown(f"{expr.prettify()} aggregates a number")
    if expr.modifier is None:
        return inner if str(expr.op) in _KEEP else frozenset()
    named = frozenset(expr.modifier.labels)
    if not named <= inner:
        raise Unknown(f"{expr.prettify()} has no {', '.join(sorted(named - inner))}")
    return named if expr.modifier.type == promql.AggModifierType.By else inner - named


def _matched(expr: promql.BinaryExpr, known: Mapping[str, Metric]) -> frozenset[str] | None:
    left, right = _labels(expr.lhs, known), _labels(expr.rhs, known)
    if left is None or right is None:
        return left if right is None else right
    matching = expr.modifier.matching if expr.modifier else None
    if matching is None:
        if left != right:
            raise Unknown(f"{expr.prettify()} never matches: {sorted(left)} and {sorted(right)}")
        return left
    named = frozenset(matching.labels)
    if matching.type != promql.LabelModifierType.Include or not named <= left & right:
        raise Unknown(f"{expr.prettify()} matches on what not both sides have")
    if str(expr.op) in _SETS:
        return left
    card = expr.modifier.card if expr.modifier else None
    if card == promql.VectorMatchCardinality.ManyToOne:
        return left
    return right if card == promql.VectorMatchCardinality.OneToMany else named
