"""The Grafana dashboard, made of the table of metrics: a row for each topic, a panel for each metric. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, get_args

from poller.service.families import Family, Topic

Json: TypeAlias = dict[str, Any]

_WIDTH, _HEIGHT, _LINE = 8, 8, 24
_MOST_SHARDS = 20
"""Shards that a panel shows: the worst ones."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RATE = "$__rate_interval"


def dashboard(table: Sequence[Family]) -> Json:
    """The dashboard as Grafana imports it."""
    rows = [(topic, [_panel(family) for family in table if family.topic == topic]) for topic in get_args(Topic)]
    return {
        "uid": "poller",
        "title": "poller",
        "description": "Generated from poller/service/families.py by `make monitoring`.",
        "tags": ["poller"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": _laid_out([("overview", _overview()), *rows]),
    }


def _variables() -> list[Json]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
    }
    return [
        source,
        _variable("job", "Deployment", "label_values(poller_build_info, job)"),
        _variable("mapping", "Mapping", 'label_values(poller_mapping_state{job=~"$job"}, mapping)'),
        _variable(
            "shard", "Shard", 'label_values(poller_iterator_age_seconds{job=~"$job", mapping=~"$mapping"}, shard)'
        ),
    ]


def _variable(name: str, label: str, query: str) -> Json:
    """A choice of label values, all at first; a label that is missing counts as chosen."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _overview() -> list[Json]:
    chosen = 'job=~"$job", mapping=~"$mapping"'
    shards = f'{chosen}, shard=~"$shard"'
    return [
        _stat("Oldest unsettled record", "s", f"max(poller_iterator_age_seconds{{{shards}}})"),
        _stat(
            "Retention used up",
            "percentunit",
            f"max(job_mapping_shard:poller_iterator_age:retention_ratio{{{shards}}})",
            red=0.5,
        ),
        _stat("Shards that retry", "none", f"count(poller_shard_failed_attempts{{{shards}}} > 0) or vector(0)", red=1),
        _stat(
            "Invocations that fail",
            "percentunit",
            f'1 - sum(rate(poller_invocations_total{{{chosen}, outcome="success"}}[{_RATE}]))'
            f" / sum(rate(poller_invocations_total{{{chosen}}}[{_RATE}]))",
            red=0.1,
        ),
        _stat("Drops", "none", f"sum(increase(poller_drops_total{{{chosen}}}[$__range]))", red=1),
        _stat("Replicas", "none", 'count(poller_build_info{job=~"$job"})'),
    ]


def _stat(title: str, unit: str, expr: str, *, red: float | None = None) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if red is not None:
        steps.append({"color": "red", "value": red})
    return {
        "type": "stat",
        "title": title,
        "datasource": _SOURCE,
        "targets": [_target("A", expr, "", instant=True)],
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}},
        "gridPos": {"w": 4, "h": 4},
    }


def _panel(family: Family) -> Json:
    """A metric over time."""
    per_second = " per second" if family.kind == "counter" else ""
    queries = _queries(family)
    return {
        "type": "timeseries",
        "title": _title(family.name) + per_second,
        "description": f"{family.help}\n\n`{family.name}`",
        "datasource": _SOURCE,
        "targets": [_target(chr(ord("A") + at), expr, legend) for at, (expr, legend) in enumerate(queries)],
        "fieldConfig": {
            "defaults": {"unit": _unit(family), "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "gridPos": {"w": _WIDTH, "h": _HEIGHT},
    }


def _queries(family: Family) -> list[tuple[str, str]]:
    """What is asked of a metric, and how each answer is called."""
    labels = family.labels or ("instance",)
    by = ", ".join(labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    chosen = "{" + ", ".join(f'{n}=~"${n}"' for n in ("job", "mapping", "shard") if n in ("job", *labels)) + "}"
    name = family.name
    match family.kind:
        case "counter":
            return [(f"sum by ({by}) (rate({name}{chosen}[{_RATE}]))", legend)]
        case "histogram":
            quantiles = [
                (
                    f"histogram_quantile({q}, sum by ({by}, le) (rate({name}_bucket{chosen}[{_RATE}])))",
                    f"{told} {legend}",
                )
                for q, told in (("0.5", "median"), ("0.99", "99 %"))
            ]
            parts = [f"sum by ({by}) (rate({name}_{part}{chosen}[{_RATE}]))" for part in ("sum", "count")]
            return [*quantiles, (" / ".join(parts), f"mean {legend}")]
        case "gauge":
            now = f"{family.together} by ({by}) ({name}{chosen})"
            if name.endswith(("_timestamp_seconds", "_start_time_seconds")):
                now = f"time() - {now}"
            elif family.values:
                now = f"{now} > 0"
            elif "shard" in labels:
                now = f"topk({_MOST_SHARDS}, {now})"
            return [(now, legend)]


def _target(ref: str, expr: str, legend: str, *, instant: bool = False) -> Json:
    return {"refId": ref, "datasource": _SOURCE, "expr": expr, "legendFormat": legend, "instant": instant}


def _title(name: str) -> str:
    for end in ("_total", "_timestamp_seconds", "_seconds", "_bytes"):
        name = name.removesuffix(end)
    words = name.removeprefix("poller_").replace("_", " ")
    return words[0].upper() + words[1:]


def _unit(family: Family) -> str:
    if family.kind == "counter":
        return "short" if "_seconds" in family.name else "cps"
    return "s" if family.name.endswith("_seconds") else "bytes" if family.name.endswith("_bytes") else "short"


def _laid_out(rows: list[tuple[str, list[Json]]]) -> list[Json]:
    """Panels under the headings of their rows, from left to right, numbered."""
    panels: list[Json] = []
    top = 0
    for title, row in rows:
        if not row:
            continue
        heading = {"type": "row", "title": title.capitalize(), "collapsed": False, "panels": []}
        panels.append(heading | {"gridPos": {"x": 0, "y": top, "w": _LINE, "h": 1}})
        top, left = top + 1, 0
        for panel in row:
            size = panel["gridPos"]
            if left + size["w"] > _LINE:
                top, left = top + size["h"], 0
            panels.append(panel | {"gridPos": {"x": left, "y": top, "w": size["w"], "h": size["h"]}})
            left += size["w"]
        top += row[-1]["gridPos"]["h"]
    return [panel | {"id": number} for number, panel in enumerate(panels, start=1)]
