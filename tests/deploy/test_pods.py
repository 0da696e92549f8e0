"""What pods run, with which settings, rights, volumes and devices."""

from __future__ import annotations

import pytest
import yaml

from services.cli.commands.checkpoint import add_arguments as checkpoint_arguments
from services.cli.commands.operator.transfer_check import add_arguments as transfer_arguments
from services.cli.parser import Parser
from services.cli.roles import config_class
from services.cli.settings_source import add_setting_flags, resolve_settings
from services.common.rpc.pool_address import PoolAddress, parse_pool
from tests.deploy.objects import SCENARIOS, environment, of_kind, pod_templates, templated

ALL = list(SCENARIOS)
GPU_SCENARIOS = ["h200-aggregated", "h200-pd", "h200-pd-lws"]


def role_of(name):
    return name.removeprefix("perigee-")


def all_pods(objects):
    """Every pod's spec, those of Jobs too."""
    yield from (template["spec"] for template in pod_templates(objects).values())
    yield from (job["spec"]["template"]["spec"] for job in of_kind(objects, "Job").values())


def all_containers(objects):
    for pod in all_pods(objects):
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


@pytest.mark.parametrize("scenario", ALL)
def test_a_service_takes_its_settings_as_they_are(rendered, scenario):
    for name, template in pod_templates(rendered[scenario]).items():
        values = environment(template["spec"]["containers"][0])
        # An image listens on all addresses.
        own = {key: value for key, value in values.items() if key.startswith("PERIGEE_")}
        role = role_of(name)
        parser = Parser()
        add_setting_flags(parser, config_class(role))
        given = {**own, "PERIGEE_HOST": "0.0.0.0"}
        config = resolve_settings(config_class(role), role, parser.parse_args([]), given)
        assert config.model == values["PERIGEE_MODEL"]


def test_a_number_stays_the_number_that_it_is(helm):
    flags = "--set=decode.settings.kv_pages=1000000,prefill.settings.checksum_fraction=0.125"
    pods = pod_templates(templated(helm, [], flags))
    assert environment(pods["perigee-decode"]["spec"]["containers"][0])["PERIGEE_KV_PAGES"] == "1000000"
    values = environment(pods["perigee-prefill"]["spec"]["containers"][0])
    assert values["PERIGEE_CHECKSUM_FRACTION"] == "0.125"


@pytest.mark.parametrize("scenario", ALL)
def test_no_variable_of_a_service_of_kubernetes_is_taken_for_a_setting(rendered, scenario):
    """A Service perigee-decode would bring PERIGEE_DECODE_PORT, a name of a setting of decode."""
    assert all(pod["enableServiceLinks"] is False for pod in all_pods(rendered[scenario]))


@pytest.mark.parametrize("scenario", ALL)
def test_pools_are_the_names_of_headless_services_with_the_roles_ports(rendered, scenario):
    services = of_kind(rendered[scenario], "Service")
    templates = pod_templates(rendered[scenario])
    gateway = environment(templates["perigee-gateway"]["spec"]["containers"][0])
    for role in ("vision", "prefill", "decode"):
        pool = gateway[f"PERIGEE_{role.upper()}"]
        if f"perigee-{role}" not in templates:
            assert pool == ""
            assert f"perigee-{role}" not in services
            continue
        assert parse_pool(pool) == (PoolAddress(f"perigee-{role}", config_class(role)().port),)
        service = services[f"perigee-{role}"]["spec"]
        assert service["clusterIP"] == "None"
        labels = templates[f"perigee-{role}"]["metadata"]["labels"]
        of_lws = {key for key in service["selector"] if key.startswith("leaderworkerset")}
        assert {key: labels.get(key) for key in service["selector"].keys() - of_lws} == {
            key: value for key, value in service["selector"].items() if key not in of_lws
        }
        assert {port["name"]: port["port"] for port in service["ports"]} == {
            "grpc": config_class(role)().port,
            "metrics": config_class(role)().metrics_port,
        }
    decode = environment(templates["perigee-decode"]["spec"]["containers"][0])
    assert decode["PERIGEE_PREFILL_POOL"] == gateway["PERIGEE_PREFILL"]
    assert ("PERIGEE_AGGREGATED" in decode) == (gateway["PERIGEE_PREFILL"] == "")


