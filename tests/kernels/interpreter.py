"""Runs kernels on CPU tensors, in a process of their own whose triton is the interpreter.

Whether `@triton.jit` makes an interpreted or a compiled function is settled when triton is imported. So the
test process compiles, and this child interprets.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from unittest.mock import patch

_CALL_TIMEOUT_S = 240
# A second thread gains nothing on small tiles, and spins beside whatever else runs.
_ENVIRONMENT = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Interpreter:
    """One child process; calls run there one after another. If one kills it, the next gets a new child."""

    def __init__(self) -> None:
        self._pool = _start()

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)` there: a module's function. Tensors travel as copies."""
        # Pickled here: the pool's own pickling would put every tensor into shared memory.
        call = pickle.dumps((function, args, kwargs))
        with patch.dict(os.environ, _ENVIRONMENT):  # the child starts with the first call
            future = self._pool.submit(_run, call)
        try:
            return pickle.loads(future.result(timeout=_CALL_TIMEOUT_S))
        except BrokenProcessPool:
            self.close()
            self._pool = _start()
            raise

    def close(self) -> None:
        """Ends the child, whatever it does: gloo's threads may outlive a call, and wait for each other."""
        for child in list((self._pool._processes or {}).values()):
            child.kill()
        self._pool.shutdown()


def _start() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_check_interpreting)


def _check_interpreting() -> None:
    import triton

    if not triton.knobs.runtime.interpret:
        raise RuntimeError("triton is not interpreting in the child")


def _run(call: bytes) -> bytes:
    function, args, kwargs = pickle.loads(call)
    return pickle.dumps(function(*args, **kwargs))
