"""Every route and public rpc has a rule, and no rule is left over."""

import pytest

from perigee.v1 import admin_pb2, chat_pb2, generation_pb2, models_pb2
from services.gateway.access.rules import OPERATOR_RPCS, ROUTES, RPCS
from tests.gateway.rpc.test_public_port import listed_services
from tests.gateway.suite import open_suite

DESCRIBED = {
    service.full_name: [method.name for method in service.methods]
    for file in (admin_pb2, chat_pb2, generation_pb2, models_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
}
STANDARD = {
    "grpc.health.v1.Health": ["Check", "List", "Watch"],
    "grpc.reflection.v1.ServerReflection": ["ServerReflectionInfo"],
    "grpc.reflection.v1alpha.ServerReflection": ["ServerReflectionInfo"],
}


async def rpcs_of(channel):
    """Full names of all methods of the services that a port offers."""
    services = await listed_services(channel)
    known = {**DESCRIBED, **STANDARD}
    return {f"/{service}/{method}" for service in services for method in known[service]}


async def test_every_route_has_a_rule():
    async with open_suite() as suite:
        described = (await suite.http.get("/openapi.json")).json()["paths"]
    assert set(described) == set(ROUTES)


async def test_every_rpc_of_both_ports_has_a_rule():
    async with open_suite() as suite:
        assert await rpcs_of(suite.channel) == set(RPCS)
        assert await rpcs_of(suite.operator) == set(OPERATOR_RPCS)


def test_what_is_open_to_everybody_is_listed_here():
    assert {path for path, need in ROUTES.items() if need is None} == {
        "/", "/docs", "/openapi.json", "/health", "/ready",
    }  # fmt: skip
    opened = {name.split("/")[1] for table in (RPCS, OPERATOR_RPCS) for name in table if table[name] is None}
    assert opened == set(STANDARD)
    assert {name.split("/")[1] for name, need in OPERATOR_RPCS.items() if need is None} == {
        "grpc.health.v1.Health"
    }


@pytest.mark.parametrize("table", [RPCS, OPERATOR_RPCS])
def test_an_operators_command_never_takes_a_chat_key(table):
    assert all(need == "admin" for name, need in table.items() if "Admin" in name)