@pytest.mark.parametrize("scenario", ALL)
def test_nothing_runs_as_root_writes_its_image_or_has_a_capability_or_a_token(rendered, scenario):
    for pod in all_pods(rendered[scenario]):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
    for container in all_containers(rendered[scenario]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        tag = container["image"].rpartition(":")[2]
        assert tag not in ("latest", container["image"])
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("scenario", GPU_SCENARIOS)
def test_the_checkpoint_comes_from_a_volume_that_one_job_writes_and_all_others_only_read(rendered, scenario):
    objects = rendered[scenario]
    [claim] = of_kind(objects, "PersistentVolumeClaim")
    for template in pod_templates(objects).values():
        [container] = template["spec"]["containers"]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "model"]
        assert mount == {"name": "model", "mountPath": "/models/kimi-k2.5", "readOnly": True}
        [volume] = [each for each in template["spec"]["volumes"] if each["name"] == "model"]
        assert volume["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
        assert environment(container)["PERIGEE_MODEL"] == "/models/kimi-k2.5"
    job = of_kind(objects, "Job")["perigee-download-v1"]["spec"]["template"]["spec"]
    assert job["containers"][0]["volumeMounts"][0]["readOnly"] is False
    assert job["containers"][0]["args"][-1] == "/models/kimi-k2.5"


@pytest.mark.parametrize("scenario", GPU_SCENARIOS)
def test_text_workers_verify_the_checkpoint_before_they_read_it(rendered, scenario):
    for name, template in pod_templates(rendered[scenario]).items():
        found = template["spec"].get("initContainers", [])
        if role_of(name) not in ("prefill", "decode"):
            assert not found
            continue
        [verify] = found
        assert verify["command"][:4] == ["perigee", "checkpoint", "verify", "/models/kimi-k2.5"]
        parser = Parser()
        checkpoint_arguments(parser)
        given = parser.parse_args(verify["command"][2:])
        assert (given.tp, given.gpu_memory) == (8, 141)
        assert verify["image"] == template["spec"]["containers"][0]["image"]


@pytest.mark.parametrize("scenario", ALL)
def test_a_worker_has_shared_memory(rendered, scenario):
    for name, template in pod_templates(rendered[scenario]).items():
        mounts = {
            each["mountPath"]: each["name"] for each in template["spec"]["containers"][0]["volumeMounts"]
        }
        assert ("/dev/shm" in mounts) == (role_of(name) != "gateway")
        if "/dev/shm" in mounts:
            [shm] = [each for each in template["spec"]["volumes"] if each["name"] == mounts["/dev/shm"]]
            assert shm["emptyDir"]["medium"] == "Memory"


def test_gpus_and_nics_come_together_from_a_device_plugin(rendered):
    limits = {
        role_of(name): template["spec"]["containers"][0]["resources"]["limits"]
        for name, template in pod_templates(rendered["h200-pd"]).items()
    }
    for role in ("prefill", "decode"):
        assert (limits[role]["nvidia.com/gpu"], limits[role]["rdma/ib"]) == (8, 8)
    assert (limits["vision"]["nvidia.com/gpu"], limits["vision"]["rdma/ib"]) == (1, 1)
    assert limits["gateway"].keys() == {"memory"}


def test_or_from_a_claim_in_pairs_below_one_pcie_root(rendered):
    objects = rendered["h200-pd-lws"]
    for name, template in pod_templates(objects).items():
        resources = template["spec"]["containers"][0]["resources"]
        assert not {"nvidia.com/gpu", "rdma/ib"} & resources["limits"].keys()
        if role_of(name) == "gateway":
            continue
        [claim] = template["spec"]["resourceClaims"]
        assert resources["claims"] == [{"name": claim["name"]}]
        made = of_kind(objects, "ResourceClaimTemplate")[claim["resourceClaimTemplateName"]]["spec"]["spec"]
        requests = [each["name"] for each in made["devices"]["requests"]]
        count = 1 if role_of(name) == "vision" else 8
        assert sorted(requests) == sorted(f"{kind}-{i}" for kind in ("gpu", "nic") for i in range(count))
        assert [each["requests"] for each in made["devices"]["constraints"]] == [
            [f"gpu-{i}", f"nic-{i}"] for i in range(count)
        ]


@pytest.mark.parametrize("scenario", ["h200-pd", "h200-pd-lws"])
def test_where_rdma_is_expected_workers_refuse_anything_else_and_a_preflight_fails(rendered, scenario):
    for name, template in pod_templates(rendered[scenario]).items():
        if role_of(name) != "gateway":
            values = environment(template["spec"]["containers"][0])
            assert values["PERIGEE_EXPECTED_TRANSPORT"] == "rdma"
            assert values["UCX_TLS"] == "all"
    job = of_kind(rendered[scenario], "Job")["perigee-transfer-check-0-1-0"]["spec"]["template"]
    script = job["spec"]["containers"][0]["command"][2].splitlines()
    assert script[0] == "set -e"
    checks = [line.split() for line in script if line.startswith("perigee transfer-check")]
    parser = Parser()
    transfer_arguments(parser)
    given = [parser.parse_args(check[2:]) for check in checks]
    assert [(each.a, each.b, each.every, each.expect) for each in given] == [
        ("prefill", "decode", True, "rdma"),
        ("prefill", "vision", True, "rdma"),
    ]
    assert job["metadata"]["labels"]["perigee.dev/operator"] == "true"


def test_other_images_make_another_preflight_because_a_job_cannot_change(helm):
    def jobs(*flags):
        return {name for name in of_kind(templated(helm, ["h200-pd"], *flags), "Job") if "check" in name}

    assert jobs("--set=image.tag=v2.0_RC.1") == {"perigee-transfer-check-v2-0-rc-1"}
    assert jobs("--set=transfer.preflight.revision=again") == {"perigee-transfer-check-again"}


def test_a_group_of_ranks_is_one_pod_and_its_first_pod_serves(rendered):
    objects = rendered["h200-pd-lws"]
    groups = of_kind(objects, "LeaderWorkerSet")
    assert groups.keys() == {"perigee-prefill-groups", "perigee-decode-groups"}
    # Its controller makes a Service of a set's name.
    assert not groups.keys() & of_kind(objects, "Service").keys()
    for name, each in groups.items():
        template = each["spec"]["leaderWorkerTemplate"]
        assert (template["size"], template["restartPolicy"]) == (1, "RecreateGroupOnPodRestart")
        selector = of_kind(objects, "Service")[name.removesuffix("-groups")]["spec"]["selector"]
        assert selector["leaderworkerset.sigs.k8s.io/worker-index"] == "0"


def test_certificates_name_their_role_as_the_services_want_it(rendered):
    objects = rendered["secure"]
    certificates = of_kind(objects, "Certificate")
    for role in ("vision", "prefill", "decode", "gateway", "operator"):
        spec = certificates[f"perigee-{role}"]["spec"]
        assert spec["uris"] == [f"spiffe://perigee.internal/perigee/{role}"]
        assert spec["dnsNames"] == [f"{role}.perigee.internal"]
        assert spec["usages"] == ["server auth", "client auth"]
    for name, template in pod_templates(objects).items():
        [container] = template["spec"]["containers"]
        values = environment(container)
        assert values["PERIGEE_TLS_DIR"] == "/certs/own"
        assert "PERIGEE_INSECURE" not in values
        secrets = {each["name"]: each["secret"] for each in template["spec"]["volumes"] if "secret" in each}
        [own] = [each for each in container["volumeMounts"] if each["mountPath"] == "/certs/own"]
        assert secrets[own["name"]]["secretName"] == certificates[name]["spec"]["secretName"]
        # The group, which is the process's, may read; nobody but the owner may change the file of keys.
        assert {each["defaultMode"] for each in secrets.values()} == {0o440}


def test_values_of_the_chart_are_each_used(repository):
    chart = repository / "deploy" / "helm" / "perigee"
    text = "\n".join(path.read_text() for path in (chart / "templates").iterdir())
    values = yaml.safe_load((chart / "values.yaml").read_text())
    unused = [key for key in _keys(values) if f".{key}" not in text and f'"{key}"' not in text]
    assert unused == []


def _keys(values):
    free = {"settings", "env", "resources", "matchLabels", "namespaceSelector", "podSelector"}
    for key, value in values.items():
        yield key
        if isinstance(value, dict) and key not in free:
            yield from _keys(value)
