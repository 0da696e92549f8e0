"""What the clients install is pinned, by hashes and without addresses."""

from __future__ import annotations

import json
import re

import pytest

from tests.clients.client import CLIENTS
from tests.support.locked_packages import PIN

PYTHON = [client for client in CLIENTS if client.language == "python"]
NODE = [client for client in CLIENTS if client.language == "node"]


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_a_lock_holds_no_address(client):
    for path in client.folder.iterdir():
        assert "://" not in path.read_text() or path.suffix in (".py", ".mjs"), path


@pytest.mark.parametrize("client", PYTHON, ids=str)
def test_every_package_of_a_python_client_has_a_version_and_a_hash(client):
    head, *pins = (client.folder / "requirements.txt").read_text().splitlines()
    assert head.startswith("#")
    assert pins
    assert all(PIN.fullmatch(pin) for pin in pins)
    pinned = {pin.partition("==")[0] for pin in pins}
    wanted = (client.folder / "requirements.in").read_text().split()
    assert {re.split(r"[\[=]", each)[0] for each in wanted} <= pinned


@pytest.mark.parametrize("client", NODE, ids=str)
def test_every_package_of_a_node_client_has_a_version_and_a_hash(client):
    packages = json.loads((client.folder / "package-lock.json").read_text())["packages"]
    wanted = json.loads((client.folder / "package.json").read_text())["dependencies"]
    installed = {path: each for path, each in packages.items() if path}
    assert all(each["version"] and each["integrity"].startswith("sha512-") for each in installed.values())
    assert {f"node_modules/{name}" for name in wanted} <= set(installed)
