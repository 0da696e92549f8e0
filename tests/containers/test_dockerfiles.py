"""The Dockerfiles agree with each other and with the code; no engine is needed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from services.cli.roles import ROLES, config_class
from services.cli.run.plan import WORKERS, child_environment
from services.cli.sbom.libraries import LibraryTable
from services.cli.sbom.packages import described
from services.common.settings import env_name

LINE = "# " + "-" * 108


@pytest.fixture(scope="module")
def project(repository):
    """The table of that name in pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def ports(role):
    config = config_class(role)()
    if role == "gateway":
        return {"grpc": config.grpc_port, "http": config.http_port}
    return {"grpc": config.port, "http": config.metrics_port}


def test_the_workers_files_are_the_same_down_to_the_line_so_that_layers_are_shared(dockerfiles):
    heads = {dockerfiles[role].text.split(LINE)[0] for role in WORKERS}
    assert len(heads) == 1
    assert "COPY --from=package" in heads.pop()
    for role in WORKERS:
        _, tail = dockerfiles[role].text.split(LINE)
        assert set(re.findall(r"^[A-Z]+", tail, re.MULTILINE)) == {
            "FROM",
            "COPY",
            "RUN",
            "LABEL",
            "EXPOSE",
            "HEALTHCHECK",
            "ENTRYPOINT",
        }


def test_only_the_gateway_is_built_without_the_workers_dependencies(dockerfiles):
    installed = {
        role: [run for run in file.every("RUN") if "image-environment" in run]
        for role, file in dockerfiles.items()
    }
    assert installed.pop("gateway") == ["./image-environment gateway certs otel ${EXTRAS}"]
    assert list(installed.values()) == [["./image-environment worker otel ${EXTRAS}"]] * 3


@pytest.mark.parametrize("role", ROLES)
def test_an_image_holds_ffmpeg_unless_its_build_leaves_the_extra_out(dockerfiles, project, role):
    [extras] = [value for value in dockerfiles[role].every("ARG") if value.startswith("EXTRAS=")]
    assert extras == "EXTRAS=video"
    extras = project["optional-dependencies"]
    assert extras["video"] == ["av==18.1.0"]
    for name in ("gateway", "worker", "worker-cpu", "certs", "otel"):
        assert not set(extras["video"]) & set(extras[name])


def test_all_images_begin_with_the_same_base_which_a_digest_fixes(dockerfiles):
    bases = {file.every("ARG")[0] for file in dockerfiles.values()}
    assert len(bases) == 1
    assert re.fullmatch(r"BASE=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", bases.pop())
    for file in dockerfiles.values():
        begins = {line.split()[0] for line in file.every("FROM")}
        assert begins - {"environment", "package", "worker"} == {"${BASE}"}


@pytest.mark.parametrize("role", ROLES)
def test_labels_say_what_an_image_is_of_which_version_and_from_which_base(dockerfiles, project, role):
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', dockerfiles[role].text))
    assert labels.pop("description").startswith("Perigee's ")
    assert labels == {
        "licenses": project["license"],
        "version": project["version"],
        "base.name": "${BASE}",
        "title": f"perigee-{role}",
    }
    # Without its own ARG a stage does not see the one above the first FROM.
    order = [name + (argument == "BASE") * " BASE" for name, argument in dockerfiles[role].instructions]
    assert order.index("ARG BASE") < order.index("LABEL")
    assert "FROM" not in order[order.index("ARG BASE") : order.index("LABEL")]


@pytest.mark.parametrize("role", ROLES)
def test_an_image_runs_its_role_without_root_and_asks_its_own_port_for_health(dockerfiles, role):
    file = dockerfiles[role]
    assert file.last("USER") == "10001:10001"
    assert file.last("STOPSIGNAL") == "SIGTERM"
    assert file.command("ENTRYPOINT") == ["perigee", role]
    asked = config_class("gateway")().operator_port if role == "gateway" else ports(role)["grpc"]
    assert file.command("HEALTHCHECK") == ["perigee", "health", f"127.0.0.1:{asked}", "--role", role]
    assert {int(port) for port in file.last("EXPOSE").split()} == set(ports(role).values())


