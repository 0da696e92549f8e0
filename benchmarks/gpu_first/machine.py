"""Says what GPU and what software a machine has.

python -m benchmarks.gpu_first.machine [--out DIR]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
from pathlib import Path

import torch

from benchmarks.gpu_first.findings import Findings

PACKAGES = (
    "triton",
    "numpy",
    "structlog",
    "msgspec",
    "llguidance",
    "prometheus-client",
    "protobuf",
    "tiktoken",
    "nixl",
    "nixl-cu12",
    "nixl-cu13",
    "sglang",
    "flash-mla",
    "sgl-flash-mla",
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_first.machine", description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    findings = Findings(parser.parse_args(argv).out)
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), "none")
    findings.add(
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda or "none",
        compiler=compiler,
        packages={name: version for name in PACKAGES if (version := _version(name))},
        gpu=None,
    )
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        findings.add(
            gpu=properties.name,
            capability=f"{properties.major}.{properties.minor}",
            memory_gb=round(properties.total_memory / 1e9, 1),
            gpus=torch.cuda.device_count(),
            nccl=".".join(map(str, torch.cuda.nccl.version())),
        )
    return 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    raise SystemExit(main())
