"""The objects of a scenario, as Helm gives them and as kustomize does."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import yaml

from scripts.manifests.chart import CHART

SCENARIOS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cpu-demo": ("cpu-demo",),
        "h200-aggregated": ("h200-aggregated",),
        "h200-pd": ("h200-pd",),
        "h200-pd-lws": ("h200-pd", "h200-pd-lws"),
        "monitoring": ("cpu-demo", "monitoring"),
        "secure": ("cpu-demo", "secure"),
    }
)
"""The values files of each folder in deploy/kustomize/overlays."""

Object = dict[str, Any]
Objects = dict[tuple[str, str], Object]
"""By kind and name."""

_HELMS = ("helm.sh/chart", "helm.sh/resource-policy", "app.kubernetes.io/managed-by")


def templated(helm: str, values: Sequence[str], *more: str) -> Objects:
    """What `helm template` gives; `more`: further flags. Raises CalledProcessError."""
    files = [f"--values={CHART / f'values-{name}.yaml'}" for name in values]
    return _parsed(_run(helm, "template", "perigee", str(CHART), *files, *more))


def kustomized(kubectl: str, folder: str) -> Objects:
    """What `kubectl kustomize` gives. Raises CalledProcessError."""
    return _parsed(_run(kubectl, "kustomize", folder))


def of_kind(objects: Objects, kind: str) -> dict[str, Object]:
    """The objects of a kind by their names."""
    return {name: each for (found, name), each in objects.items() if found == kind}


def pod_templates(objects: Objects) -> dict[str, Object]:
    """The pod templates of what runs services, by its name."""
    found = {name: each["spec"]["template"] for name, each in of_kind(objects, "Deployment").items()}
    for name, each in of_kind(objects, "LeaderWorkerSet").items():
        found[name.removesuffix("-groups")] = each["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    return found


def environment(container: Object) -> dict[str, str | None]:
    """Values by name; None for what comes from a Secret."""
    found = {each["name"]: each.get("value") for each in container.get("env", [])}
    assert len(found) == len(container.get("env", [])), "a variable is there twice"
    return found


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _parsed(text: str) -> Objects:
    objects = [each for each in yaml.safe_load_all(text) if each]
    found = {(each["kind"], each["metadata"]["name"]): _normal(each) for each in objects}
    assert len(found) == len(objects), "two objects of a kind have the same name"
    return found


def _normal(value: Any) -> Any:
    """Without what only Helm needs; what Kubernetes merges by name in the order of the names."""
    if isinstance(value, dict):
        kept = {key: _normal(each) for key, each in value.items() if key not in _HELMS}
        return {key: each for key, each in kept.items() if (key, each) != ("annotations", {})}
    if isinstance(value, list):
        items = [_normal(each) for each in value]
        if all(isinstance(each, dict) and "name" in each for each in items):
            return sorted(items, key=lambda each: (each["name"], each.get("mountPath", "")))
        return items
    return value
