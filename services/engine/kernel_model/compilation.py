"""When Triton compiles a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from triton import knobs


def before_compilation(call: Callable[[], None]) -> None:
    """Has Triton call `call` from now on before it compiles a kernel, or loads one compiled before, on the
    thread that launches it. Replaces the function set before.
    """

    def hook(**_: Any) -> bool:
        call()
        return False  # to go on

    knobs.runtime.jit_cache_hook = hook
