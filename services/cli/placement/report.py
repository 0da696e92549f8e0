"""What `perigee run --dry-run` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.cli.placement.patience import BASE_S, LEAST_BYTES_PER_S, checkpoint_bytes
from services.cli.placement.placed import Placement
from services.cli.run_config import RunConfig
from services.common.page_hash import PAGE_TOKENS
from services.common.rpc.role import Role
from services.common.setting_ranges import AUTO
from services.engine.loading.memory_plan import host_bytes
from services.engine.loading.workspace import vision_bytes
from services.engine.model.architectures import load_config

_PORTS = ("http-port", "grpc-port", "operator-port", "port", "metrics-port")


def report(
    name: str,
    arguments: Mapping[Role, Sequence[str]],
    placements: Mapping[Role, Placement],
    config: RunConfig,
    asked: RunConfig,
) -> list[str]:
    """The lines, one role after the other. `name`: the model's; `arguments`: of the processes' command lines;
    `asked`: the settings as given, `config`: as settled.
    """
    directory = Path(config.model)
    shards, nbytes = checkpoint_bytes(directory)
    lines = [f"{name}: {nbytes / 1e9:,.1f} GB in {shards} shards of {directory}"]
    if asked.aggregated is None and config.aggregated:
        lines.append("aggregated: the GPUs suffice for one worker; decode computes prompts itself")
    for role, words in arguments.items():
        lines.append(f"  {role}")
        lines.append(f"    {'ports':<9}{_ports(words)}")
        if role in placements:
            lines += _where(placements[role], directory)
    lines.append(f"each may take {float(config.start_timeout_seconds):,.0f} s to start{_why(nbytes, asked)}")
    lines.append("nothing was started")
    return lines


def _ports(words: Sequence[str]) -> str:
    found = [(name, words[words.index(f"--{name}") + 1]) for name in _PORTS if f"--{name}" in words]
    return ", ".join(
        f"{name.removesuffix('-port').removesuffix('port') or 'gRPC'} {port}" for name, port in found
    )


def _where(placement: Placement, directory: Path) -> list[str]:
    worker, memory = placement.settings, placement.memory
    if not hasattr(worker, "tp"):
        return [f"    {'device':<9}{placement.devices}", f"    {'memory':<9}{_vision(placement, directory)}"]
    if memory is None:
        pages = worker.cpu_pages if worker.kv_pages == AUTO else worker.kv_pages
        weights, page_bytes = host_bytes(load_config(directory), worker.dtype, worker.kv_format)
        amounts = f"weights {weights / 1e9:,.1f} GB, pages {pages * page_bytes / 1e9:,.1f} GB"
    else:
        pages = memory.pages if worker.kv_pages == AUTO else worker.kv_pages
        computing = memory.needed - memory.weights
        amounts = (
            f"{memory.memory / 1e9:,.1f} GB on each: weights {memory.weights / 1e9:,.1f} GB, computing"
            f" {computing / 1e9:,.1f} GB, pages {pages * memory.page_bytes / 1e9:,.1f} GB"
        )
    chosen = ", by auto" if worker.kv_pages == AUTO else ""
    return [
        f"    {'device':<9}{placement.devices}, {worker.tp} processes"
        if worker.tp > 1
        else f"    {'device':<9}{placement.devices}",
        f"    {'memory':<9}{amounts}",
        f"    {'KV pages':<9}{pages:,}{chosen}: {pages * PAGE_TOKENS:,} tokens",
    ]


def _vision(placement: Placement, directory: Path) -> str:
    nbytes = vision_bytes(load_config(directory)) * (1 if placement.devices.count else 2)
    return f"{nbytes / 1e9:,.1f} GB: weights, embeddings, the largest batch"


def _why(nbytes: int, asked: RunConfig) -> str:
    if asked.start_timeout_seconds != AUTO:
        return ""
    return f": {BASE_S:.0f} s, and {nbytes / 1e9:,.1f} GB at {LEAST_BYTES_PER_S / 1e9:g} GB/s at least"
