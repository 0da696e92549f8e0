"""Small copies between host and GPU that do not block, and the event to wait for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

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


class Staging:
    """Copies tensors of any size to a device through pinned memory, in pieces, while the next piece is read.

    For any threads; each has two buffers of its own, which last as long as both it and this object.
    """

    def __init__(self, device: torch.device, nbytes: int = 32 << 20) -> None:
        """`nbytes`: of a buffer; a row of a tensor (along its first dimension) must fit."""
        self._device = device
        self._nbytes = nbytes
        self._own = threading.local()

    def copy(self, source: Tensor, dtype: torch.dtype) -> Tensor:
        """A copy in `dtype` on the device, complete for what is enqueued there after this call."""
        target = torch.empty(source.shape, dtype=dtype, device=self._device)
        slots = self._slots()
        rows = max(1, self._nbytes // max(1, source[:1].numel() * dtype.itemsize))
        for piece, place in zip(source.split(rows), target.split(rows), strict=True):
            slots.reverse()
            slot = slots[0]
            slot.copied.wait()
            staged = slot.buffer[: piece.numel() * dtype.itemsize].view(dtype).view(piece.shape)
            place.copy_(staged.copy_(piece), non_blocking=True)
            slot.copied = DeviceEvent(self._device)
        return target

    def _slots(self) -> list[_Slot]:
        if not hasattr(self._own, "slots"):
            pinned = self._device.type == "cuda"
            if pinned:
                torch.cuda.set_device(self._device)  # or this thread would begin to use the first GPU
            self._own.slots = [
                _Slot(
                    torch.empty(self._nbytes, dtype=torch.uint8, pin_memory=pinned), DeviceEvent(self._device)
                )
                for _ in range(2)
            ]
        slots: list[_Slot] = self._own.slots
        return slots


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


@dataclass
class _Slot:
    """`copied`: when the device has read the buffer."""

    buffer: Tensor
    copied: DeviceEvent
