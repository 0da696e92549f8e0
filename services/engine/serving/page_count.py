"""Chooses the number of KV pages of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog
import torch

from services.common.errors import ConfigError
from services.common.setting_ranges import AUTO, AutoCount
from services.engine.loading.gpu_memory import usable_bytes
from services.engine.loading.memory_plan import does_not_fit, host_bytes, physical_bytes, planned
from services.engine.loading.page_memory import check_pages
from services.engine.loading.worker_shape import WorkerShape
from services.engine.model.config.model_config import ModelConfig

log = structlog.get_logger()


class PageSettings(Protocol):
    """The settings that decide about the number of pages."""

    @property
    def kv_pages(self) -> AutoCount: ...
    @property
    def reserved_gb(self) -> float: ...
    @property
    def cpu_pages(self) -> int: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def kv_format(self) -> str | None: ...
    def shape_on(self, device: str) -> WorkerShape: ...


def page_count(
    settings: PageSettings,
    config: ModelConfig,
    device: torch.device,
    usable: Callable[[torch.device, int], int] = usable_bytes,
) -> int:
    """The pages to allocate, on every GPU of a group: as set, or what fits. `usable`: as `usable_bytes`.

    Raises ConfigError, with the amounts, if the model or as many pages do not fit on the GPUs, or as many
    pages not into the memory of a machine without.
    """
    asked = settings.kv_pages
    if device.type == "cpu":
        if asked == AUTO:
            return settings.cpu_pages
        page_bytes = host_bytes(config, settings.dtype, settings.kv_format).page
        check_pages("kv_pages", asked, page_bytes, physical_bytes())
        return asked
    shape = settings.shape_on(device.type)
    plan = planned(config, shape, usable(device, shape.rank.count), int(settings.reserved_gb * 1e9))
    log.info("memory of each GPU", plan=plan.lines()[1:])
    if plan.pages < 1:
        raise ConfigError(f"device: {does_not_fit(plan)}")
    most = (plan.room + plan.reserve) // plan.page_bytes
    if asked != AUTO and asked > most:
        raise ConfigError(
            f"kv_pages: {asked:,} pages are asked for; at most {most:,} fit on a GPU, and auto takes"
            f" {plan.pages:,}"
        )
    return plan.pages if asked == AUTO else asked