def test_workers_have_the_environment_that_perigee_run_gives_them(dockerfiles):
    # Containers reach each other over a network, not over loopback.
    environment = child_environment({"UCX_NET_DEVICES": "eth0"})
    del environment["UCX_NET_DEVICES"]
    for role in WORKERS:
        assert environment.items() <= dockerfiles[role].environment().items()


def test_kernels_are_compiled_in_a_layer_that_other_code_does_not_change(dockerfiles, repository):
    for role in WORKERS:
        instructions = [" ".join(instruction) for instruction in dockerfiles[role].instructions]
        order = [
            "COPY kernels kernels",
            "RUN /opt/perigee/bin/python -m kernels.prebuilt",
            "COPY services/engine services/engine",
        ]
        places = [instructions.index(line) for line in order]
        assert places == sorted(places)
    # What was compiled here, with another triton, stays here.
    assert "kernels/prebuilt/cache" in (repository / ".dockerignore").read_text().splitlines()


@pytest.mark.parametrize("role", ROLES)
def test_images_set_only_settings_their_role_has(dockerfiles, role):
    known = {env_name(key) for key in config_class(role).__dataclass_fields__}
    ours = {name for name in dockerfiles[role].environment() if name.startswith("PERIGEE_")}
    assert ours == {"PERIGEE_HOST", "PERIGEE_MODEL"}
    assert ours <= known


@pytest.mark.parametrize("role", ROLES)
def test_what_is_copied_is_in_the_repository_and_not_ignored(dockerfiles, repository, role):
    kept = [
        line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for argument in dockerfiles[role].every("COPY"):
        if argument.startswith("--from"):
            continue
        for path in argument.split()[:-1]:
            assert (repository / path).exists(), path
            assert any(path == keep or path.startswith(keep + "/") for keep in kept), path


def test_the_script_that_fills_an_image_can_be_executed(repository):
    assert os.access(repository / "scripts" / "image-environment", os.X_OK)


def test_images_hold_no_module_whose_licence_forbids_to_distribute_it(repository):
    table = LibraryTable()
    script = (repository / "scripts" / "image-environment").read_text()
    for wheel in ("nixl-cu12", "nixl-cu13"):
        libraries = described(importlib.metadata.distribution(wheel), table).libraries
        kept = [each.file.partition(".")[0] for each in libraries if "Proprietary" in each.licence]
        assert len(kept) == 3
        assert [
            name for name in kept if not re.search(rf"^    for module in .*\b{name}\b", script, re.MULTILINE)
        ] == []


def copied(dockerfile) -> list[tuple[str, str]]:
    """What is copied out of the repository, and where to; a trailing slash means into it."""
    pairs = []
    for argument in dockerfile.every("COPY"):
        *sources, target = argument.split()
        if not argument.startswith("--from"):
            pairs += [
                (source, target + source.rpartition("/")[2] * target.endswith("/")) for source in sources
            ]
    return pairs


@pytest.mark.parametrize("role", ROLES)
def test_a_change_of_one_role_rebuilds_its_image_only(dockerfiles, role):
    """The settings of other roles are shared: the command checks all variables by them."""
    of_others = {
        source
        for source, _ in copied(dockerfiles[role])
        for other in ROLES
        if other != role and source.startswith(f"services/{other}")
    }
    assert of_others
    for source in of_others:
        assert source.endswith((".py",)), source
        assert source.endswith(
            ("__init__.py", "config.py", "profile.py", "output_format.py", "allowed_hosts.py")
        )


@pytest.mark.parametrize("role", ROLES)
def test_an_image_holds_every_module_that_its_role_imports(dockerfiles, repository, tmp_path, role):
    for source, target in copied(dockerfiles[role]):
        if source.split("/")[0] in ("services", "kernels"):
            where = tmp_path / target.rstrip("./")
            where.parent.mkdir(parents=True, exist_ok=True)
            if (repository / source).is_dir():
                shutil.copytree(repository / source, where, dirs_exist_ok=True)
            else:
                shutil.copy(repository / source, where)
    operators = ["chat", "workers", "drain", "undrain", "flush", "keys", "certs", "transfer-check"]
    commands = [role, "health", *(operators if role == "gateway" else ())]
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.modules["av"] = None  # an image may leave it out
import services.{role}.main
from services.cli.main import build_parser
from services.cli.roles import ROLES, config_class
assert services.__file__.startswith({str(tmp_path)!r}), services.__file__
list(map(config_class, ROLES))
build_parser({commands})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
