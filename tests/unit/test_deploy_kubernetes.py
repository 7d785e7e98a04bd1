"""The manifests of `deploy/kubernetes`: valid by the cluster's own schemas, and right for this program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate import ValidationError, latest_version, validate  # type: ignore[import-untyped]  # no types

from deploy.kubernetes.prometheus_rule import prometheus_rule
from poller import __version__
from poller.model.errors import SettingsError
from poller.service.families import FAMILIES
from poller.settings import load, schema
from poller.settings.values import size_bytes
from tests.unit.settings_file import NOW

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CUSTOM = yaml.safe_load((Path(__file__).parent / "crds.yaml").read_text())
LABELS = {"app.kubernetes.io/name": "poller"}
CONFIGURATIONS = [FOLDER / "base" / "poller.yaml", FOLDER / "example" / "poller.yaml"]
FOLDERS = ("base", "prometheus-operator", "keda", "example")
OLDEST = "1.31"
"""The oldest release that the manifests are for: PodDisruptionBudget's unhealthyPodEvictionPolicy is stable from then."""


def manifests(*folders: str) -> list[dict[str, Any]]:
    files = [path for folder in folders for path in sorted((FOLDER / folder).glob("*.yaml"))]
    documents = [document for path in files for document in yaml.safe_load_all(path.read_text())]
    return [document for document in documents if "kind" in document and "metadata" in document]


def one(kind: str, *folders: str) -> dict[str, Any]:
    (found,) = [each for each in manifests(*folders or ("base",)) if each["kind"] == kind]
    return found


POD = one("StatefulSet")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def name_of(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def faults(manifest: dict[str, Any], version: str = "") -> Iterator[str]:
    """What its schema says against a manifest: the cluster's own, or that of a custom resource."""
    if manifest["kind"] in CUSTOM:
        rules = CUSTOM[manifest["kind"]] | {"definitions": CUSTOM["definitions"]}
        for error in jsonschema.Draft202012Validator(rules).iter_errors(manifest):
            yield error.message
    else:
        try:
            validate(manifest, version or latest_version(), strict=True)
        except ValidationError as error:
            yield error.message


@pytest.mark.parametrize("version", [OLDEST, latest_version()])
@pytest.mark.parametrize("manifest", manifests(*FOLDERS), ids=name_of)
def test_a_manifest_satisfies_the_schema_of_its_kind(manifest: dict[str, Any], version: str):
    assert list(faults(manifest, version)) == []


@pytest.mark.parametrize("manifest", manifests(*FOLDERS), ids=name_of)
def test_a_field_that_its_kind_does_not_have_is_refused(manifest: dict[str, Any]):
    wrong = deepcopy(manifest) | {"spek": {}}
    assert list(faults(wrong)) != []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_kustomization_names_every_file_beside_it(folder: str):
    kustomization = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())
    generated = [name for each in kustomization.get("configMapGenerator", []) for name in each["files"]]
    named = {*kustomization["resources"], *kustomization.get("components", []), *generated}
    beside = {path.name for path in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in named if not name.startswith("..")} == beside
    assert all((FOLDER / folder / name).exists() for name in named)


