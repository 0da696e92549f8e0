"""The compose files say what the services expect; no engine is needed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml

from services.cli.placement.patience import BASE_S, LEAST_BYTES_PER_S
from services.cli.roles import ROLES, config_class
from services.cli.run.plan import WORKERS
from services.common.graces import GATEWAY_CLOSE_S, WORKER_CLOSE_S
from services.common.settings import env_name
from services.engine.loading.workspace import vision_bytes
from tests.containers.conftest import RESET
from tests.support.published_model import published_config

# Keys of services that docker-compose 1.29 and Compose v2 both know, and that scaling allows.
KEYS = {
    "build", "cap_drop", "depends_on", "devices", "environment", "healthcheck", "image", "logging",
    "mem_limit", "networks", "pids_limit", "ports", "profiles", "read_only", "restart", "runtime", "scale",
    "security_opt", "shm_size", "stop_grace_period", "tmpfs", "ulimits", "volumes",
}  # fmt: skip


def test_all_files_hold_the_four_services_with_keys_that_every_compose_knows(
    compose, gpu_compose, aggregated_compose
):
    for file in (compose, gpu_compose, aggregated_compose):
        assert {key for key in file if not key.startswith("x-")} <= {"services", "networks", "volumes"}
        assert set(file["services"]) - {"prometheus"} == set(ROLES)
        for service in file["services"].values():
            assert set(service) <= KEYS


@pytest.mark.parametrize("role", ROLES)
def test_a_service_is_restarted_and_can_neither_write_nor_gain_rights_nor_grow_without_bound(compose, role):
    service = compose["services"][role]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["build"]["dockerfile"] == f"services/{role}/Dockerfile"


@pytest.mark.parametrize("role", ROLES)
def test_a_service_has_longer_to_stop_than_it_takes(compose, role):
    seconds = float(compose["services"][role]["stop_grace_period"].removesuffix("s"))
    closing = GATEWAY_CLOSE_S if role == "gateway" else WORKER_CLOSE_S
    assert seconds >= config_class(role)().grace_seconds + closing


def test_workers_differ_in_their_image_only_but_decode_has_the_gateways_prefill_pool(compose):
    services = [dict(compose["services"][role]) for role in WORKERS]
    decode = services[WORKERS.index("decode")]
    decode["environment"] = dict(decode["environment"])
    pool = decode["environment"].pop("PERIGEE_PREFILL_POOL")
    assert pool == compose["services"]["gateway"]["environment"]["PERIGEE_PREFILL"]
    for service in services:
        service["build"] = {k: v for k, v in service["build"].items() if k != "dockerfile"}
        del service["image"]
    assert services[0] == services[1] == services[2]


def test_only_the_gateway_publishes_ports_and_does_so_on_loopback_by_default(compose):
    assert [role for role in ROLES if "ports" in compose["services"][role]] == ["gateway"]
    assert {name for name, service in compose["services"].items() if "ports" in service} - set(ROLES) == {
        "prometheus"
    }
    [monitoring] = compose["services"]["prometheus"]["ports"]
    assert default(monitoring) == "127.0.0.1:9090:9090"
    config = config_class("gateway")()
    for text, port in zip(
        compose["services"]["gateway"]["ports"], (config.http_port, config.grpc_port), strict=True
    ):
        assert re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text) == f"127.0.0.1:{port}:{port}"


def test_the_gateway_finds_each_pool_by_its_name_and_waits_for_it(compose):
    gateway = compose["services"]["gateway"]
    for role in WORKERS:
        assert gateway["environment"][env_name(role)] == f"{role}:{config_class(role)().port}"
        assert gateway["depends_on"][role] == {"condition": "service_healthy"}


def test_services_are_given_only_settings_they_have(compose, gpu_compose, aggregated_compose):
    for file in (compose, gpu_compose, aggregated_compose):
        for role in ROLES:
            service = file["services"][role]
            known = {env_name(key) for key in config_class(role).__dataclass_fields__} | {"PERIGEE_LOG_LEVEL"}
            given = service.get("environment", {})
            assert {name for name in given if name.startswith("PERIGEE_")} <= known


def test_pages_move_over_tcp_unless_the_gpu_file_lets_ucx_choose(compose, gpu_compose):
    for role in WORKERS:
        environment = compose["services"][role]["environment"]
        assert environment["UCX_TLS"] == "tcp"
        override = gpu_compose["services"][role]["environment"]
        restricted = {name for name in environment if name.startswith("UCX_")}
        assert {override[name] for name in restricted} == {"all"}


def test_the_gpu_file_builds_the_pinned_torch_for_the_workers(gpu_compose, repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    pinned = next(r for r in project["optional-dependencies"]["worker"] if r.startswith("torch=="))
    for role in WORKERS:
        service = gpu_compose["services"][role]
        assert service["build"]["args"]["TORCH"] == f"${{TORCH:-{pinned}}}"
        assert service["environment"]["PERIGEE_DEVICE"] == "cuda:0"


def default(text: str) -> str:
    """What Compose makes of a text without any variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def gpus(*files, role):
    """The GPUs that a service sees, as Compose merges the files, and its settings."""
    environment = {}
    for file in files:
        environment |= file["services"][role].get("environment", {})
    found = {name: default(value) for name, value in environment.items()}
    return set(found["NVIDIA_VISIBLE_DEVICES"].split(",")), found


