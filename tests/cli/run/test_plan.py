from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest

from services.cli.run.plan import child_environment, make_plan
from services.cli.run.ports import take_ports
from services.cli.run_config import RunConfig
from services.common.errors import CheckpointError, ConfigError
from tests.support.endpoints import ENDPOINTS

K3 = '{"model_type": "kimi_k3", "architectures": ["KimiK3ForConditionalGeneration"]}'


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "little-one"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "kimi_k25"}')
    return path


def config(checkpoint, **changes):
    free = {"http_port": 0, "grpc_port": 0, "operator_port": 0, "port_base": 0, "metrics_port_base": 0}
    return RunConfig(model=str(checkpoint), run_dir=checkpoint.parent / "run", **(free | changes))


def value(child, flag):
    return child.arguments[child.arguments.index(flag) + 1]


def test_the_gateway_is_told_where_the_workers_are(checkpoint):
    *workers, gateway = make_plan(config(checkpoint), ENDPOINTS).children
    assert [worker.role for worker in workers] == ["vision", "prefill", "decode"]
    for worker in workers:
        assert value(gateway, f"--{worker.role}") == f"file:{checkpoint.parent}/run/{worker.role}.pool"
        assert worker.grpc_address == f"{value(worker, '--host')}:{value(worker, '--port')}"
    assert value(workers[-1], "--prefill-pool") == value(gateway, "--prefill")


def test_a_worker_that_moves_differs_in_its_ports_alone(checkpoint):
    worker = make_plan(config(checkpoint), ENDPOINTS).children[1]
    moved = worker.moved(7001, 7002)
    assert (moved.ports, moved.grpc_address) == ((7001, 7002), "127.0.0.1:7001")
    assert moved.moved(*worker.ports) == worker


def test_a_worker_computes_where_its_arguments_say(checkpoint):
    plan = make_plan(config(checkpoint), ENDPOINTS).with_arguments({"decode": ("--device", "cuda:1")})
    assert [child.device for child in plan.children] == ["cpu", "cpu", "cuda:1", "cpu"]


def test_a_run_directory_that_does_not_fit_into_a_setting_is_refused_before_anything_starts(checkpoint):
    with pytest.raises(ConfigError, match=r"run_dir: .*/a,b has a comma in its name"):
        make_plan(replace(config(checkpoint), run_dir=checkpoint / "a,b"), ENDPOINTS)


def test_aggregated_there_is_no_prefill_worker_and_decode_is_told(checkpoint):
    vision, decode, gateway = make_plan(config(checkpoint, aggregated=True), ENDPOINTS).children
    assert [child.role for child in (vision, decode, gateway)] == ["vision", "decode", "gateway"]
    assert "--aggregated" in decode.arguments
    assert "--aggregated" not in vision.arguments
    assert value(gateway, "--prefill") == value(decode, "--prefill-pool") == ""
    assert value(gateway, "--decode").endswith("/decode.pool")
    whole = make_plan(config(checkpoint), ENDPOINTS).children
    assert not any("--aggregated" in child.arguments for child in whole)


def test_aggregated_no_port_is_kept_for_a_prefill_worker_and_decode_has_its_own(checkpoint):
    with ExitStack() as held:
        base = take_ports(ENDPOINTS, "127.0.0.1", 0, 3, "")[0]
        while not are_free(base, 3):
            base = take_ports(ENDPOINTS, "127.0.0.1", 0, 3, "")[0]
        take_ports(ENDPOINTS, "127.0.0.1", base + 1, 1, "", held)
        for key in ("port_base", "metrics_port_base"):
            with pytest.raises(ConfigError, match=f":{base + 1}: the port is taken"):
                make_plan(config(checkpoint, **{key: base}), ENDPOINTS)
            vision, decode, _ = make_plan(
                config(checkpoint, aggregated=True, **{key: base}), ENDPOINTS
            ).children
            flag = "--port" if key == "port_base" else "--metrics-port"
            assert (value(vision, flag), value(decode, flag)) == (str(base), str(base + 2))


def are_free(base, count):
    try:
        return bool(take_ports(ENDPOINTS, "127.0.0.1", base, count, ""))
    except ConfigError:
        return False


def test_no_two_servers_share_a_port(checkpoint):
    plan = make_plan(config(checkpoint), ENDPOINTS)
    flags = ("--port", "--metrics-port", "--http-port", "--grpc-port", "--operator-port")
    ports = [value(child, flag) for child in plan.children for flag in flags if flag in child.arguments]
    assert len(ports) == 9
    assert len(set(ports)) == 9


def test_only_the_doors_listen_on_the_public_address(checkpoint):
    *workers, gateway = make_plan(config(checkpoint, host="0.0.0.0"), ENDPOINTS).children
    assert value(gateway, "--host") == "0.0.0.0"
    assert {value(worker, "--host") for worker in workers} == {"127.0.0.1"}
    assert value(gateway, "--operator-host") == "127.0.0.1"
    assert gateway.grpc_address == f"127.0.0.1:{value(gateway, '--operator-port')}"


