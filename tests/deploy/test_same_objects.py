"""Helm and kustomize give the same objects, and what is committed is what the chart gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from scripts.manifests.__main__ import chart_files, update
from tests.deploy.objects import SCENARIOS, kustomized, templated

KUSTOMIZE = Path("deploy/kustomize")


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_an_overlay_gives_the_objects_of_its_values_files(rendered, kubectl, scenario):
    assert kustomized(kubectl, f"{KUSTOMIZE}/overlays/{scenario}") == rendered[scenario]


@pytest.mark.parametrize(
    ("base", "components"),
    [
        ("h200-pd", ["monitoring", "secure"]),
        ("h200-pd", ["monitoring"]),
        ("h200-pd-lws", ["secure"]),
        ("cpu-demo", ["monitoring", "secure"]),
    ],
)
def test_components_fit_other_bases_and_each_other(helm, kubectl, tmp_path, base, components):
    to = Path(os.path.relpath(KUSTOMIZE.resolve(), tmp_path))
    overlay = {
        "resources": [str(to / "bases" / base)],
        "components": [str(to / "components" / name) for name in components],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    assert kustomized(kubectl, str(tmp_path)) == templated(helm, [*SCENARIOS[base], *components])


def test_the_committed_files_are_what_the_chart_gives(helm):
    assert update(helm, write=False) == [], "run `make manifests`"


def test_the_chart_has_the_rules_and_dashboards_of_monitoring():
    """Needs no Helm: who changes them may have none."""
    files = chart_files()
    assert len(files) >= 3
    assert {path: path.read_text() for path in files} == files, "run `make manifests`"


@pytest.mark.parametrize("component", ["monitoring", "secure"])
def test_a_component_lists_all_its_files(component):
    folder = KUSTOMIZE / "components" / component
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}


def test_a_file_of_a_removed_object_is_found_and_removed(helm, monkeypatch, tmp_path):
    copied = tmp_path / "kustomize"
    monkeypatch.setattr("scripts.manifests.__main__.KUSTOMIZE", copied)
    update(helm, write=True)
    assert update(helm, write=False) == []
    left = copied / "bases" / "cpu-demo" / "ingress.yaml"
    left.write_text((copied / "bases" / "cpu-demo" / "service.yaml").read_text())
    assert update(helm, write=False) == [left]
    update(helm, write=True)
    assert not left.exists()
