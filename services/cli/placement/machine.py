"""The GPUs of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import ConfigError

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
_ASK = (
    "import json, torch\n"
    "cuda = torch.cuda\n"
    "print(json.dumps([cuda.get_device_properties(i).total_memory for i in range(cuda.device_count())]))"
)
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Machine:
    """`gpu_bytes`: the memory of each GPU, by PyTorch's numbers; empty if there is none."""

    gpu_bytes: tuple[int, ...] = ()

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return len(self.gpu_bytes)


def this_machine() -> Machine:
    """Asks PyTorch, in a process that ends: this one must neither load it nor take memory of a GPU.

    Raises ConfigError if there is a GPU's driver, and PyTorch does not answer.
    """
    if not any(Path(driver).exists() for driver in _DRIVERS):
        return Machine()
    command = [sys.executable, "-c", _ASK]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=True)
        return Machine(tuple(json.loads(answer.stdout)))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"device: PyTorch does not say which GPUs this machine has ({error}); name them, e.g."
            " PERIGEE_DEVICE=cpu"
        ) from error