def test_what_the_example_and_the_components_patch_is_there():
    for folder in FOLDERS:
        kustomization = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())
        for patch in kustomization.get("patches", []):
            target = one(patch["target"]["kind"])
            assert target["metadata"]["name"] == patch["target"]["name"]
            for operation in yaml.safe_load(patch["patch"]):
                at: Any = target
                for key in operation["path"].strip("/").split("/"):
                    at = at[key.replace("~1", "/")]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_the_mounted_configuration_is_one(path: Path, tmp_path: Path):
    """Mounted as a cluster mounts it: through a link to a folder that is replaced as a whole."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "poller.yaml").write_text(path.read_text())
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "poller.yaml").symlink_to("..data/poller.yaml")
    raw = yaml.safe_load(path.read_text())
    assert [error.message for error in jsonschema.Draft202012Validator(schema()).iter_errors(raw)] == []
    told = mistakes(tmp_path)
    if not (ROOT / "poller" / "stores" / "dynamodb.py").exists():  # until then, that is what is told
        told = [line for line in told if "dynamodb:// is not supported yet" not in line]
    assert told == []


def mistakes(config: Path) -> list[str]:
    try:
        load(config, {}, now=NOW)
    except SettingsError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_the_configuration_fits_the_pod_that_it_is_mounted_in(path: Path):
    raw = yaml.safe_load(path.read_text())
    assert raw["store"].startswith("dynamodb://"), "replicas share a store"
    assert raw["server"] == {"host": "0.0.0.0", "port": CONTAINER["ports"][0]["containerPort"]}
    assert POD["spec"]["terminationGracePeriodSeconds"] >= raw["shutdown_grace"] + 10
    limit = size_bytes(CONTAINER["resources"]["limits"]["memory"] + "B")
    assert limit >= 1.5 * size_bytes(raw["memory"]) + 256 * 2**20
    assert CONTAINER["resources"]["requests"]["memory"] == CONTAINER["resources"]["limits"]["memory"]


def test_every_container_has_limits_and_an_image_of_this_version():
    every = POD["spec"]["containers"] + POD["spec"].get("initContainers", [])
    for container in every:
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert container["image"] == f"poller:{__version__}"
    (image,) = yaml.safe_load((FOLDER / "example" / "kustomization.yaml").read_text())["images"]
    assert (image["name"], image["newTag"]) == ("poller", __version__)


def test_nothing_runs_with_more_than_it_needs():
    whole, own = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert (whole["runAsUser"], whole["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["spec"]["automountServiceAccountToken"] is False


def test_a_probe_asks_a_path_that_is_served_at_a_port_that_is_named():
    served = set(re.findall(r'add_get\("(/\w*)"', (ROOT / "poller" / "service" / "http.py").read_text()))
    ports = {port["name"] for port in CONTAINER["ports"]}
    asked = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {probe["path"] for probe in asked.values()} <= served
    assert {probe["port"] for probe in asked.values()} <= ports
    (scraped,) = one("ServiceMonitor", "prometheus-operator")["spec"]["endpoints"]
    assert scraped["path"] in served
    (offered,) = one("Service")["spec"]["ports"]
    assert scraped["port"] == offered["name"]
    assert offered["targetPort"] in ports


def test_two_deployments_are_two_jobs():
    """The rules compare what has the same job: replicas that share a store, and nothing else."""
    (scraped,) = one("ServiceMonitor", "prometheus-operator")["spec"]["endpoints"]
    (relabeled,) = scraped["relabelings"]
    assert relabeled["targetLabel"] == "job"
    assert relabeled["sourceLabels"][0] == "__meta_kubernetes_namespace"


def test_every_selector_finds_the_pods_and_the_service():
    spec = {each["kind"]: each["spec"] for each in manifests("base", "prometheus-operator") if "spec" in each}
    assert POD["metadata"]["labels"] == LABELS
    assert spec["StatefulSet"]["selector"]["matchLabels"] == LABELS
    assert spec["Service"]["selector"] == LABELS
    assert spec["PodDisruptionBudget"]["selector"]["matchLabels"] == LABELS
    assert spec["NetworkPolicy"]["podSelector"]["matchLabels"] == LABELS
    assert [each["labelSelector"]["matchLabels"] for each in POD["spec"]["topologySpreadConstraints"]] == [LABELS] * 2
    assert spec["ServiceMonitor"]["selector"]["matchLabels"] == one("Service")["metadata"]["labels"]
    assert spec["StatefulSet"]["serviceName"] == one("Service")["metadata"]["name"]
    assert one("Service")["spec"]["clusterIP"] == "None"


def test_what_is_mounted_is_there_and_the_one_thing_written_to_is_the_images_volume():
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in POD["spec"]["volumes"]}
    assert [mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")] == ["/var/lib/poller"]
    assert mounts["config"]["mountPath"] == CONTAINER["args"][-1]
    kustomization = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text())
    made = {each["name"] for each in kustomization["configMapGenerator"]}
    assert {volume["configMap"]["name"] for volume in POD["spec"]["volumes"] if "configMap" in volume} == made


def test_sigterm_drains_so_nothing_else_is_done_before_it():
    assert "lifecycle" not in CONTAINER
    assert one("StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"


def test_the_network_lets_metrics_in_and_names_and_https_out():
    policy = one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http"]
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 443}
    added = one("NetworkPolicy", "example")["spec"]
    assert added["podSelector"] == policy["podSelector"]
    assert added["policyTypes"] == ["Egress"], "no more may come in"


def test_the_role_trusts_the_service_account_of_the_pods():
    account = one("ServiceAccount")["metadata"]["name"]
    assert POD["spec"]["serviceAccountName"] == account
    trust = json.loads((ROOT / "deploy" / "iam" / "trust-service-account.json").read_text())
    subject = trust["Statement"][0]["Condition"]["StringEquals"]["${OIDC_PROVIDER}:sub"]
    assert subject.rsplit(":", 1)[1] == account


def test_the_scaler_asks_for_the_lag_of_the_pods_that_it_scales():
    spec = one("ScaledObject", "keda")["spec"]
    target = one("StatefulSet")
    assert spec["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": target["kind"],
        "name": target["metadata"]["name"],
    }
    (trigger,) = spec["triggers"]
    asked = set(re.findall(r"poller_\w+", trigger["metadata"]["query"]))
    assert asked == {"poller_iterator_age_seconds"}
    assert asked <= {family.name for family in FAMILIES}
    assert spec["minReplicaCount"] >= 2, "one may be evicted"


def test_the_operators_rules_are_the_rules():
    """`make rules` writes them anew."""
    shipped = (FOLDER / "prometheus-operator" / "prometheusrule.yaml").read_text()
    groups = yaml.safe_load(shipped)["spec"]
    assert groups["groups"]
    rules = RULES.read_text() if RULES.exists() else yaml.safe_dump(groups)
    assert yaml.safe_load(rules) == groups


def test_a_rule_file_is_taken_over_as_it_is_written():
    rules = "groups:\n  # why\n  - name: a\n    rules:\n      - {record: x, expr: y}\n\n  - name: b\n"
    made = prometheus_rule(rules)
    assert yaml.safe_load(made)["spec"] == yaml.safe_load(rules)
    assert "# why" in made
    assert list(faults(yaml.safe_load(made))) == []
