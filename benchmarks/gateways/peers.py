"""How each gateway is started before the engine. Peers live in virtual environments of their own.

python -m benchmarks.gateways.peers [--root DIR] [NAME ...]

makes those environments (all of them without a name).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(".run/peers")


@dataclass(frozen=True)
class Peer:
    """`packages`: for pip. `command`: of an environment's `bin`, the engine's URL and the port to serve."""

    packages: tuple[str, ...]
    command: Callable[[Path, str, int], list[str]]


def _sglang(binaries: Path, engine: str, port: int) -> list[str]:
    module = [str(binaries / "python"), "-m", "sglang_router.launch_router"]
    return [
        *module,
        "--worker-urls",
        engine,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]


def _vllm(binaries: Path, engine: str, port: int) -> list[str]:
    return [
        str(binaries / "vllm-router"),
        "--worker-urls",
        engine,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]


def _served(engine: str, port: int) -> list[str]:
    return ["--worker-urls", engine, "--host", "127.0.0.1", "--port", str(port)]


def _litellm(binaries: Path, engine: str, port: int) -> list[str]:
    words = ["--model", "openai/engine", "--api_base", f"{engine}/v1", "--host", "127.0.0.1"]
    return [str(binaries / "litellm"), *words, "--port", str(port), "--num_workers", "1"]


PEERS = {
    "sglang-router": Peer(("sglang-router==0.3.2",), _sglang),
    "vllm-router": Peer(("vllm-router==0.1.17",), _vllm),
    "litellm": Peer(("litellm[proxy]==1.108.7",), _litellm),
}


def binaries(name: str, root: Path) -> Path:
    """Where a peer's programs are, once it is installed."""
    return root / name / "bin"


def install(name: str, root: Path) -> None:
    """Makes a peer's environment anew."""
    venv.create(root / name, clear=True, with_pip=True)
    subprocess.run(
        [binaries(name, root) / "python", "-m", "pip", "install", *PEERS[name].packages], check=True
    )


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateways.peers", description=__doc__)
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