def test_each_role_is_given_its_own_directory_of_certificates_and_all_of_them_the_trust_domain(checkpoint):
    plan = make_plan(config(checkpoint, tls_dir="certs", trust_domain="lab.example.org"), ENDPOINTS)
    assert [value(child, "--tls-dir") for child in plan.children] == [
        f"certs/{role}" for role in ("vision", "prefill", "decode", "gateway")
    ]
    assert {value(child, "--trust-domain") for child in plan.children} == {"lab.example.org"}
    assert not any("--insecure" in child.arguments for child in plan.children)


def test_insecure_is_said_to_all_and_a_public_certificate_to_the_gateway(checkpoint):
    plan = make_plan(config(checkpoint, insecure=True, public_tls_dir="public"), ENDPOINTS)
    assert all("--insecure" in child.arguments for child in plan.children)
    assert [child.role for child in plan.children if "--public-tls-dir" in child.arguments] == ["gateway"]


def test_the_model_is_named_after_its_directory_unless_it_was_given_a_name(checkpoint):
    assert make_plan(config(checkpoint), ENDPOINTS).model_name == "little-one"
    named = make_plan(config(checkpoint, served_model_name="first, second"), ENDPOINTS)
    assert named.model_name == "first"
    assert value(named.children[-1], "--served-model-name") == "first, second"


def test_parsers_are_passed_on_to_the_gateway_only_if_they_were_named(checkpoint):
    gateway = make_plan(config(checkpoint), ENDPOINTS).children[-1]
    assert not {"--reasoning-parser", "--tool-call-parser"} & set(gateway.arguments)
    told = make_plan(
        config(checkpoint, reasoning_parser="none", tool_call_parser="kimi_k2"), ENDPOINTS
    ).children[-1]
    assert value(told, "--reasoning-parser") == "none"
    assert value(told, "--tool-call-parser") == "kimi_k2"


def test_a_model_profile_is_passed_on_to_the_gateway_only_if_it_was_named(checkpoint):
    gateway = make_plan(config(checkpoint), ENDPOINTS).children[-1]
    assert "--model-profile" not in gateway.arguments
    *workers, gateway = make_plan(config(checkpoint, model_profile="k2.6"), ENDPOINTS).children
    assert value(gateway, "--model-profile") == "k2.6"
    assert not any("--model-profile" in worker.arguments for worker in workers)


def test_an_unknown_model_profile_is_refused_before_anything_starts(checkpoint):
    with pytest.raises(ConfigError, match=r"model_profile: 'k3' is not one of k2\.5, k2\.6, k2\.7-code"):
        make_plan(config(checkpoint, model_profile="k3"), ENDPOINTS)


def test_a_context_length_is_passed_on_to_the_workers_of_text(checkpoint):
    vision, prefill, decode, gateway = make_plan(config(checkpoint, context_length=4096), ENDPOINTS).children
    assert value(prefill, "--context-length") == value(decode, "--context-length") == "4096"
    assert "--context-length" not in (*vision.arguments, *gateway.arguments)
    for child in make_plan(config(checkpoint), ENDPOINTS).children:
        assert "--context-length" not in child.arguments


@pytest.mark.parametrize("key", ["reasoning_parser", "tool_call_parser"])
def test_an_unknown_parser_is_refused_before_anything_starts(checkpoint, key):
    with pytest.raises(ConfigError, match=f"{key}: 'qwen' is not one of kimi_k2, none"):
        config(checkpoint, **{key: "qwen"})


def test_a_settings_file_is_handed_to_every_child(checkpoint):
    for child in make_plan(config(checkpoint), ENDPOINTS, "perigee.toml").children:
        assert value(child, "--config") == "perigee.toml"


def test_a_directory_without_a_checkpoint_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ConfigError, match="is not a checkpoint directory"):
        make_plan(config(tmp_path), ENDPOINTS)


def test_another_architecture_is_refused_before_anything_starts(checkpoint):
    (checkpoint / "config.json").write_text(K3)
    with pytest.raises(CheckpointError, match=r"'kimi_k3' \(KimiK3.*\); served: kimi_k25$"):
        make_plan(config(checkpoint), ENDPOINTS)


def test_children_run_the_same_interpreter(checkpoint):
    for child in make_plan(config(checkpoint), ENDPOINTS).children:
        assert child.command()[:4] == [sys.executable, "-m", "services.cli.main", child.role]


def test_threads_of_several_processes_do_not_spin_unless_asked_to():
    assert child_environment({"PATH": "x"})["OMP_WAIT_POLICY"] == "passive"
    assert child_environment({"OMP_NUM_THREADS": "4"})["OMP_NUM_THREADS"] == "4"


def test_pages_are_offered_on_loopback_alone_unless_the_user_tells_ucx_otherwise():
    assert child_environment({})["UCX_NET_DEVICES"] == "lo"
    assert child_environment({"UCX_LOG_LEVEL": "info"})["UCX_NET_DEVICES"] == "lo"
    assert child_environment({"UCX_NET_DEVICES": "mlx5_0:1"})["UCX_NET_DEVICES"] == "mlx5_0:1"
    assert "UCX_NET_DEVICES" not in child_environment({"UCX_TLS": "rc,cuda"})


@pytest.mark.parametrize("changes", [{"http_port": 65536}, {"port_base": 65534}, {"stop_timeout_seconds": 0}])
def test_impossible_settings_are_named(changes):
    (key,) = changes
    with pytest.raises(ConfigError, match=key):
        RunConfig(**changes)
