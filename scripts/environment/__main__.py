"""`python -m scripts.environment run|dev [ARGUMENTS]`: makes .venv with Perigee in it, in editable form.

ARGUMENTS are those that `perigee run` will get: its ports are checked before anything is downloaded.
`run`: what running needs; `dev`: what developing and testing need too. TORCH chooses the build of torch, e.g.
TORCH=torch==2.13.0. Unset: the small CPU build where there is no NVIDIA device, else pip's default.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.environment.commands import CommandFailed, QuietCommands
from scripts.environment.disk import MB, missing_space
from scripts.environment.narrator import Narrator
from scripts.environment.ports import taken_ports
from scripts.environment.torch_build import NVIDIA, VERSION, NoCpuBuild, choose_torch, is_cpu_build

VENV = Path(".venv")
NEWEST_TRIED = (3, 13)
"""The newest Python that was tried; packages may have no wheels for a newer one."""


@dataclass(frozen=True)
class Kind:
    """What is installed: extras of pyproject.toml; `on_cpus`: that of workers, where torch is the CPU build.
    Megabytes, measured with that build.
    """

    purpose: str
    extras: str
    on_cpus: str
    download_mb: int
    installed_mb: int


KINDS = {
    "run": Kind("running", "certs,examples,gateway,otel,video", "worker-cpu", 365, 1500),
    "dev": Kind("developing and testing", "dev,gateway,video", "worker", 710, 2800),
}


def main(words: Sequence[str]) -> int:
    """Returns the exit status."""
    kind = KINDS[words[0]]
    fresh = not all((VENV / name).exists() for name in ("bin/pip", "pyvenv.cfg"))
    problems = _other_system()
    problems += taken_ports(words[1:], os.environ) if words[0] == "run" else []
    if fresh:
        problems += missing_space(Path.cwd(), kind.installed_mb * MB, 2 * kind.download_mb * MB)
    else:
        problems += _other_python()
    if problems:
        print("Nothing was installed:", *problems, sep="\n  ", file=sys.stderr)
        return 2
    try:
        _install(kind, fresh)
    except (NoCpuBuild, CommandFailed) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _install(kind: Kind, fresh: bool) -> None:
    print(f"Installing what {kind.purpose} needs into {VENV}, with Python {platform.python_version()}.")
    if sys.version_info[:2] > NEWEST_TRIED:
        print("It was never tried with such a new one: if it fails, name Python 3.11 to 3.13 with PYTHON=...")
    if fresh:
        print(
            f"With torch for CPUs: about {kind.download_mb} MB to download, {kind.installed_mb:,} MB of disk."
        )
    narrator = Narrator(lambda line: print(line, flush=True), time.monotonic, _count_packages)
    python = str(VENV / "bin" / "python")
    VENV.mkdir(exist_ok=True)
    commands = QuietCommands(narrator, VENV / "setup.log")
    if fresh:
        narrator.step(f"making {VENV}")
        commands.run(sys.executable, "-m", "venv", str(VENV))
    with tempfile.TemporaryDirectory() as scratch:
        torch = _torch(kind, Path(scratch), commands, narrator)
        narrator.step("looking for what else is needed")
        pip = (python, "-m", "pip", "install", "--progress-bar", "off", "--find-links", scratch)
        # torch is named, for nixl depends on it and would bring a build of its own choice.
        worker = kind.on_cpus if is_cpu_build(torch) else "worker"
        commands.run(*pip, torch, "--editable", f".[{kind.extras},{worker}]")
    narrator.step(f"{VENV} is ready; {narrator.downloaded_mb:,.0f} MB were downloaded")


def _torch(kind: Kind, wheels: Path, commands: QuietCommands, narrator: Narrator) -> str:
    """As `choose_torch`, but developers get the default build after a warning: CI cannot set a variable."""
    try:
        return choose_torch(os.environ, VENV, wheels, commands, narrator, NVIDIA)
    except NoCpuBuild as error:
        if kind is KINDS["run"]:
            raise
        print(f"\n{error}\nGoing on with the default build.\n", file=sys.stderr)
        return f"torch=={VERSION}"


def _count_packages() -> int:
    return sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))


def _other_system() -> list[str]:
    """A line if this is not Linux."""
    system = platform.system()
    return [] if system == "Linux" else [f"Perigee needs Linux, and this is {system}"]


def _other_python() -> list[str]:
    """A line if .venv was made with another version of Python than this one."""
    config = (VENV / "pyvenv.cfg").read_text().splitlines()
    made = next((line.partition("=")[2].strip() for line in config if line.startswith("version")), "")
    ours = platform.python_version()
    if made.split(".")[:2] == ours.split(".")[:2]:
        return []
    return [
        f"{VENV} was made with Python {made}, and this is {ours}: run `make clean` first, or name that one"
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
