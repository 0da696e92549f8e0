"""Which build of torch is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.environment.commands import CommandFailed, QuietCommands
from scripts.environment.narrator import Narrator

VERSION = "2.13.0"
NVIDIA = Path("/dev/nvidiactl")
# What pip says where it finds no such build, the second where it has constraints too.
_NOT_FOUND = ("No matching distribution found", "conflicting dependencies")
_NO_CPU_BUILD = f"""\
pip finds no CPU build of torch {VERSION}. Its default build brings several GB of CUDA libraries, which are
of no use here: there is no NVIDIA device. Set this and repeat; PyTorch's installation page shows the ADDRESS
for Pip and CPU:

  export PIP_EXTRA_INDEX_URL=ADDRESS

To take the default build all the same: export TORCH=torch=={VERSION}
"""


class NoCpuBuild(Exception):
    """Only a build with CUDA libraries is in sight, which takes gigabytes. The message says what to set."""

    def __init__(self) -> None:
        super().__init__(_NO_CPU_BUILD)


def choose_torch(
    env: Mapping[str, str],
    venv: Path,
    wheels: Path,
    commands: QuietCommands,
    narrator: Narrator,
    nvidia: Path,
) -> str:
    """Returns what pip is asked to install: TORCH of the environment; the default build if there is an NVIDIA
    device (`nvidia`); the build that `venv` has; else the CPU build, whose wheel is then in the directory
    `wheels`.

    Raises NoCpuBuild before anything large is downloaded, and CommandFailed if pip fails for another reason.
    """
    if env.get("TORCH"):
        return env["TORCH"]
    default = f"torch=={VERSION}"
    if nvidia.exists():
        return default
    for installed in venv.glob(f"lib/python*/site-packages/torch-{VERSION}*.dist-info"):
        return installed.name.removesuffix(".dist-info").replace("-", "==")
    narrator.step(f"looking for the CPU build of torch {VERSION}")
    wanted = f"{default}+cpu"
    python = str(venv / "bin" / "python")
    try:
        pip = (python, "-m", "pip", "download", "--progress-bar", "off", "--no-deps")
        commands.run(*pip, "--dest", str(wheels), wanted)
    except CommandFailed as error:
        if any(words in line for words in _NOT_FOUND for line in error.output):
            raise NoCpuBuild from error
        raise
    return wanted


def is_cpu_build(torch: str) -> bool:
    """Whether a requirement names a build without CUDA."""
    return "+cpu" in torch
