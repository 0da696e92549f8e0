"""The device that holds a worker's pool, as the transfer thread uses it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class DeviceBytes(Protocol):
    """Some memory of a device. When a method returns, the device has done what it says."""

    @property
    def address(self) -> int:
        """Its first byte's address."""

    def clear(self) -> None:
        """Fills it with zeros."""

    def read(self) -> npt.NDArray[np.uint8]:
        """Its bytes as they are now, on the host."""


class PoolDevice(Protocol):
    """The host, or a GPU. `memory_type` and `device_id` are as in Region."""

    memory_type: str
    device_id: int

    def bind(self) -> None:
        """Gives the calling thread a CUDA context, if this is a GPU: a new thread has none, and UCX's calls
        for device memory need it. Every thread that calls NIXL calls this first.
        """

    def place(self, values: npt.NDArray[np.uint8]) -> DeviceBytes:
        """Allocates memory that holds `values`."""


class Host:
    """Host memory."""

    memory_type = "DRAM"
    device_id = 0

    def bind(self) -> None:
        """See PoolDevice."""

    def place(self, values: npt.NDArray[np.uint8]) -> DeviceBytes:
        """See PoolDevice; it is `values` itself."""
        return HostBytes(values)


class HostBytes:
    """An array of uint8."""

    def __init__(self, values: npt.NDArray[np.uint8]) -> None:
        self._values = values

    @property
    def address(self) -> int:
        """See DeviceBytes."""
        return int(self._values.ctypes.data)

    def clear(self) -> None:
        """See DeviceBytes."""
        self._values.fill(0)

    def read(self) -> npt.NDArray[np.uint8]:
        """See DeviceBytes."""
        return self._values
