"""Writes what is made from the tables of metrics, log lines and settings: `python -m tools.monitoring`."""

from __future__ import annotations

import json
from pathlib import Path

from poller.service.families import FAMILIES, PROCESS
from poller.service.log_table import LINES
from poller.settings import schema
from tools import logs_page, settings_page
from tools.dashboard import dashboard
from tools.metrics_page import page

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "poller.json"
PAGE = ROOT / "docs" / "metrics.md"
LOGS = ROOT / "docs" / "logs.md"
SETTINGS = ROOT / "docs" / "settings.md"


def made() -> dict[Path, str]:
    """The files and what shall stand in them."""
    table = (*FAMILIES, *PROCESS)
    return {
        DASHBOARD: json.dumps(dashboard(table), indent=1, ensure_ascii=False) + "\n",
        PAGE: page(table),
        LOGS: logs_page.page(LINES),
        SETTINGS: settings_page.page(schema()),
    }


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
