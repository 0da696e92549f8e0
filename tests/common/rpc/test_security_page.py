"""docs/security.md says what the table of callers says."""

from __future__ import annotations

import re

from services.cli.roles import config_class
from services.common.rpc.callers import CALLERS

ROW = re.compile(r"^\| `([\w.]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_the_page_names_every_rpc_with_its_callers_and_no_other(repository):
    page = (repository / "docs" / "security.md").read_text()
    said = {
        f"/{service}/{rpc}": set(callers.split(", "))
        for service, rpcs, callers in ROW.findall(page)
        for rpc in re.findall(r"`(\w+)`", rpcs)
    }
    assert said == CALLERS


def test_the_page_names_every_port(repository):
    page = (repository / "docs" / "security.md").read_text()
    for role in ("vision", "prefill", "decode"):
        config = config_class(role)()
        assert f"{role} {config.port}" in page
        assert f"{role} {config.metrics_port}" in page
    gateway = config_class("gateway")()
    assert all(f"gateway {port}" in page for port in (gateway.http_port, gateway.grpc_port))
    assert f"gateway {gateway.operator_port}" in page
