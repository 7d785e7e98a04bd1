"""docs/metrics.md, made of the table of metrics. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from poller.service.families import Family, Topic

_INTRODUCTION = """\
# Metrics

<!-- Made from poller/service/families.py by `make monitoring`: edit the table there. -->

`GET /metrics` answers in the Prometheus text format, and in OpenMetrics when that is asked for. Names, types and labels
are a contract: dashboards and alerts may rely on them.

- Units are seconds and bytes; a counter ends in `_total`.
- `mapping` is the mapping's name. The series of a mapping that is no longer configured disappear, those of a shard do
  when this replica stops owning it.
- A closed set of label values is exported at 0 from the start, so that a rate sees the first event.
- A metric tells what *this* replica does. Over replicas, counters and histograms are summed; of gauges, the table says
  what makes one number of them.
- A histogram `NAME` has the series `NAME_bucket` (with `le`), `NAME_sum` and `NAME_count`.

What to do with them: [alerts](alerts.md), [rules](../deploy/prometheus/rules.yml),
[dashboard](../deploy/grafana/poller.json), [scrape configuration](../deploy/prometheus/prometheus.yml).
"""


def page(table: Sequence[Family]) -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *(_section(topic, table) for topic in get_args(Topic))])


def _section(topic: Topic, table: Sequence[Family]) -> str:
    rows = [_row(family) for family in table if family.topic == topic]
    head = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {topic.capitalize()}", "", *head, *rows, ""])


def _row(family: Family) -> str:
    kind = f"gauge, {family.together}" if family.kind == "gauge" else family.kind
    labels = ", ".join(f"`{label}`" for label in family.labels)
    if family.values:
        labels += ": " + ", ".join(family.values)
    meaning = family.help
    if family.buckets:
        meaning += " Buckets: " + ", ".join(f"{bound:g}" for bound in family.buckets) + "."
    return f"| `{family.name}` | {kind} | {labels} | {meaning} |"
