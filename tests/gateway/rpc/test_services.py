"""ModelService, AdminService, health and reflection."""

import asyncio

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, models_pb2, models_pb2_grpc, worker_pb2
from services.common.errors import (
    Incompatible,
    InvalidRequest,
    NotFound,
    Overloaded,
    TransferFailed,
    UnsupportedOperation,
)
from services.common.rpc.status import from_rpc_error
from tests.gateway.suite import open_suite, wait_until


@pytest.fixture
def models(suite):
    return models_pb2_grpc.ModelServiceStub(suite.channel)


@pytest.fixture
def admin(suite):
    return admin_pb2_grpc.AdminServiceStub(suite.operator)


@pytest_asyncio.fixture
async def admin_pair():
    """A suite with two decode workers, and its operator's stub."""
    async with open_suite(decodes=2) as suite:
        await wait_until(lambda: len(suite.gateway.pool.decode.serving) == 2)
        yield suite, admin_pb2_grpc.AdminServiceStub(suite.operator)


async def until(ask, wanted):
    """Asks again until the answer is `wanted`."""

    async def is_wanted():
        return await ask() == wanted

    await wait_until(is_wanted)


async def test_models_are_listed_by_every_served_name(suite, models):
    listed = (await models.ListModels(models_pb2.ListModelsRequest())).models
    assert [model.name for model in listed] == ["kimi", "kimi-alias"]
    assert listed[0].vocab_size == suite.tokenizer.vocab_size
    assert listed[0].vision
    assert listed[0].created > 0
    assert (await models.GetModel(models_pb2.GetModelRequest())).name == "kimi"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await models.GetModel(models_pb2.GetModelRequest(name="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_worker_with_a_shorter_context_shortens_the_model_s():
    async with open_suite(context_length=321) as suite:
        model = await models_pb2_grpc.ModelServiceStub(suite.channel).GetModel(models_pb2.GetModelRequest())
        assert model.context_length == 321


async def test_workers_are_listed_reachable_or_not(suite, admin):
    await suite.workers["prefill"].stop()
    await wait_until(lambda: not suite.gateway.pool.prefill.workers[0].link.reachable)
    listed = (await admin.ListWorkers(admin_pb2.ListWorkersRequest())).workers
    assert [(worker.info.role, worker.reachable) for worker in listed] == [
        (worker_pb2.WORKER_ROLE_VISION, True),
        (worker_pb2.WORKER_ROLE_PREFILL, False),
        (worker_pb2.WORKER_ROLE_DECODE, True),
    ]
    assert listed[2].load.pages.free == 100
    assert listed[2].info.incarnation


async def test_a_flush_reaches_every_worker_and_says_which_it_missed_and_why(suite, admin):
    vision, prefill, decode = (suite.workers[name] for name in ("vision", "prefill", "decode0"))
    answer = await admin.Flush(admin_pb2.FlushWorkersRequest())
    assert [
        (each.address, each.role, each.pages, each.embeddings, each.error) for each in answer.workers
    ] == [
        (vision.address, worker_pb2.WORKER_ROLE_VISION, 3, 1, ""),
        (prefill.address, worker_pb2.WORKER_ROLE_PREFILL, 3, 1, ""),
        (decode.address, worker_pb2.WORKER_ROLE_DECODE, 3, 1, ""),
    ]
    await prefill.stop()
    answer = await admin.Flush(admin_pb2.FlushWorkersRequest())
    assert [bool(each.error) for each in answer.workers] == [False, True, False]
    assert answer.workers[1].pages == 0
    assert decode.worker.flushed == 2


async def test_a_drained_worker_leaves_the_rotation_until_it_is_undrained(admin_pair):
    suite, admin = admin_pair
    drained = suite.workers["decode0"].address
    answer = await admin.DrainWorker(admin_pb2.DrainWorkerRequest(address=drained))
    assert answer.outstanding == 2
    # Who asks once the command is answered finds it done.
    assert [worker.link.state for worker in suite.gateway.pool.decode.workers].count("draining") == 1
    for _ in range(4):
        assert (await suite.chat()).status_code == 200
    assert (len(suite.decodes[0].submits), len(suite.decodes[1].submits)) == (0, 4)
    await admin.UndrainWorker(admin_pb2.UndrainWorkerRequest(address=drained))
    assert all(worker.serving for worker in suite.gateway.pool.decode.workers)
    await admin.DrainWorker(admin_pb2.DrainWorkerRequest(address=suite.workers["decode1"].address))
    assert (await suite.chat()).status_code == 200
    assert len(suite.decodes[0].submits) == 1


@pytest.mark.parametrize("method", ["DrainWorker", "UndrainWorker"])
async def test_a_worker_that_is_not_known_or_not_there_cannot_change_its_state(suite, admin, method):
    request = {"DrainWorker": admin_pb2.DrainWorkerRequest, "UndrainWorker": admin_pb2.UndrainWorkerRequest}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(admin, method)(request[method](address="unknown:1"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    gone = suite.workers["decode0"]
    await gone.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(admin, method)(request[method](address=gone.address))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert f"worker {gone.address}: " in caught.value.details()


@pytest.mark.parametrize("role", ["vision", "prefill", "decode"])
async def test_the_last_worker_of_a_role_is_drained_only_by_force(suite, admin, role):
    server = suite.workers["decode0" if role == "decode" else role]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.DrainWorker(admin_pb2.DrainWorkerRequest(address=server.address))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert f"{server.address} is the last {role} worker that serves" in caught.value.details()
    assert not server.worker.load.draining
    forced = admin_pb2.DrainWorkerRequest(address=server.address, force=True)
    await admin.DrainWorker(forced)
    assert suite.gateway.pool.missing_roles() == (role,)
    health = health_pb2_grpc.HealthStub(suite.channel)

    async def status():
        return (await health.Check(health_pb2.HealthCheckRequest())).status

    await until(status, health_pb2.HealthCheckResponse.NOT_SERVING)
    # Once it drains, saying so again changes nothing.
    await admin.DrainWorker(admin_pb2.DrainWorkerRequest(address=server.address))
    await admin.UndrainWorker(admin_pb2.UndrainWorkerRequest(address=server.address))
    await until(status, health_pb2.HealthCheckResponse.SERVING)
    assert (await suite.chat()).status_code == 200


async def test_two_drains_at_once_leave_a_role_one_worker(admin_pair):
    suite, admin = admin_pair
    drains = [
        admin.DrainWorker(admin_pb2.DrainWorkerRequest(address=suite.workers[name].address))
        for name in ("decode0", "decode1")
    ]
    ends = await asyncio.gather(*drains, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert [error.code() for error in refused] == [grpc.StatusCode.FAILED_PRECONDITION]
    assert len(suite.gateway.pool.decode.serving) == 1


async def test_a_transfer_check_asks_the_reader_with_the_owners_address(suite, admin):
    reader, owner = suite.workers["decode0"], suite.workers["prefill"]
    request = admin_pb2.CheckWorkersRequest(reader=reader.address, owner=owner.address, rounds=3)
    answer = await admin.CheckTransfer(request)
    assert reader.worker.checks == [
        worker_pb2.CheckTransferRequest(address=owner.address, role=owner.worker.info.role, rounds=3)
    ]
    assert owner.worker.checks == []
    assert (answer.incarnation, answer.bytes, answer.crc32) == ("owner-1", 3 << 20, 0xABCD)
    assert answer.transport.transport == "cma"


@pytest.mark.parametrize("field", ["reader", "owner"])
async def test_a_check_of_an_unknown_worker_names_the_field_and_lists_the_known_ones(suite, admin, field):
    both = {"reader": suite.workers["decode0"].address, "owner": suite.workers["prefill"].address}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.CheckTransfer(admin_pb2.CheckWorkersRequest(**{**both, field: "unknown:1"}))
    error = from_rpc_error(caught.value)
    assert isinstance(error, NotFound)
    assert error.param == field
    assert "'unknown:1'" in error.message
    assert all(server.address in error.message for server in suite.workers.values())


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (TransferFailed("worker x: corrupt"), grpc.StatusCode.UNAVAILABLE),
        (Incompatible("worker x: checkpoint"), grpc.StatusCode.FAILED_PRECONDITION),
        (UnsupportedOperation("reads nobody"), grpc.StatusCode.UNIMPLEMENTED),
        (Overloaded("has not ended"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (InvalidRequest("rounds is 5000", "rounds"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_a_check_that_fails_keeps_its_kind_and_names_the_reader(suite, admin, failure, code):
    reader, owner = suite.workers["decode0"], suite.workers["prefill"].address
    reader.worker.check_fails = failure
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.CheckTransfer(admin_pb2.CheckWorkersRequest(reader=reader.address, owner=owner))
    assert caught.value.code() == code
    error = from_rpc_error(caught.value)
    assert type(error) is type(failure)
    assert error.message == f"reader {reader.address}: {failure.message}"
    assert getattr(error, "param", None) == getattr(failure, "param", None)


async def test_a_check_by_a_reader_that_is_gone_names_it(suite, admin):
    reader, owner = suite.workers["decode0"], suite.workers["prefill"].address
    await reader.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.CheckTransfer(admin_pb2.CheckWorkersRequest(reader=reader.address, owner=owner))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert f"reader {reader.address}: " in caught.value.details()


async def test_health_follows_the_workers(suite):
    health = health_pb2_grpc.HealthStub(suite.channel)
    states = [state async for state in FirstOf(health.Watch(health_pb2.HealthCheckRequest()), suite)]
    assert states[0] == health_pb2.HealthCheckResponse.SERVING
    assert states[-1] == health_pb2.HealthCheckResponse.NOT_SERVING


class FirstOf:
    """Watches health until it stops serving, after taking the decode worker away."""

    def __init__(self, call, suite):
        self.call, self.suite = call, suite

    async def __aiter__(self):
        async for answer in self.call:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                await self.suite.workers["decode0"].stop()
                yield answer.status
            elif not self.suite.gateway.pool.decode.workers[0].serving:
                yield answer.status
                self.call.cancel()
                return
