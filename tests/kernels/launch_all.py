"""Launches the kernels of some cases as a worker on a GPU does, with a double in place of NVIDIA's driver.

Run as a program, also within a container image, with a capability (90) and a word of the cases' names ("" for
all): prints as JSON what was compiled, loaded and launched. The double must be found as libcuda.so.1.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
import triton
from structlog.testing import capture_logs

from kernels.machine_code.cases import cases
from kernels.machine_code.launch_recorder import gpu
from services.engine.kernel_model.kernel_cache import open_kernel_cache, reach_driver


def main(capability: int, word: str) -> None:
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.cuda.is_available", return_value=True))
        stack.enter_context(mock.patch("torch.cuda.current_device", return_value=0))
        stack.enter_context(gpu(capability))
        logs = stack.enter_context(capture_logs())
        open_kernel_cache()
        reach_driver()
        triton.runtime.driver.active.get_current_stream = lambda device: 0
        chosen = [case for case in cases() if word in case.name]
        for case in chosen:
            case.call()
    driver = ctypes.CDLL("libcuda.so.1")
    found = {
        "compiler": shutil.which("gcc") or shutil.which("clang") or os.environ.get("CC"),
        "home_can_be_written": os.access(Path.home(), os.W_OK),
        "cache": os.environ["TRITON_CACHE_DIR"],
        "cases": len(chosen),
        "compiled": [log["kernel"] for log in logs if log["event"] == "compiled a kernel"],
        "loaded": driver.double_loads(),
        "launched": driver.double_launches(),
        "torch": torch.__version__,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
