"""A worker's image for GPUs launches kernels without a compiler, as far as that goes without a GPU."""

from __future__ import annotations

import json
import subprocess
import tomllib

import pytest

from kernels.machine_code.table import CAPABILITIES
from kernels.prebuilt.driver_stub import NAME, build_stub

IMAGE = "perigee-test-kernels"
CACHE = "/opt/perigee/lib/python3.11/site-packages/kernels/prebuilt/cache"


@pytest.fixture(scope="module")
def image(repository):
    """A worker's image with triton, which torch's CPU build lacks."""
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    torch = next(line for line in extras["worker"] if line.startswith("torch=="))
    triton = next(line for line in extras["dev"] if line.startswith("triton=="))
    command = ["docker", "build", "--network", "host", "--file", "services/decode/Dockerfile"]
    # BASE comes from the environment, if it is there.
    command += ["--build-arg", "BASE", "--build-arg", f"TORCH={torch} {triton}", "--tag", IMAGE, "."]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return IMAGE


@pytest.fixture(scope="module")
def run(image, repository, tmp_path_factory):
    """Launches all cases as on a GPU of a capability, in a container like those of docker-compose.yml."""
    directory = tmp_path_factory.mktemp("driver")
    double = build_stub(directory, repository / "tests" / "kernels" / "driver_double.c")
    program = repository / "tests" / "kernels" / "launch_all.py"

    def run(capability, *options):
        command = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp:size=64m", "--cap-drop", "ALL"]
        command += ["--security-opt", "no-new-privileges:true", "--network", "none", "--entrypoint", "python"]
        # Where NVIDIA's container toolkit puts the driver.
        command += ["--volume", f"{double}:/usr/lib/x86_64-linux-gnu/{NAME}:ro"]
        command += ["--volume", f"{program}:/launch_all.py:ro", *options]
        command += [image, "/launch_all.py", str(capability), ""]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_kernel_comes_from_the_image_and_none_is_compiled(run, capability):
    done = run(capability)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["compiler"] is None
    assert not found["home_can_be_written"]
    assert found["compiled"] == []
    assert found["launched"] > found["cases"]
    assert found["launched"] >= found["loaded"] > 20


def test_without_what_was_compiled_ahead_no_kernel_can_be_launched(run):
    done = run(90, "--tmpfs", CACHE)
    assert done.returncode != 0
    assert "device: triton cannot launch kernels: Failed to find C compiler" in done.stderr
