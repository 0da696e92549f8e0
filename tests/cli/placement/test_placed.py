"""What `perigee run` decides by the machine, and what --dry-run says about it."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest

from services.cli.placement import placed as placed_module
from services.cli.placement.machine import Machine, this_machine
from services.cli.placement.patience import start_patience
from services.cli.placement.placed import settled
from services.cli.run.command import dry_lines, placed_plan
from services.cli.run.role_settings import resolved_role
from services.cli.run_config import RunConfig
from services.cli.settings_source import Sources
from services.common.errors import ConfigError
from services.engine.weights.headers import INDEX_NAME
from tests.support.endpoints import ENDPOINTS
from tests.support.published_model import published_values

FREE = {"http_port": 0, "grpc_port": 0, "operator_port": 0, "port_base": 0, "metrics_port_base": 0}
SHARDS = 64
BYTES = 595_200_000_000
PLANNED = cache(placed_module.planned)


@pytest.fixture
def checkpoint(tmp_path):
    """The published configuration, and sparse files of its size."""
    path = tmp_path / "kimi-k2.5"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(published_values()))
    names = [f"model-{number:05}.safetensors" for number in range(SHARDS)]
    for name in names:
        with (path / name).open("wb") as file:
            file.truncate(BYTES // SHARDS)
    (path / INDEX_NAME).write_text(json.dumps({"weight_map": {name: name for name in names}}))
    return path


@pytest.fixture(autouse=True)
def planned_once(monkeypatch):
    """Each plan takes a second: it counts 208,550 tensors."""
    monkeypatch.setattr(placed_module, "planned", PLANNED)


@pytest.fixture
def children(checkpoint):
    """Each role's settings as they start, and the plan, on a machine of so many GPUs."""

    def find(gpus, gigabytes=141, env=None, **changes):
        def machine():
            return Machine((gigabytes * 10**9,) * gpus)

        config = settled(RunConfig(model=str(checkpoint), **FREE, **changes), Sources(env or {}), machine)
        plan, _ = placed_plan(config, ENDPOINTS, Sources(env or {}), machine)
        return {child.role: resolved_role(child, config, Sources(env or {})) for child in plan.children}

    return find


def test_the_command_of_the_cookbook_runs_aggregated_on_a_node_of_eight_gpus(children):
    found = children(8, tp=8)
    assert "prefill" not in found
    assert (found["decode"].device, found["decode"].aggregated) == ("cuda:0", True)
    assert found["vision"].device == "cuda:7"
    assert found["decode"].reserved_gb > 1


def test_on_sixteen_gpus_prefill_and_decode_have_eight_each(children):
    found = children(16, tp=8)
    assert (found["prefill"].device, found["decode"].device) == ("cuda:0", "cuda:8")
    assert not found["decode"].aggregated


def test_what_was_asked_for_is_not_changed(children):
    with pytest.raises(ConfigError, match="prefill needs 8 and decode needs 8 GPUs"):
        children(8, tp=8, aggregated=False)
    assert "prefill" not in children(16, tp=8, aggregated=True)
    assert children(16, tp=8, env={"PERIGEE_RESERVED_GB": "20"})["decode"].reserved_gb == 20


def test_a_device_that_all_roles_are_told_is_taken_by_one_of_them_only(children):
    env = {"PERIGEE_DEVICE": "cuda:0"}
    with pytest.raises(ConfigError, match="prefill takes cuda:0 to cuda:7 and decode cuda:0 to cuda:7"):
        children(16, tp=8, env=env)
    assert children(8, tp=8, aggregated=True, env=env)["decode"].device == "cuda:0"
    assert children(16, tp=8, env={"PERIGEE_DEVICE": "auto"})["decode"].device == "cuda:8"


def test_a_checkpoint_too_large_for_the_gpus_is_refused_before_anything_starts(children):
    with pytest.raises(
        ConfigError, match=r"decode on cuda:0 to cuda:7: the model does not fit: each of 8 GPUs"
    ):
        children(8, gigabytes=80, tp=8)


def test_a_checkpoint_too_large_for_the_machine_is_refused_before_anything_starts(children, monkeypatch):
    monkeypatch.setattr(placed_module, "physical_bytes", lambda: 24 * 10**9)
    with pytest.raises(
        ConfigError, match=r"weights of prefill and decode take 8,2\d\d\.\d GB .* has 24\.0 GB"
    ):
        children(0, tp=8)
    with pytest.raises(ConfigError, match=r"weights of prefill and decode take 4,1\d\d\.\d GB"):
        children(0, env={"PERIGEE_DTYPE": "bfloat16"})


def test_a_start_is_waited_for_as_long_as_reading_the_checkpoint_may_take(checkpoint, nano_dir):
    assert start_patience(checkpoint) == pytest.approx(300 + 2976)
    assert start_patience(nano_dir) == pytest.approx(300, abs=1)
    config = settled(RunConfig(model=str(checkpoint), start_timeout_seconds=5.0), Sources({}), Machine)
    assert config.start_timeout_seconds == 5.0


def test_a_dry_run_says_what_would_start_where_and_starts_nothing(checkpoint, tmp_path):
    config = RunConfig(model=str(checkpoint), tp=8, run_dir=tmp_path / "run", **FREE)
    text = "\n".join(dry_lines(config, Sources({}), lambda: Machine((141 * 10**9,) * 8)))
    for expected in (
        "kimi-k2.5: 595.2 GB in 64 shards",
        "aggregated: the GPUs suffice for one worker",
        "device   cuda:7",
        "device   cuda:0 to cuda:7, 8 processes",
        "memory   141.0 GB on each: weights 76.2 GB",
        "each may take 3,276 s to start: 300 s, and 595.2 GB at 0.2 GB/s at least",
        "nothing was started",
    ):
        assert expected in text
    assert re.search(r"KV pages \d+,\d+, by auto: \d+,\d+ tokens", text)
    assert re.search(r"ports    http \d+, grpc \d+, operator \d+", text)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_plans_the_pages_that_a_number_asks_for(checkpoint):
    config = RunConfig(model=str(checkpoint), tp=8, **FREE)
    lines = dry_lines(config, Sources({"PERIGEE_KV_PAGES": "64"}), lambda: Machine((141 * 10**9,) * 16))
    assert [line.strip() for line in lines].count("KV pages 64: 4,096 tokens") == 2


def test_a_machine_without_a_driver_has_no_gpu_and_pytorch_is_not_asked():
    assert this_machine() == Machine()
