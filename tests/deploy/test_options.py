"""Values that no scenario sets give objects that a cluster takes, with what was asked for in them."""

from __future__ import annotations

import json

import pytest

from tests.deploy.objects import environment, of_kind, pod_templates, templated
from tests.deploy.validation import problems


def render(helm, *values, base=()):
    """The objects, each valid, for pairs of a value's path and what it is set to."""
    flags = [f"--set-json={path}={json.dumps(value)}" for path, value in values]
    objects = templated(helm, base, *flags)
    assert {name: problems(each) for name, each in objects.items() if problems(each)} == {}
    return objects


def pods(objects):
    return [template["spec"] for template in pod_templates(objects).values()]


def decode(objects):
    return pod_templates(objects)["perigee-decode"]


def test_pull_secrets_are_given_to_every_pod(helm):
    objects = render(helm, ("image.pullSecrets", ["one", "two"]), base=["h200-pd"])
    jobs = [job["spec"]["template"]["spec"] for job in of_kind(objects, "Job").values()]
    assert len(jobs) == 2
    for pod in pods(objects) + jobs:
        assert pod["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            ("model.volume.existingClaim", "weights"),
            {"persistentVolumeClaim": {"claimName": "weights", "readOnly": True}},
        ),
        (("model.volume.hostPath", "/data/kimi"), {"hostPath": {"path": "/data/kimi", "type": "Directory"}}),
    ],
)
def test_a_checkpoint_may_be_there_already(helm, value, expected):
    objects = render(helm, value, ("model.path", "/models/kimi"))
    assert of_kind(objects, "PersistentVolumeClaim") == {}
    for pod in pods(objects):
        [volume] = [each for each in pod["volumes"] if each["name"] == "model"]
        assert volume == {"name": "model", **expected}
        mounts = pod["containers"][0]["volumeMounts"]
        assert {"name": "model", "mountPath": "/models/kimi", "readOnly": True} in mounts


def test_pods_are_placed_as_a_role_says(helm):
    affinity = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}
    }
    toleration = {"key": "gpu", "operator": "Exists"}
    objects = render(
        helm,
        ("decode.nodeSelector", {"pool": "gpu"}),
        ("decode.tolerations", [toleration]),
        ("decode.affinity", affinity),
        ("decode.podAnnotations", {"k8s.v1.cni.cncf.io/networks": "rdma-net"}),
    )
    spec = decode(objects)["spec"]
    assert (spec["nodeSelector"], spec["tolerations"], spec["affinity"]) == (
        {"pool": "gpu"},
        [toleration],
        affinity,
    )
    assert decode(objects)["metadata"]["annotations"] == {"k8s.v1.cni.cncf.io/networks": "rdma-net"}
    assert "nodeSelector" not in pod_templates(objects)["perigee-prefill"]["spec"]


def test_settings_and_variables_of_a_role_win_over_those_of_the_chart(helm):
    objects = render(
        helm,
        ("decode.settings", {"kv_pages": 2048, "deterministic": False, "log_level": "DEBUG"}),
        ("decode.env", {"UCX_TLS": "tcp,self", "HTTPS_PROXY": "http://proxy:3128"}),
    )
    values = environment(decode(objects)["spec"]["containers"][0])
    assert (values["PERIGEE_KV_PAGES"], values["PERIGEE_DETERMINISTIC"]) == ("2048", "false")
    assert (values["PERIGEE_LOG_LEVEL"], values["UCX_TLS"]) == ("DEBUG", "tcp,self")
    assert values["HTTPS_PROXY"] == "http://proxy:3128"


def test_a_runtime_class_is_for_pods_with_gpus(helm):
    templates = pod_templates(render(helm, ("gpu.runtimeClassName", "nvidia"), base=["h200-aggregated"]))
    found = {name: template["spec"].get("runtimeClassName") for name, template in templates.items()}
    assert found == {"perigee-decode": "nvidia", "perigee-vision": None, "perigee-gateway": None}


def test_a_suite_of_text_alone_has_nothing_of_vision(helm):
    objects = render(helm, ("vision.enabled", False), base=["cpu-demo", "secure"])
    assert not [name for _, name in objects if "vision" in name]
    gateway = pod_templates(objects)["perigee-gateway"]["spec"]["containers"][0]
    assert environment(gateway)["PERIGEE_VISION"] == ""


def test_the_aggregated_suite_can_be_monitored_and_secured(helm):
    objects = render(helm, base=["h200-aggregated", "monitoring", "secure"])
    assert not [name for _, name in objects if "prefill" in name]
    assert of_kind(objects, "ScaledObject").keys() == {"perigee-decode", "perigee-gateway", "perigee-vision"}


def test_certificates_may_come_from_issuers_that_are_there(helm):
    objects = render(
        helm,
        ("tls.issuer", {"name": "mesh", "kind": "ClusterIssuer"}),
        ("tls.publicIssuer", {"name": "public", "kind": "ClusterIssuer"}),
        base=["cpu-demo", "secure"],
    )
    assert of_kind(objects, "Issuer") == {}
    issuers = {
        name: each["spec"]["issuerRef"]["name"] for name, each in of_kind(objects, "Certificate").items()
    }
    assert issuers.pop("perigee-gateway-public") == "public"
    assert set(issuers.values()) == {"mesh"}


def test_policies_can_be_left_out_and_media_hosts_let_in(helm):
    assert (
        of_kind(
            render(helm, ("networkPolicy.enabled", False), base=["h200-pd", "monitoring"]), "NetworkPolicy"
        )
        == {}
    )
    out = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}
    objects = render(helm, ("networkPolicy.gatewayEgress", [out]))
    assert of_kind(objects, "NetworkPolicy")["perigee-gateway"]["spec"]["egress"][-1] == out


def test_a_download_is_the_operators_own_command(helm):
    objects = render(
        helm,
        ("model.download.command", ["sh", "-c"]),
        ("model.download.args", ["fetch"]),
        ("model.download.revision", "v2"),
        (
            "model.download.image",
            {"repository": "registry.example.org/fetch", "digest": "sha256:" + "0" * 64},
        ),
        base=["h200-pd"],
    )
    container = of_kind(objects, "Job")["perigee-download-v2"]["spec"]["template"]["spec"]["containers"][0]
    assert (container["command"], container["args"]) == (["sh", "-c"], ["fetch"])
    assert container["image"] == f"registry.example.org/fetch@sha256:{'0' * 64}"
    assert container["envFrom"] == [{"secretRef": {"name": "model-source"}}]


def test_keys_without_certificates_are_enough_for_prometheus_and_the_preflight(helm):
    objects = render(
        helm,
        ("gateway.apiKeysSecret", "keys"),
        ("monitoring.apiKeySecret.name", "admin"),
        ("transfer.preflight.apiKeySecret.name", "admin"),
        base=["h200-pd", "monitoring"],
    )
    endpoint = of_kind(objects, "ServiceMonitor")["perigee"]["spec"]["endpoints"][0]
    assert endpoint["authorization"] == {"credentials": {"name": "admin", "key": "key"}}
    assert "scheme" not in endpoint
    job = of_kind(objects, "Job")["perigee-transfer-check-0-1-0"]["spec"]["template"]["spec"]["containers"][0]
    reference = {"secretKeyRef": {"name": "admin", "key": "key"}}
    assert job["env"] == [{"name": "PERIGEE_API_KEY", "valueFrom": reference}]
