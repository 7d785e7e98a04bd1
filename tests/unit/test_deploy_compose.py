"""`deploy/compose.yaml`: by the rules of the compose specification, and right for this program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from poller import __version__
from poller.settings import load
from poller.settings.values import size_bytes
from tests.unit.settings_file import NOW

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
SCRAPE = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())


def understood(document: dict[str, Any]) -> None:
    """The validator resolves no `<<`, and knows no `host-gateway`, which is an address for every engine."""
    PyCompose.from_yaml(json.dumps(document).replace("host-gateway", "127.0.0.1"))


def test_the_file_is_one_of_the_specification():
    understood(COMPOSE)


@pytest.mark.parametrize(
    "wrong", [{"helthcheck": {}}, {"init": "perhaps"}, {"stop_grace_period": "40"}, {"ports": ["x:y"]}], ids=str
)
def test_what_the_specification_does_not_have_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        understood(COMPOSE | {"services": SERVICES | {"poller": SERVICES["poller"] | wrong}})


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_locked_down_and_reached_from_this_machine_alone(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"])
    assert "healthcheck" in service or "HEALTHCHECK" in (DEPLOY / service["build"] / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str):
    for mount in SERVICES[name]["volumes"]:
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert (DEPLOY / source).exists()
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_the_daemon_has_the_time_and_the_memory_that_its_configuration_asks_for():
    settings = load(DEPLOY / "poller.yaml", {}, now=NOW)
    service = SERVICES["poller"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= settings.shutdown_grace + 10
    assert size_bytes(service["mem_limit"].replace("m", "MiB")) >= 1.5 * settings.memory_bytes + 256 * 2**20
    assert service["image"] == f"poller:{__version__}"
    assert service["ports"] == [f"127.0.0.1:{settings.server.port}:{settings.server.port}"]
    assert settings.server.host == "0.0.0.0"
    assert f"./poller.yaml:{service['command'][-1]}:ro" in service["volumes"]


def test_prometheus_scrapes_the_daemon_and_grafana_asks_prometheus():
    settings = load(DEPLOY / "poller.yaml", {}, now=NOW)
    (job,) = SCRAPE["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"poller:{settings.server.port}"]}]
    assert "--config.file=/etc/prometheus/compose.yml" in SERVICES["prometheus"]["command"]
    assert "./prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]
    provisioned = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "poller.yaml").read_text())["providers"]
    assert f"./grafana:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    boards = {path.name for path in (DEPLOY / "grafana").glob("*.json")}
    assert str(home.parent) == provider["options"]["path"]
    assert home.name in (boards or {"poller.json"})


def test_prometheus_runs_here_as_it_does_elsewhere_but_for_the_address():
    """The scrape interval and the job's name are what the rules are written for."""
    elsewhere = DEPLOY / "prometheus" / "prometheus.yml"
    there = yaml.safe_load(elsewhere.read_text()) if elsewhere.exists() else SCRAPE
    for each in (here := yaml.safe_load(json.dumps(SCRAPE)), there):
        for job in each["scrape_configs"]:
            job["static_configs"] = []
    assert here == there
