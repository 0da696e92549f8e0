"""What the ports for clients do not offer: an operator's commands."""

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc

REQUESTS = {
    "ListWorkers": admin_pb2.ListWorkersRequest(),
    "Flush": admin_pb2.FlushWorkersRequest(),
    "DrainWorker": admin_pb2.DrainWorkerRequest(address="any:1", force=True),
    "UndrainWorker": admin_pb2.UndrainWorkerRequest(address="any:1"),
    "CheckTransfer": admin_pb2.CheckWorkersRequest(reader="any:1", owner="any:2"),
}


async def listed_services(channel):
    """Full names by reflection."""
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
    answer = await call.read()
    call.cancel()
    return {service.name for service in answer.list_services_response.service}


@pytest.mark.parametrize("method", REQUESTS)
async def test_an_operators_command_is_unknown_to_the_clients_grpc_port(suite, method):
    stub = admin_pb2_grpc.AdminServiceStub(suite.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(stub, method)(REQUESTS[method])
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "Method not found!",
    )


async def test_reflection_lists_an_operators_commands_to_operators_only(suite):
    public = await listed_services(suite.channel)
    assert public >= {f"perigee.v1.{name}" for name in ("ChatService", "GenerationService", "ModelService")}
    assert not any(word in name for name in public for word in ("Admin", "Decode", "Worker"))
    operators = await listed_services(suite.operator)
    assert "perigee.v1.AdminService" in operators
    assert not any("Chat" in name for name in operators)


@pytest.mark.parametrize("path", ["/flush_cache", "/reset_prefix_cache"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_route_of_the_http_port_flushes(suite, method, path):
    assert (await suite.http.request(method, path)).status_code == 404
    assert path not in (await suite.http.get("/openapi.json")).json()["paths"]
    assert [server.worker.flushed for server in suite.workers.values()] == [0, 0, 0]
