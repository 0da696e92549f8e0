"""The wheel perigee: what is in it, and that it works in an environment that has its dependencies alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from tests.support.linked_packages import link

# What is compiled into a working tree belongs to one kind of machine.
COMPILED = shutil.ignore_patterns("*.so", "cache", "__pycache__")


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """Built from a copy of the sources, by the backend that pyproject.toml names, without a network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("kernels", "services", "protos"):
        shutil.copytree(repository / name, source / name, ignore=COMPILED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    [path] = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.getinfo(name).file_size for name in archive.namelist()}


@pytest.fixture(scope="module")
def installed(repository, wheel, tmp_path_factory):
    """An environment with the wheel and the packages that it needs without an extra."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    [site] = venv.glob("lib/python*/site-packages")
    link((re.match(r"[\w-]+", line)[0] for line in project["dependencies"]), site)
    return venv


def test_one_wheel_is_for_every_python_and_machine(wheel):
    assert wheel.name == "perigee-0.1.0-py3-none-any.whl"


def test_it_has_every_source_file_and_the_generated_protos(files, repository):
    for root, inside in (("kernels", "kernels"), ("services", "services"), ("protos/perigee", "perigee")):
        wanted = {
            f"{inside}/{path.relative_to(repository / root)}"
            for path in (repository / root).rglob("*")
            if path.is_file() and not {"__pycache__", "cache", "benchmarks"} & set(path.parts)
            if path.suffix != ".so" and path.name != "Dockerfile"
        }
        assert wanted <= set(files), wanted - set(files)
    stems = {path.stem for path in (repository / "protos" / "perigee" / "v1").glob("*.proto")}
    assert {f"perigee/v1/{stem}_pb2.py" for stem in stems} <= set(files)


def test_it_has_nothing_compiled_no_checkpoint_and_nothing_of_the_repository_s_tools(files):
    assert {name.partition("/")[0] for name in files} == {
        "kernels", "perigee", "perigee-0.1.0.dist-info", "services",
    }  # fmt: skip
    assert not [name for name in files if name.endswith((".so", ".pyc", ".safetensors", "Dockerfile"))]
    assert sum(files.values()) < 12_000_000


@pytest.mark.parametrize("command", [["--version"], ["version"], ["--help"], ["sbom"], ["health", "--help"]])
def test_installed_alone_the_command_answers(installed, command):
    done = subprocess.run([installed / "bin/perigee", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "perigee" in done.stdout
    if "ersion" in command[0]:
        assert done.stdout.splitlines()[0] == "perigee 0.1.0"


@pytest.mark.parametrize("command", ["run", "gateway", "decode"])
def test_what_needs_an_extra_says_which_package_is_missing_and_how_to_get_it(installed, command):
    done = subprocess.run([installed / "bin/perigee", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"perigee {command}: \w+ is not installed; what all services need: "
        r"pip install 'perigee\[gateway,worker,video\]'\n",
        done.stderr,
    )


def test_the_client_and_every_generated_module_can_be_imported_from_it(installed, files):
    modules = [
        name.removesuffix(".py").replace("/", ".")
        for name in files
        if re.fullmatch(r"perigee/v1/\w+_pb2(_grpc)?\.py", name)
    ]
    program = f"import importlib, perigee.client\nfor name in {modules}: importlib.import_module(name)"
    done = subprocess.run(
        [installed / "bin/python", "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(modules) > 20