def test_on_sixteen_gpus_prefill_and_decode_have_eight_each_and_vision_has_room_beside_one(gpu_compose):
    (prefill, of_prefill), (decode, of_decode) = (
        gpus(gpu_compose, role=role) for role in ("prefill", "decode")
    )
    vision, _ = gpus(gpu_compose, role="vision")
    assert len(prefill) == int(of_prefill["PERIGEE_TP"]) == len(decode) == int(of_decode["PERIGEE_TP"]) == 8
    assert not prefill & decode
    assert vision < prefill
    assert float(of_prefill["PERIGEE_RESERVED_GB"]) >= vision_bytes(published_config()) / 1e9
    assert "PERIGEE_RESERVED_GB" not in of_decode


def test_on_eight_gpus_decode_is_alone_with_vision_and_nobody_looks_for_prefill(
    compose, gpu_compose, aggregated_compose
):
    files = compose, gpu_compose, aggregated_compose
    decode, of_decode = gpus(*files, role="decode")
    vision, _ = gpus(*files, role="vision")
    assert decode == set("01234567")
    assert vision < decode
    assert of_decode["PERIGEE_AGGREGATED"] == "true"
    assert of_decode["PERIGEE_PREFILL_POOL"] == ""
    assert float(of_decode["PERIGEE_RESERVED_GB"]) >= vision_bytes(published_config()) / 1e9
    assert aggregated_compose["services"]["gateway"]["environment"]["PERIGEE_PREFILL"] == ""
    assert aggregated_compose["services"]["prefill"] == {"scale": 0}


def merged(*files, role):
    """A service as Compose 2.24 or later merges its keys, and the keys of its environment."""
    service = {"environment": {}}
    for file in files:
        for key, value in file["services"][role].items():
            if key == "environment":
                service[key] |= value
            elif value == RESET:
                service.pop(key, None)
            else:
                service[key] = value
    return service


@pytest.mark.parametrize("role", ROLES)
def test_in_the_machines_own_network_a_service_has_no_other_publishes_nothing_and_listens_on_loopback(
    compose, gpu_compose, host_compose, role
):
    service = merged(compose, gpu_compose, host_compose, role=role)
    assert service["network_mode"] == "host"
    assert not {"networks", "ports"} & service.keys()
    assert default(service["environment"]["PERIGEE_HOST"]) == "127.0.0.1"
    known = {env_name(key) for key in config_class(role).__dataclass_fields__} | {"PERIGEE_LOG_LEVEL"}
    assert {name for name in service["environment"] if name.startswith("PERIGEE_")} <= known


def test_in_the_machines_own_network_services_find_each_other_at_their_own_ports(
    compose, gpu_compose, host_compose, aggregated_compose
):
    files = compose, gpu_compose, host_compose
    gateway, decode = (merged(*files, role=role)["environment"] for role in ("gateway", "decode"))
    places = {role: f"127.0.0.1:{config_class(role)().port}" for role in WORKERS}
    assert {role: gateway[env_name(role)] for role in WORKERS} == places
    assert decode["PERIGEE_PREFILL_POOL"] == places["prefill"]
    config = config_class("gateway")()
    ports = {key: int(default(gateway[env_name(key)])) for key in ("http_port", "grpc_port")}
    assert ports == {key: getattr(config, key) for key in ports}
    alone = [merged(*files, aggregated_compose, role=role)["environment"] for role in ("gateway", "decode")]
    assert (alone[0]["PERIGEE_PREFILL"], alone[1]["PERIGEE_PREFILL_POOL"]) == ("", "")


@pytest.mark.parametrize("role", WORKERS)
def test_the_gateway_does_not_give_up_while_the_published_checkpoint_is_read(gpu_compose, role):
    period = default(gpu_compose["services"][role]["healthcheck"]["start_period"])
    assert period == "1h"
    assert BASE_S + 595_148_192_736 / LEAST_BYTES_PER_S <= 3600


@pytest.mark.parametrize("role", ROLES)
def test_plain_tcp_in_the_network_of_the_containers_is_said_outright(compose, role):
    assert compose["services"][role]["environment"]["PERIGEE_INSECURE"] == "true"


