"""The distribution perigee-client: its contents, and that it works without the services and torch."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.support.linked_packages import link

PUBLIC = {"chat", "generation", "models", "sampling"}
PROGRAM = """
import sys
sys.modules["torch"] = None
from perigee.client import AsyncClient, Client, Unavailable
with Client("127.0.0.1:1", retry=None, timeout_s=5) as client:
    try:
        client.chat.complete("Hi")
    except Unavailable as error:
        print(type(error).__name__)
tops = {name.partition(".")[0] for name in sys.modules}
print(sorted(tops & {"perigee", "services", "kernels", "grpc_status", "structlog", "numpy"}))
"""


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """Built by the backend that its pyproject.toml names, without a network."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    built = subprocess.run(command, cwd=repository / "protos", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    [path] = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_has_the_client_and_the_public_protos_alone(names, repository):
    generated = {name.removeprefix("perigee/v1/") for name in names if name.startswith("perigee/v1/")}
    stems = {re.sub(r"(_pb2(_grpc)?)?\.\w+$", "", name) for name in generated}
    assert stems - {"__init__", "py"} == PUBLIC
    own = {path.name for path in (repository / "protos" / "perigee" / "client").glob("*.py")}
    assert own | {"py.typed"} == {
        name.removeprefix("perigee/client/") for name in names if name.startswith("perigee/client/")
    }
    assert {name.partition("/")[0] for name in names} == {"perigee", "perigee_client-0.1.0.dist-info"}


def test_it_needs_grpc_and_protobuf_alone(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("perigee_client-0.1.0.dist-info/METADATA").decode()
        licence = archive.read("perigee_client-0.1.0.dist-info/licenses/LICENSE")
    assert licence == (repository / "LICENSE").read_bytes()
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)(.*)", metadata, re.MULTILINE))
    assert {name for name, _ in required} == {"grpcio", "protobuf", "googleapis-common-protos"}
    services = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert f"\nVersion: {services['version']}\n" in metadata
    floors = {name: floor for name, floor in required if name != "googleapis-common-protos"}
    assert {f"{name}{floor}" for name, floor in floors.items()} <= set(services["dependencies"])


def test_installed_alone_it_works_where_torch_and_the_services_are_not(wheel, tmp_path):
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, capture_output=True, check=True)
    link(("grpcio", "protobuf", "googleapis-common-protos"), site)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(site)!r})\n{PROGRAM}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == ["Unavailable", "['perigee']"], done.stderr
