"""The container files, parsed as far as the tests look into them."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from services.cli.roles import ROLES


class ComposeLoader(yaml.SafeLoader):
    """Reads what `!reset` marks as RESET: Compose drops what earlier files say there."""


RESET = "!reset"
ComposeLoader.add_constructor(RESET, lambda loader, node: RESET)


class Dockerfile:
    """The instructions of a Dockerfile."""

    def __init__(self, text: str) -> None:
        self.text = text
        code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        joined = re.sub(r"\\\n\s*", " ", code)
        self.instructions = [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]

    def every(self, name: str) -> list[str]:
        """The arguments of all instructions of that name."""
        return [argument for instruction, argument in self.instructions if instruction == name]

    def last(self, name: str) -> str:
        """The arguments of the instruction that counts."""
        return self.every(name)[-1]

    def command(self, name: str) -> list[str]:
        """The exec form of ENTRYPOINT or HEALTHCHECK."""
        return json.loads(self.last(name)[self.last(name).index("[") :])

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        return dict(pair.split("=", 1) for argument in self.every("ENV") for pair in argument.split())


@pytest.fixture(scope="session")
def dockerfiles(repository):
    """By role."""
    return {role: Dockerfile((repository / "services" / role / "Dockerfile").read_text()) for role in ROLES}


@pytest.fixture(scope="session")
def compose(repository):
    """The compose file for CPUs."""
    return yaml.safe_load((repository / "docker-compose.yml").read_text())


@pytest.fixture(scope="session")
def gpu_compose(repository):
    """The override for GPUs, alone."""
    return yaml.safe_load((repository / "docker-compose.gpu.yml").read_text())


@pytest.fixture(scope="session")
def aggregated_compose(repository):
    """The override for one worker on a machine of eight GPUs, alone."""
    return yaml.safe_load((repository / "docker-compose.aggregated.yml").read_text())


@pytest.fixture(scope="session")
def host_compose(repository):
    """The override for the machine's own network, alone."""
    return yaml.load((repository / "docker-compose.host.yml").read_text(), ComposeLoader)


@pytest.fixture(scope="session")
def secure_compose(repository):
    """The override for certificates, alone."""
    return yaml.safe_load((repository / "docker-compose.secure.yml").read_text())
