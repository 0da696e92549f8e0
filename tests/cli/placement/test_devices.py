"""No GPU is taken twice."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.cli.placement.devices import divide, divide_with_vision, suits_one_group
from services.cli.placement.machine import Machine
from services.common.errors import ConfigError


@dataclass(frozen=True)
class Worker:
    tp: int = 8
    device: str = "auto"


def machine(gpus):
    return Machine((141_000_000_000,) * gpus)


def devices_of(gpus, **workers):
    return {role: str(devices) for role, devices in divide(workers, machine(gpus)).items()}


def test_without_a_gpu_all_compute_on_the_cpu():
    assert devices_of(0, prefill=Worker(), decode=Worker()) == {"prefill": "cpu", "decode": "cpu"}


@pytest.mark.parametrize(
    ("gpus", "tp", "prefill", "decode"),
    [
        (16, 8, "cuda:0 to cuda:7", "cuda:8 to cuda:15"),
        (8, 4, "cuda:0 to cuda:3", "cuda:4 to cuda:7"),
        (2, 1, "cuda:0", "cuda:1"),
    ],
)
def test_prefill_and_decode_divide_the_gpus(gpus, tp, prefill, decode):
    assert devices_of(gpus, prefill=Worker(tp), decode=Worker(tp)) == {"prefill": prefill, "decode": decode}


def test_groups_of_different_size_lie_side_by_side():
    found = devices_of(8, prefill=Worker(2), decode=Worker(4))
    assert found == {"prefill": "cuda:0 to cuda:1", "decode": "cuda:2 to cuda:5"}


def test_an_aggregated_worker_has_the_node_to_itself():
    assert devices_of(8, decode=Worker(8)) == {"decode": "cuda:0 to cuda:7"}


def test_what_a_worker_names_is_kept_and_the_other_goes_around_it():
    found = devices_of(8, prefill=Worker(2), decode=Worker(2, "cuda:1"))
    assert found == {"prefill": "cuda:3 to cuda:4", "decode": "cuda:1 to cuda:2"}
    found = devices_of(8, prefill=Worker(4), decode=Worker(4, "cuda"))
    assert found == {"prefill": "cuda:4 to cuda:7", "decode": "cuda:0 to cuda:3"}
    assert devices_of(8, prefill=Worker(1, "cpu"), decode=Worker(8))["prefill"] == "cpu"


def test_two_workers_that_name_the_same_gpus_are_refused():
    with pytest.raises(ConfigError, match="prefill takes cuda:0 to cuda:7 and decode cuda:0 to cuda:7: name"):
        devices_of(8, prefill=Worker(8, "cuda:0"), decode=Worker(8, "cuda:0"))


def test_gpus_that_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match="decode takes cuda:1 to cuda:8; this machine has 8 GPUs"):
        devices_of(8, decode=Worker(8, "cuda:1"))
    with pytest.raises(ConfigError, match="'cuda:x' of decode is not a device"):
        devices_of(8, decode=Worker(8, "cuda:x"))


def test_too_few_gpus_are_refused_with_what_would_do():
    sentence = "prefill needs 8 and decode needs 8 GPUs in a row, this machine has 8: .*--aggregated"
    with pytest.raises(ConfigError, match=sentence):
        devices_of(8, prefill=Worker(), decode=Worker())


@pytest.mark.parametrize(
    ("gpus", "tp", "suits"), [(0, 8, False), (4, 8, False), (8, 8, True), (1, 1, True), (16, 8, False)]
)
def test_a_suite_is_better_aggregated_where_gpus_suffice_for_decode_alone(gpus, tp, suits):
    assert suits_one_group(Worker(tp), Worker(tp), machine(gpus)) is suits


def test_that_is_not_decided_for_workers_that_name_their_devices():
    assert not suits_one_group(Worker(8), Worker(8, "cuda:0"), machine(8))


@pytest.mark.parametrize(
    ("gpus", "vision", "device"),
    [
        (0, "auto", "cpu"),
        (9, "auto", "cuda:8"),
        (8, "auto", "cuda:7"),
        (8, "cpu", "cpu"),
        (8, "cuda:3", "cuda:3"),
    ],
)
def test_vision_takes_a_gpu_of_its_own_or_the_last_one_of_a_worker(gpus, vision, device):
    found, _ = divide_with_vision(vision, {"decode": Worker(8)}, machine(gpus))
    assert str(found) == device
