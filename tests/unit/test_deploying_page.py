"""`docs/deploying.md`: what it names is there, and the numbers are those of the files."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from poller import __version__

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "deploying.md").read_text()


def test_every_policy_and_every_folder_of_manifests_is_explained():
    policies = {path.name for path in (ROOT / "deploy" / "iam").iterdir()}
    assert set(re.findall(r"`([\w-]+\.json)`", PAGE)) == policies
    folders = {
        path.name for path in (ROOT / "deploy" / "kubernetes").iterdir() if path.is_dir() and path.name[0] != "_"
    }
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == folders


def test_the_numbers_are_those_of_the_files():
    pod = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "base" / "statefulset.yaml").read_text())["spec"]["template"]
    unit = (ROOT / "deploy" / "systemd" / "poller.service").read_text()
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["poller"]
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert f"TimeoutStopSec={grace}\n" in unit
    assert f"{grace} s in Kubernetes and systemd, {compose['stop_grace_period'][:-1]} s in compose" in PAGE
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "640Mi"
    assert "640 MiB for the default of 256 MiB" in PAGE
    assert f"docker build -t poller:{__version__} ." in PAGE


def test_what_the_image_is_not_shown_to_do_is_said():
    assert "Not shown: that a container engine reads the file" in PAGE
