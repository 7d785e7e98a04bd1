"""Rules, dashboard and pages beside the table of metrics, and under Prometheus's own tools."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from poller.service.families import FAMILIES, PROCESS, Family
from poller.service.observers import Observers
from tests.unit.promql import Metric, Unknown, exported, labels_of, names_in, queries
from tools.dashboard import dashboard
from tools.metrics_page import page
from tools.monitoring import made

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "poller.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PAGE = (ROOT / "docs" / "alerts.md").read_text()
TABLE = exported((*FAMILIES, *PROCESS))


def known() -> dict[str, Metric]:
    """The table, and what the recording rules make of it, each from those before."""
    found = dict(TABLE)
    for rule in RULES:
        if "record" in rule:
            found[rule["record"]] = Metric(labels_of(rule["expr"], found))
    return found


def promtool(*arguments: str, folder: Path = FOLDER, told: str = "") -> str:
    program = shutil.which("promtool")
    assert program, "promtool is not installed: tests/servers/debian.sh prometheus"
    done = subprocess.run(
        [program, *arguments], cwd=folder, input=told, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", made(), ids=lambda path: path.name)
def test_what_is_made_from_the_table_is_checked_in_as_it_would_be_made_now(path: Path):
    assert path.read_text() == made()[path], "run `make monitoring`"


def test_promtool_accepts_configuration_and_rules():
    assert f"{len(RULES)} rules found" in promtool("check", "config", "prometheus.yml")


def test_promtool_finds_each_rule_to_do_what_its_cases_say():
    promtool("test", "rules", "rules_test.yml")


def test_promtool_has_nothing_to_say_against_the_names_types_and_help_of_a_scrape():
    text, _ = Observers(lambda: 1000.0).metrics.scrape()
    ours = "".join(line for line in text.decode().splitlines(keepends=True) if "poller_" in line)
    assert promtool("check", "metrics", told=ours) == ""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_only_for_metrics_labels_and_values_of_the_table(rule: dict[str, Any]):
    labels = labels_of(rule["expr"], known())
    if "record" in rule:
        level = rule["record"].partition(":")[0]
        assert level == "_".join(label for label in ("job", "mapping", "shard", "outcome") if label in labels)
    told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
    assert told <= labels


def test_a_recorded_series_is_used():
    asked = {name for rule in RULES for name in names_in(rule["expr"])}
    asked |= {name for expr in queries(DASHBOARD).values() for name in names_in(expr)}
    assert {rule["record"] for rule in RULES if "record" in rule} <= asked


@pytest.mark.parametrize(
    "expr",
    [
        "poller_iterator_age",
        'poller_polls_total{shard="s"}',
        'poller_polls_total{outcome=~"records|emtpy"}',
        "sum by (mapping, shard) (poller_polls_total)",
        "poller_iterator_age_seconds / poller_retention_seconds",
        "poller_iterator_age_seconds / on (shard) group_left poller_retention_seconds",
        "histogram_quantile(0.9, sum by (mapping) (rate(poller_batch_records_bucket[5m])))",
        "poller_batch_records",
    ],
)
def test_an_expression_that_would_never_answer_is_seen(expr: str):
    with pytest.raises(Unknown):
        labels_of(expr, known())


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_that_fires_and_a_near_miss(name: str):
    fires: set[str] = set()
    misses: set[str] = set()
    for case in CASES:
        for told in case["alert_rule_test"]:
            if told["alertname"] == name:
                (fires if told["exp_alerts"] else misses).add(case["name"])
    assert fires
    near = [case for case in CASES if case["name"] in misses - fires]
    assert near, "a case of its own that does not fire"
    asked = transitive(name)
    for case in near:
        series = {re.split(r"[{ ]", each["series"])[0] for each in case["input_series"]}
        assert series & asked, "a near miss has values of what the alert looks at"


def transitive(alert: str) -> set[str]:
    """The exported metrics that an alert looks at, through what is recorded."""
    recorded = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
    found: set[str] = set()
    open_ = [ALERTS[alert]["expr"]]
    while open_:
        for name in names_in(open_.pop()):
            if name in recorded:
                open_.append(recorded[name])
            else:
                found.add(name)
    return found


def test_cases_look_only_at_alerts_that_there_are():
    assert {told["alertname"] for case in CASES for told in case["alert_rule_test"]} == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(name: str):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


def test_the_page_of_alerts_has_a_section_for_each_that_says_what_it_means_where_to_look_and_what_to_do():
    _, *sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    assert [section.partition("\n")[0] for section in sections] == list(ALERTS)
    for section in sections:
        assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE) == ["Means", "Look", "Do"]


def test_the_page_of_alerts_names_only_what_there_is():
    metrics = set(re.findall(r"`(poller_\w+)`", PAGE))
    assert metrics <= {family.name for family in FAMILIES}
    code = "".join(path.read_text() for path in (ROOT / "poller").rglob("*.py"))
    said = re.findall(r"(?:log says|line) `([^`]+)`", PAGE)
    assert len(said) > 5
    assert [line for line in said if f'"{line}' not in code] == []
    for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", PAGE):
        assert (ROOT / "docs" / link).exists()
        assert not anchor or anchor in {name.lower() for name in ALERTS}


def test_every_metric_of_the_table_is_on_the_dashboard_and_on_its_page():
    asked = {name for expr in queries(DASHBOARD).values() for name in names_in(expr)}
    described = (ROOT / "docs" / "metrics.md").read_text()
    for family in (*FAMILIES, *PROCESS):
        ends = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        assert {family.name + end for end in ends} <= asked
        assert f"| `{family.name}` |" in described


def test_one_row_of_the_table_brings_a_panel_with_right_expressions_and_a_line_of_the_page():
    new = (
        Family(
            name="poller_new_total",
            kind="counter",
            topic="store",
            labels=("member", "kind"),
            help="New.",
            values=("a",),
        ),
        Family(name="poller_new_seconds", kind="histogram", topic="age and backlog", help="New.", buckets=(1, 2)),
        Family(name="poller_new_bytes", kind="gauge", topic="polls", labels=("mapping", "shard"), help="New."),
        Family(name="poller_news", kind="gauge", topic="replicas", labels=(), help="New."),
    )
    table = (*FAMILIES, *new)
    found = known() | exported(new)
    asked = set()
    for expr in queries(dashboard(table)).values():
        labels_of(expr, found)
        asked |= names_in(expr)
    assert exported(new).keys() <= asked
    assert all(f"| `{family.name}` | {family.kind}" in page(table) for family in new)


def test_the_dashboard_asks_only_for_metrics_labels_and_values_of_the_table_and_names_its_lines_by_their_labels():
    expressions, found = queries(DASHBOARD), known()
    for panel in PANELS:
        for target in panel["targets"]:
            labels = labels_of(expressions[f"{panel['title']} {target['refId']}"], found)
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) == labels & set(
                re.findall(r"\w+", target["legendFormat"])
            )
            assert len(labels) == len(re.findall(r"{{\w+}}", target["legendFormat"]))


def test_prometheus_parses_every_expression_of_the_dashboard(tmp_path: Path):
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(queries(DASHBOARD).values())]
    assert len(rules) > len(FAMILIES)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", folder=tmp_path)


def test_the_dashboard_needs_no_plugin_and_asks_the_chosen_data_source():
    assert {panel["type"] for panel in DASHBOARD["panels"]} <= {"row", "timeseries", "stat"}
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(part["datasource"] == chosen for panel in PANELS for part in (panel, *panel["targets"]))
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "job", "mapping", "shard"]


def test_no_panel_of_the_dashboard_covers_another():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x, y in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
