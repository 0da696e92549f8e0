"""The process in which a checkpoint's own chat template is rendered, as seen from outside."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.errors import CheckpointError, ConfigError

_PROGRAM = "services.cli.template_check.sandbox_process"
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Rendering:
    """A prompt, or what the template fails with."""

    text: str = ""
    error: str = ""


def render_in_sandbox(
    template: str, jobs: Sequence[Mapping[str, Any]], timeout_s: float = _TIMEOUT_S
) -> list[Rendering]:
    """Returns a rendering for each job, which is the template's variables.

    The process has bounded time, memory and output, and writes no files. Raises ConfigError if jinja2 is not
    installed, CheckpointError if the process ends before it has answered.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise ConfigError("--template needs jinja2: install Perigee with its extra, perigee[template]")
    command = [sys.executable, "-I", "-m", _PROGRAM]
    given = json.dumps({"template": template, "jobs": list(jobs)})
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout_s, env={}, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"the template did not end within {timeout_s:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise CheckpointError(f"rendering the template ended with status {done.returncode}: {last[:500]!r}")
    return [Rendering(**each) for each in json.loads(done.stdout)]
