"""Small copies between host and GPU that do not block, and the event to wait for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Sequence[float], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A tensor of `values` on `device`; a copy to a GPU does not block."""
    if torch.device(device).type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`: itself if it is there already, else a copy that does not block."""
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """Starts a copy to the host, complete after `wait` on a later DeviceEvent; returns a CPU tensor
    as it is.
    """
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


class DeviceEvent:
    """Marks the end of all work enqueued on a device so far. On a CPU that work is done already."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Blocks until the device has done that work."""
        if self._event is not None:
            self._event.synchronize()
