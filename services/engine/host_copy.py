"""Small copies between a host and its GPU that nobody waits for, and the one way to wait."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Sequence[float], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A copy there."""
    if torch.device(device).type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; itself where it is there already."""
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """A copy that is complete once a DeviceEvent recorded later has come; for a CPU the tensor itself."""
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


class DeviceEvent:
    """The end of all that was enqueued on a device so far. On a CPU it has come already."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Returns when it has come."""
        if self._event is not None:
            self._event.synchronize()
