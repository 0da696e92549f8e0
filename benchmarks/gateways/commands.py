"""Command lines that start the other gateways before the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Command: TypeAlias = Callable[[Path, str, int], list[str]]
"""Builds a command line from an environment's `bin`, the engine's URL and the port to serve."""


def _sglang(binaries: Path, engine: str, port: int) -> list[str]:
    module = [str(binaries / "python"), "-m", "sglang_router.launch_router", "--log-level", "error"]
    return [*module, *_served(engine, port)]


def _vllm(binaries: Path, engine: str, port: int) -> list[str]:
    return [str(binaries / "vllm-router"), *_served(engine, port)]


def _served(engine: str, port: int) -> list[str]:
    return ["--worker-urls", engine, "--host", "127.0.0.1", "--port", str(port)]


def _litellm(binaries: Path, engine: str, port: int) -> list[str]:
    settings = ["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true", "OPENAI_API_KEY=any"]
    words = ["--model", "openai/engine", "--api_base", f"{engine}/v1", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--num_workers", "1", "--drop_params"]
    return ["env", *settings, str(binaries / "litellm"), *words]


COMMANDS: dict[str, Command] = {"sglang-router": _sglang, "vllm-router": _vllm, "litellm": _litellm}
