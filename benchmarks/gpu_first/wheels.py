"""The wheels that a machine with torch and triton lacks, in a folder to carry there with the repository.

python -m benchmarks.gpu_first.wheels [--out DIR] [--python 3.12] [--cuda 13]

Takes the versions of pyproject.toml. Of NIXL's wheel it leaves out what reads of GPU memory do without:
kernels for experts on other hosts, storage backends, headers and tools. Fails if the folder and the files of
this repository are larger than 64 MiB together.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".gpu-wheels"
PACKAGES = (
    "llguidance",
    "msgspec",
    "nixl",
    "prometheus-client",
    "protobuf",
    "regex",
    "structlog",
    "tiktoken",
)
"""What the steps import beside torch, triton and what these bring."""
MOST_BYTES = 64 * 2**20
_MANYLINUX = ("2014", "1", *(f"_2_{minor}" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34, 35)))
_LEFT_OUT = (
    "nixl_ep_*",
    "*.data/*",
    "*.scripts/*",
    "*/libucx_perftest*",
    "*.libs/libaws*",
    "*.libs/libazure*",
    "*.libs/libgusli*",
    "*.libs/libs2n*",
    "*.libs/libxml2*",
    "*/libplugin_[!U]*",
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_first.wheels", description=__doc__)
    parser.add_argument("--out", type=Path, default=WHEELS)
    parser.add_argument("--python", default="3.12", help="that of the machine")
    parser.add_argument("--cuda", default="13", help="major version of its torch's CUDA")
    options = parser.parse_args(argv)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    download(pins(options.cuda), options.python, options.out)
    for wheel in options.out.glob("nixl_cu*.whl"):
        without(wheel, _LEFT_OUT)
    for wheel in sorted(options.out.iterdir()):
        print(f"{wheel.stat().st_size / 2**20:6.1f} MiB  {wheel.name}")
    carried, repository = size_of(options.out), size_of_repository()
    print(f"{carried / 2**20:6.1f} MiB of wheels, {repository / 2**20:.1f} MiB of the repository's files")
    if carried + repository > MOST_BYTES:
        print(f"gpu-wheels: more than {MOST_BYTES / 2**20:.0f} MiB together")
        return 1
    return 0


def pins(cuda: str) -> list[str]:
    """Each package with the version that pyproject.toml names, and NIXL's libraries for this CUDA."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["worker"], *extras["gateway"]]
    versions = dict(re.split("[=>]=", line, maxsplit=1) for line in named)
    # What only one of these depends on has no version of its own there.
    versions |= {name: importlib.metadata.version(name) for name in set(PACKAGES) - set(versions)}
    return [*(f"{name}=={versions[name]}" for name in PACKAGES), f"nixl-cu{cuda}=={versions['nixl']}"]


def download(requirements: list[str], python: str, directory: Path) -> None:
    """Downloads wheels for another Python on Linux x86-64, without what they depend on."""
    platforms = [word for name in _MANYLINUX for word in ("--platform", f"manylinux{name}_x86_64")]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         "--implementation", "cp", "--python-version", python, *platforms, "--dest", str(directory),
         *requirements],
        check=True,
    )  # fmt: skip


def without(wheel: Path, patterns: tuple[str, ...]) -> None:
    """Rewrites a wheel without the files that match, and without their lines in its RECORD."""
    smaller = wheel.with_suffix(".smaller")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if any(fnmatch(entry.filename, pattern) for pattern in patterns):
                continue
            content = source.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                content = _kept(content, patterns)
            target.writestr(entry, content, zipfile.ZIP_DEFLATED)
    smaller.replace(wheel)


def unpack(directory: Path, site: Path) -> Path | None:
    """Unpacks the wheels of a folder into `site`, which is returned; None if there is no such folder, or if
    it was made for another Python.
    """
    wheels = sorted(directory.glob("*.whl"))
    if not wheels or not all(suits(wheel.name) for wheel in wheels):
        return None
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return site


def suits(name: str) -> bool:
    """Whether this Python can import a wheel of that file name."""
    tag, abi = name.removesuffix(".whl").split("-")[-3:-1]
    return abi == "abi3" or tag in ("py3", "py2.py3", f"cp{sys.version_info.major}{sys.version_info.minor}")


def size_of(directory: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in directory.iterdir())


def size_of_repository() -> int:
    """Bytes of the files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return sum(path.stat().st_size for path in paths if path.exists())


def _kept(record: bytes, patterns: tuple[str, ...]) -> bytes:
    lines = record.decode().splitlines(keepends=True)
    names = {line: line.rsplit(",", 2)[0].strip('"') for line in lines}
    return "".join(
        line for line in lines if not any(fnmatch(names[line], pattern) for pattern in patterns)
    ).encode()


if __name__ == "__main__":
    raise SystemExit(main())
