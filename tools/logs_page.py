"""docs/logs.md, made of the table of log lines. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from poller.service.log_table import Line, Topic

_INTRODUCTION = """\
# Logs

<!-- Made from poller/service/log_table.py by `make monitoring`: edit the table there. -->

On standard error, one line for each decision that somebody would ask about: text on a terminal, JSON elsewhere
(`poller run --log-format json|console`, `--log-level debug|info|warning|error`). Messages and field names are a contract.

```json
{"time":"2026-11-21T06:35:03.192Z","level":"WARN","logger":"poller.mapping","message":"function failed","mapping":"orders","shard":"shardId-000000000000","reason":"ValueError: no such customer","outcome":"function_error","retry_in":0.268,"records":1,"attempt":1,"request_id":"a46b5321-c862-4305-96a9-16508a1f7901"}
```

- `time`, `level`, `logger` and `message` are in every line; a field that would say nothing is left out. Durations
  (`seconds`, `age`, `retry_in`, `grace`) are seconds.
- **WARN**: nothing is lost. **ERROR**: records are lost, or somebody has to act. The others are for looking back.
- Whatever a name, an error or a function says, a line stays one line, without control characters.
- **Payloads are never logged**, at no level: neither records nor events nor what a function returns. What *is* logged is
  the function's own error message (`reason`) and, under the logger `poller.function` with `function` and `request_id`,
  the lines that a local function prints or that come with a Lambda's failure: keep secrets out of those.
- Marked with *, a problem is told once a minute for each mapping and shard, however often it comes;
  `left_out` says how many were not told since.
- Libraries speak from WARN on, under their own logger, also where `--log-level` is `debug`.
"""


def page(table: Sequence[Line]) -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *(_section(topic, table) for topic in get_args(Topic))])


def _section(topic: Topic, table: Sequence[Line]) -> str:
    rows = [_row(line) for line in table if line.topic == topic]
    head = ["| message | level | fields | when | what to do |", "|---|---|---|---|---|"]
    return "\n".join([f"## {topic.capitalize()}", "", *head, *rows, ""])


def _row(line: Line) -> str:
    fields = " ".join(f"`{name}`" for name in line.fields.split())
    return f"| {line.message}{' *' if line.again else ''} | {line.level} | {fields} | {line.when} | {line.do} |"