@pytest.mark.parametrize("role", ROLES)
def test_the_secure_file_gives_each_service_its_own_certificate_to_read_and_no_plain_port(
    secure_compose, role
):
    service = secure_compose["services"][role]
    own = {name: value for name, value in service["environment"].items() if name.startswith("PERIGEE_")}
    assert own.pop("PERIGEE_INSECURE") == "false"
    assert own.pop("PERIGEE_TLS_DIR") == f"/certs/{role}"
    if role == "gateway":
        assert own.pop("PERIGEE_PUBLIC_TLS_DIR") == "/certs/public"
        assert own.pop("PERIGEE_OPERATOR_HOST") == "0.0.0.0"
        assert own.pop("PERIGEE_API_KEYS") == "${PERIGEE_API_KEYS:-}"
    assert not own
    names = [role, "public"] if role == "gateway" else [role]
    keys = ["keys:/keys:ro"] if role == "gateway" else []
    assert service["volumes"] == [f"certs-{name}:/certs/{name}:ro" for name in names] + keys
    assert service["depends_on"] == {"certs": {"condition": "service_completed_successfully"}}


def test_only_the_maker_of_certificates_can_write_them_and_only_there_is_the_ca_s_key(secure_compose):
    written = {mount.split(":")[0] for mount in secure_compose["services"]["certs"]["volumes"]}
    assert written == set(secure_compose["volumes"]) - {"keys"}
    for name, service in secure_compose["services"].items():
        if name not in ("certs", "keys"):
            assert all(mount.endswith(":ro") for mount in service["volumes"])
            assert not any(mount.startswith("certs-ca") for mount in service["volumes"])


def test_the_file_of_keys_is_written_by_its_own_command_alone_where_the_gateway_may_look_for_it(
    secure_compose, dockerfiles
):
    maker = secure_compose["services"]["keys"]
    assert (maker["entrypoint"], maker["volumes"]) == (["perigee", "keys"], ["keys:/keys"])
    assert maker["environment"] == {"PERIGEE_API_KEYS": "/keys/keys.json"}
    assert maker["profiles"] == ["operator"]
    (made,) = [run for run in dockerfiles["gateway"].every("RUN") if "install --directory" in run]
    assert "/keys" in made.split()


def test_the_volumes_of_certificates_take_their_owner_from_the_image(secure_compose, dockerfiles):
    (made,) = [run for run in dockerfiles["gateway"].every("RUN") if "install --directory" in run]
    mounted = [mount.split(":")[1] for mount in secure_compose["services"]["certs"]["volumes"]]
    assert "--owner=10001 --group=10001" in made
    assert set(mounted) <= set(made.split())


@pytest.mark.parametrize("role", WORKERS)
def test_workers_are_in_a_network_that_nothing_outside_reaches(compose, role):
    assert compose["services"][role]["networks"] == ["workers"]
    assert compose["networks"]["workers"] == {"internal": True}
    assert compose["services"]["gateway"]["networks"] == ["default", "workers"]


@pytest.mark.parametrize("role", ROLES)
def test_images_have_names_and_by_default_the_version_as_their_tag(compose, secure_compose, role):
    assert default(compose["services"][role]["image"]) == f"perigee/{role}:{version('perigee')}"
    for service in secure_compose["services"].values():
        assert service.get("image", compose["services"]["gateway"]["image"]).startswith("perigee/gateway:")


def test_prometheus_runs_only_if_asked_for_and_has_the_gateways_page_and_the_rules(compose, repository):
    service = compose["services"]["prometheus"]
    assert service["profiles"] == ["monitoring"]
    assert service["read_only"] is True
    mounted = [volume.split(":") for volume in service["volumes"] if volume.startswith("./")]
    files = {inside: repository / outside for outside, inside, _ in mounted}
    configuration = yaml.safe_load(files["/etc/prometheus/prometheus.yml"].read_text())
    for name in configuration["rule_files"]:
        assert files[f"/etc/prometheus/{name}"] == repository / "monitoring" / name
    [job] = configuration["scrape_configs"]
    [discovery] = job["dns_sd_configs"]
    assert discovery["names"] == ["gateway"]
    assert discovery["port"] == config_class("gateway")().http_port


def test_every_variable_of_the_compose_files_is_in_the_example_with_its_default(repository):
    example = (repository / ".env.example").read_text()
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    used = {}
    for file in repository.glob("docker-compose*.yml"):
        code = "".join(
            line for line in file.read_text().splitlines(True) if not line.lstrip().startswith("#")
        )
        for name, value in re.findall(r"\$\{(\w+)(?::?[-?]([^}]*))?\}", code):
            used.setdefault(name, set()).add(value)
    assert set(shown) == set(used) | {"COMPOSE_PROFILES"}
    for name, values in used.items():
        assert shown[name] in values | {"/data/checkpoint"}, name


def test_every_build_takes_the_dockerfiles_base_and_extras_unless_the_environment_names_others(
    compose, secure_compose, dockerfiles
):
    base = dockerfiles["gateway"].every("ARG")[0].removeprefix("BASE=")
    for file in (compose, secure_compose):
        for build in [service["build"] for service in file["services"].values() if "build" in service]:
            assert build["args"]["BASE"] == f"${{BASE:-{base}}}"
            # With :- an empty value could not leave the extra out.
            assert build["args"]["EXTRAS"] == "${EXTRAS-video}"
