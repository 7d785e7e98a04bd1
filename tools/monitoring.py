"""Writes what is made from the table of metrics: `python -m tools.monitoring`."""

from __future__ import annotations

import json
from pathlib import Path

from poller.service.families import FAMILIES, PROCESS
from tools.dashboard import dashboard
from tools.metrics_page import page

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "poller.json"
PAGE = ROOT / "docs" / "metrics.md"


def made() -> dict[Path, str]:
    """The files and what shall stand in them."""
    table = (*FAMILIES, *PROCESS)
    return {DASHBOARD: json.dumps(dashboard(table), indent=1, ensure_ascii=False) + "\n", PAGE: page(table)}


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
