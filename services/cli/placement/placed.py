"""Where a suite's workers compute, and what else is left to the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from services.cli.placement.devices import CPU, Devices, divide_with_vision, suits_one_group
from services.cli.placement.machine import Machine
from services.cli.placement.patience import start_patience
from services.cli.roles import config_class
from services.cli.run_config import RunConfig
from services.cli.settings_source import Sources
from services.common.errors import ConfigError
from services.common.rpc.role import Role
from services.common.setting_ranges import AUTO
from services.common.settings import build
from services.engine.loading.memory_plan import MemoryPlan, does_not_fit, host_bytes, physical_bytes, planned
from services.engine.loading.workspace import vision_bytes
from services.engine.model.architectures import load_config

TEXT_ROLES: tuple[Role, ...] = ("prefill", "decode")


@dataclass(frozen=True)
class _Wishes:
    """See Wishes."""

    device: str = AUTO
    tp: int = 1


@dataclass(frozen=True)
class Placement:
    """A worker's settings, its devices, and for a text worker on GPUs the memory plan of each.

    `more`: arguments for its command line beside the device.
    """

    settings: Any
    devices: Devices
    memory: MemoryPlan | None = None
    more: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the worker's command line says about it."""
        return ("--device", self.devices.setting, *self.more)


def settled(config: RunConfig, sources: Sources, machine: Callable[[], Machine]) -> RunConfig:
    """Returns the settings without what they leave to the machine: `aggregated`, `start_timeout_seconds`."""
    if config.start_timeout_seconds == AUTO:
        config = replace(config, start_timeout_seconds=start_patience(Path(config.model)))
    if config.aggregated is None:
        flags = {"tp": config.tp} if config.tp > 1 else {}
        wishes = [_wishes(role, flags, sources) for role in TEXT_ROLES]
        on_cpu = all(wish.device == CPU for wish in wishes)
        config = replace(config, aggregated=not on_cpu and suits_one_group(wishes[0], wishes[1], machine()))
    return config


def place(workers: Mapping[Role, Any], model: Path, machine: Callable[[], Machine]) -> dict[Role, Placement]:
    """Chooses the devices of a suite's workers, given by their settings; `model`: the checkpoint.

    `machine` is asked unless all compute on the CPU. Raises ConfigError as `divide` does, and if the model
    does not fit on the devices.
    """
    found = Machine() if all(worker.device == CPU for worker in workers.values()) else machine()
    text = {role: worker for role, worker in workers.items() if role in TEXT_ROLES}
    vision, given = divide_with_vision(workers["vision"].device, text, found)
    placements: dict[Role, Placement] = {"vision": Placement(workers["vision"], vision)}
    for role, devices in given.items():
        worker = text[role]
        more: tuple[str, ...] = ()
        if vision.count and vision.first in devices.numbers and not worker.reserved_gb:
            guest = f"{vision_bytes(load_config(model)) / 1e9:.1f}"
            worker, more = replace(worker, reserved_gb=float(guest)), ("--reserved-gb", guest)
        memory = _memory(model, role, worker, devices, found)
        placements[role] = Placement(worker, devices, memory, more)
    _check_host(model, placements)
    return placements


def _wishes(role: Role, flags: Mapping[str, object], sources: Sources) -> _Wishes:
    """What a role's settings say about devices. The others cannot be resolved before there is a plan."""
    given = sources.given(config_class(role), role, flags)
    return build(_Wishes, {each.name: given[each.name] for each in fields(_Wishes) if each.name in given})


def _check_host(model: Path, placements: Mapping[Role, Placement]) -> None:
    """Raises ConfigError if the weights of the workers on the CPU exceed the machine's memory."""
    on_cpu = [role for role in TEXT_ROLES if role in placements and not placements[role].devices.count]
    if not on_cpu:
        return
    model_config = load_config(model)
    needed = sum(host_bytes(model_config, placements[role].settings.dtype, None).weights for role in on_cpu)
    if needed > (memory := physical_bytes()):
        raise ConfigError(
            f"device: the weights of {' and '.join(on_cpu)} take {needed / 1e9:,.1f} GB on a CPU; this"
            f" machine has {memory / 1e9:,.1f} GB of memory, and no GPU is chosen"
        )


def _memory(model: Path, role: Role, worker: Any, devices: Devices, machine: Machine) -> MemoryPlan | None:
    if not devices.count:
        return None
    memory = min(machine.gpu_bytes[number] for number in devices.numbers)
    others = int(worker.reserved_gb * 1e9)
    plan = planned(load_config(model), worker.shape_on("cuda"), memory, others)
    if plan.pages < 1:
        raise ConfigError(f"device: {role} on {devices}: {does_not_fit(plan)}")
    return plan
