"""Every object of every scenario would be taken by a cluster, and the checks that say so catch mistakes."""

from __future__ import annotations

import copy

import pytest

from tests.deploy.objects import SCENARIOS
from tests.deploy.validation import problems

# Kind: where a key is misspelt, where a value has a wrong type, which key is missing. Paths from the object.
MISTAKES = {
    "Certificate": ("spec.usages", "spec.privateKey.size", "spec.secretName"),
    "ConfigMap": ("data", "data.overview.json", "metadata.name"),
    "Deployment": ("spec.minReadySeconds", "spec.replicas", "spec.selector"),
    "Issuer": ("spec.ca.secretName", "spec.ca.secretName", "spec.ca.secretName"),
    "Job": ("spec.backoffLimit", "spec.backoffLimit", "spec.template"),
    "LeaderWorkerSet": (
        "spec.leaderWorkerTemplate.restartPolicy",
        "spec.leaderWorkerTemplate.size",
        "spec.leaderWorkerTemplate.workerTemplate",
    ),
    "NetworkPolicy": (
        "spec.policyTypes",
        "spec.ingress.0.ports.0.port",
        "spec.egress.1.to.0.podSelector.matchExpressions.0.operator",
    ),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.accessModes", "spec.accessModes"),
    "PodDisruptionBudget": ("spec.selector", "spec.selector.matchLabels", "spec.maxUnavailable"),
    "PrometheusRule": ("spec.groups.0.rules", "spec.groups.0.rules.0.record", "spec.groups.0.rules.0.expr"),
    "ResourceClaimTemplate": (
        "spec.spec.devices.requests",
        "spec.spec.devices.requests.0.exactly.count",
        "spec.spec.devices.requests.0.name",
    ),
    "ScaledObject": (
        "spec.maxReplicaCount",
        "spec.triggers.0.metadata.threshold",
        "spec.scaleTargetRef.name",
    ),
    "Service": ("spec.clusterIP", "spec.ports.0.port", "spec.ports.0.port"),
    "ServiceAccount": ("automountServiceAccountToken", "automountServiceAccountToken", "metadata.name"),
    "ServiceMonitor": ("spec.endpoints.0.honorLabels", "spec.endpoints.0.interval", "spec.selector"),
}
# In a pod, which a Deployment, a Job and a LeaderWorkerSet have.
POD_MISTAKES = (
    "containers.0.livenessProbe.failureThreshold",
    "containers.0.env.0.value",
    "containers.0.name",
)
WRONG_TYPE = {"a": {"mapping": "no field has"}}


@pytest.fixture(scope="module")
def kinds(rendered):
    """One object of each kind, that with most of the keys which mistakes are made in."""
    found = {}
    for scenario in SCENARIOS:
        for (kind, _), each in rendered[scenario].items():
            paths = MISTAKES.get(kind, ())
            score = sum(_has(each, path) for path in paths)
            if kind not in found or score > found[kind][0]:
                found[kind] = score, each
    return {kind: each for kind, (_, each) in found.items()}


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_cluster_would_take_every_object(rendered, scenario):
    found = {name: problems(each) for name, each in rendered[scenario].items()}
    assert {name: each for name, each in found.items() if each} == {}


def test_mistakes_are_made_in_every_kind(kinds):
    assert kinds.keys() == MISTAKES.keys()


@pytest.mark.parametrize("kind", list(MISTAKES))
def test_a_misspelt_key_a_wrong_type_and_a_missing_field_are_caught(kinds, kind):
    misspelt, wrong, missing = MISTAKES[kind]
    _expect_caught(kinds[kind], misspelt, wrong, missing)


@pytest.mark.parametrize(
    ("kind", "pod"),
    [
        ("Deployment", "spec.template.spec."),
        ("LeaderWorkerSet", "spec.leaderWorkerTemplate.workerTemplate.spec."),
    ],
)
def test_they_are_caught_in_pods_too(kinds, kind, pod):
    _expect_caught(kinds[kind], *(pod + path for path in POD_MISTAKES))


@pytest.mark.parametrize(
    ("kind", "path", "value", "says"),
    [
        ("Certificate", "spec.renewBefore", "99999h", "renewBefore is not less"),
        ("ScaledObject", "spec.minReplicaCount", 99, "minReplicaCount is above"),
        ("Certificate", "spec.privateKey.size", 255, "no such size"),
        ("PodDisruptionBudget", "spec.minAvailable", 1, "either minAvailable or maxUnavailable"),
        ("PersistentVolumeClaim", "spec.resources", {}, "asks for no storage"),
        ("ScaledObject", "spec.triggers.0.metadata", {"query": "up"}, "lacks serverAddress, threshold"),
        ("ServiceMonitor", "spec.endpoints.0.scrapeTimeout", "1m", "longer than interval"),
        ("Deployment", "spec.strategy.rollingUpdate", {"maxSurge": 0, "maxUnavailable": 0}, "both 0"),
        ("Deployment", "spec.template.metadata.labels", {"other": "pod"}, "does not select"),
        (
            "LeaderWorkerSet",
            "spec.rolloutStrategy.rollingUpdateConfiguration",
            {"maxSurge": 0, "maxUnavailable": 0},
            "both 0",
        ),
    ],
)
def test_what_a_webhook_would_refuse_is_caught(kinds, kind, path, value, says):
    wrong = copy.deepcopy(kinds[kind])
    parent, key = _parent(wrong, path)
    parent[key] = value
    assert any(says in each for each in problems(wrong)), problems(wrong)


def _expect_caught(each, misspelt, wrong, missing):
    assert problems(each) == []
    changed = copy.deepcopy(each)
    parent, key = _parent(changed, misspelt)
    parent[f"{key}x"] = parent.pop(key)
    assert problems(changed), f"{misspelt} misspelt"
    changed = copy.deepcopy(each)
    parent, key = _parent(changed, wrong)
    parent[key] = WRONG_TYPE
    assert problems(changed), f"{wrong} of a wrong type"
    changed = copy.deepcopy(each)
    parent, key = _parent(changed, missing)
    del parent[key]
    assert problems(changed), f"{missing} missing"


def _parent(each, path):
    """What contains the value at `path`, and its key there. File names in a ConfigMap have dots."""
    *keys, last = path.split(".", 1) if path.startswith("data.") else path.split(".")
    for key in keys:
        each = each[int(key)] if isinstance(each, list) else each[key]
    return each, int(last) if isinstance(each, list) else last


def _has(each, path):
    try:
        parent, key = _parent(each, path)
        return key in parent if isinstance(parent, dict) else key < len(parent)
    except (KeyError, IndexError):
        return False
