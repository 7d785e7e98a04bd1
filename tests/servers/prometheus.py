"""Debian's Prometheus as a child process on loopback, with our scrape configuration and our rules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.servers.processes import Program, serving

_SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A Prometheus that runs, and the reading of it."""

    url: str

    async def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/api/v1/{path}", params=parameters) as answer,
        ):
            told = await answer.json()
            assert told["status"] == "success", f"{path} {parameters}: {told}"
            return told["data"]

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression answers with now."""
        found: list[dict[str, Any]] = (await self.ask("query", query=expr))["result"]
        return found

    async def alerts(self, *, soon: bool = False) -> dict[tuple[str, str], dict[str, Any]]:
        """What is pending or firing, by alert and mapping.

        Args:
            soon: of the copies that wait for a second where the rules wait for minutes.
        """
        alerts = [each for each in (await self.ask("alerts"))["alerts"] if ("soon" in each["labels"]) is soon]
        return {(each["labels"]["alertname"], each["labels"].get("mapping", "")): each for each in alerts}


@contextmanager
def prometheus(folder: Path, *targets: str) -> Iterator[Prometheus]:
    """Scrape these addresses (`host:port`) as deploy/prometheus/prometheus.yml says, with its rules as they are.

    Only the intervals are shorter: it scrapes and evaluates several times a second. Beside the rules as they are stand
    copies of the alerts that wait, which wait for a second and carry the label `soon`.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise RuntimeError("Prometheus is not installed: run tests/servers/debian.sh prometheus")
    document = yaml.safe_load(_SHIPPED.read_text())
    document["global"] = {"scrape_interval": "250ms", "evaluation_interval": "500ms", "scrape_timeout": "250ms"}
    (rules,) = [_SHIPPED.parent / name for name in document["rule_files"]]
    soon = folder / "soon.yml"
    soon.write_text(yaml.safe_dump(_soon(yaml.safe_load(rules.read_text()))))
    document["rule_files"] = [str(rules), str(soon)]
    (job,) = document["scrape_configs"]
    job["static_configs"] = [{"targets": list(targets)}]
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(document))
    started = Program(
        name="prometheus",
        command=lambda port: [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        path="/-/ready",
    )
    with serving(started) as server:
        yield Prometheus(url=server.url)


def _soon(rules: dict[str, Any]) -> dict[str, Any]:
    """The alerts that wait, with nothing changed but for how long."""
    waiting = [rule for group in rules["groups"] for rule in group["rules"] if "for" in rule]
    hurried = [rule | {"for": "1s", "labels": rule["labels"] | {"soon": "yes"}} for rule in waiting]
    return {"groups": [{"name": "soon", "rules": hurried}]}
