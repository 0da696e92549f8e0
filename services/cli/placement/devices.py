"""Divides the GPUs of a machine between the roles of a suite: none is taken twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from services.cli.placement.machine import Machine
from services.common.errors import ConfigError
from services.common.rpc.role import Role
from services.common.setting_ranges import AUTO

CPU = "cpu"
_CUDA = "cuda"


class Wishes(Protocol):
    """What a prefill or decode worker's settings say about devices."""

    @property
    def device(self) -> str: ...
    @property
    def tp(self) -> int: ...


@dataclass(frozen=True)
class _Vision:
    """A vision worker, which is one process."""

    device: str
    tp: int = 1


@dataclass(frozen=True)
class Devices:
    """`count` GPUs from number `first` on, one for each process of a worker; `count` 0: the CPU."""

    first: int = 0
    count: int = 0

    @property
    def setting(self) -> str:
        """The worker's setting `device`."""
        return f"{_CUDA}:{self.first}" if self.count else CPU

    @property
    def numbers(self) -> range:
        """The GPUs' numbers."""
        return range(self.first, self.first + self.count)

    def __str__(self) -> str:
        """E.g. cuda:0 to cuda:7."""
        return f"{self.setting} to {_CUDA}:{self.numbers[-1]}" if self.count > 1 else self.setting


def divide(workers: Mapping[Role, Wishes], machine: Machine) -> dict[Role, Devices]:
    """Gives every worker the devices that it names, or, if it leaves that to the machine, the first GPUs in a
    row that are left; the CPU if there is no GPU.

    Raises ConfigError for GPUs that do not exist, that two workers name, or that are too few.
    """
    named = {role: worker for role, worker in workers.items() if worker.device != AUTO}
    chosen = {role: _named(role, worker, machine) for role, worker in named.items()}
    taken = _taken(chosen)
    for role, worker in workers.items():
        if worker.device == AUTO:
            chosen[role] = _first_left(worker.tp, taken, machine) if machine.gpus else Devices()
            if machine.gpus and not chosen[role].count:
                raise ConfigError(_too_few(workers, machine))
            taken |= set(chosen[role].numbers)
    return {role: chosen[role] for role in workers}


def divide_with_vision(
    vision: str, workers: Mapping[Role, Wishes], machine: Machine
) -> tuple[Devices, dict[Role, Devices]]:
    """As `divide`, also for a vision worker with the setting `vision`. Left to the machine, it takes a GPU
    that nobody has, else the last one of the first worker, which must leave room for it.
    """
    devices = divide(workers, machine)
    if vision != AUTO:
        return _named("vision", _Vision(vision), machine), devices
    taken = {number for given in devices.values() for number in given.numbers}
    left = _first_left(1, taken, machine)
    if left.count or not taken:
        return left, devices
    host = next(given for given in devices.values() if given.count)
    return Devices(host.numbers[-1], 1), devices


def suits_one_group(prefill: Wishes, decode: Wishes, machine: Machine) -> bool:
    """Whether the GPUs suffice for decode alone and not for both, where neither names any: then the suite is
    better aggregated.
    """
    unnamed = prefill.device == decode.device == AUTO
    return unnamed and decode.tp <= machine.gpus < prefill.tp + decode.tp


def _named(role: Role, worker: Wishes, machine: Machine) -> Devices:
    kind, _, number = worker.device.partition(":")
    if kind != _CUDA:
        return Devices()
    if not number.isdigit() and number:
        raise ConfigError(f"device: {worker.device!r} of {role} is not a device; try auto, cpu or cuda:0")
    devices = Devices(int(number or 0), worker.tp)
    if devices.numbers[-1] >= machine.gpus:
        raise ConfigError(f"device: {role} takes {devices}; this machine has {machine.gpus} GPUs")
    return devices


def _taken(chosen: Mapping[Role, Devices]) -> set[int]:
    taken: dict[int, Role] = {}
    for role, devices in chosen.items():
        for number in devices.numbers:
            if number in taken:
                other = taken[number]
                raise ConfigError(
                    f"device: {other} takes {chosen[other]} and {role} {devices}: name others, or leave"
                    " device to the machine (auto)"
                )
            taken[number] = role
    return set(taken)


def _first_left(count: int, taken: set[int], machine: Machine) -> Devices:
    for first in range(machine.gpus - count + 1):
        if taken.isdisjoint(range(first, first + count)):
            return Devices(first, count)
    return Devices()


def _too_few(workers: Mapping[Role, Wishes], machine: Machine) -> str:
    needs = " and ".join(f"{role} needs {worker.tp}" for role, worker in workers.items())
    return (
        f"device: {needs} GPUs in a row, this machine has {machine.gpus}: take a smaller tp, --aggregated"
        " (decode alone), or a machine for each role"
    )
