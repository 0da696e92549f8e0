"""A GPU that holds a worker's pool."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.engine.kv_transfer.agents.pool_device import DeviceBytes


class Gpu:
    """A PoolDevice."""

    memory_type = "VRAM"

    def __init__(self, device_id: int) -> None:
        """`device_id`: as PyTorch numbers them."""
        self.device_id = device_id
        self._device = torch.device("cuda", device_id)

    def bind(self) -> None:
        """See PoolDevice. The thread gets a stream of its own, too: on that of the engine, what it does would
        wait for a whole pass.
        """
        torch.cuda.set_device(self._device)
        stream = torch.cuda.Stream(self._device)
        torch.cuda.set_stream(stream)
        stream.synchronize()  # a call that cannot do without a context

    def place(self, values: npt.NDArray[np.uint8]) -> DeviceBytes:
        """See PoolDevice."""
        placed = GpuBytes(torch.from_numpy(values).to(self._device))
        torch.cuda.current_stream(self._device).synchronize()
        return placed


class GpuBytes:
    """A tensor of uint8 on a GPU."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    @property
    def address(self) -> int:
        """See DeviceBytes."""
        return self._values.data_ptr()

    def clear(self) -> None:
        """See DeviceBytes. Waits, because a READ into it would not."""
        self._values.zero_()
        torch.cuda.current_stream(self._values.device).synchronize()

    def read(self) -> npt.NDArray[np.uint8]:
        """See DeviceBytes."""
        values: npt.NDArray[np.uint8] = self._values.cpu().numpy()
        return values
