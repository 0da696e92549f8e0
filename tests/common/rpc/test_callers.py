"""Every rpc of every service has a rule, and servers with mTLS keep it."""

from __future__ import annotations

import importlib
import pkgutil

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import perigee.v1
from services.common.errors import PermissionDenied
from services.common.rpc.callers import CALLERS
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.status import from_rpc_error
from services.common.rpc.tls.trust_domain import ROLES
from tests.support.certificates import Deployment
from tests.support.endpoints import open_channel


def rpcs():
    """The paths of all rpcs that a server of ours can offer, from the descriptions of their services."""
    modules = [module.name for module in pkgutil.iter_modules(perigee.v1.__path__)]
    files = [
        importlib.import_module(f"perigee.v1.{name}").DESCRIPTOR for name in modules if name.endswith("_pb2")
    ]
    files += [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]
    found = {
        f"/{service.full_name}/{method}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods_by_name
    }
    v1alpha = {path for path in found if "reflection.v1alpha" in path}
    return sorted(found | {path.replace("v1alpha", "v1") for path in v1alpha})


class Everything(grpc.GenericRpcHandler):
    """Answers every rpc with OK."""

    def service(self, details):
        async def answer(request, context):
            return b""

        async def stream(request, context):
            yield b""

        if details.method.endswith(("Session", "Stream")):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


class Serving:
    """A server that offers every rpc, for the length of an `async with`."""

    def __init__(self, endpoints, door=False):
        self._endpoints, self._door = endpoints, door

    async def __aenter__(self):
        self._server = self._endpoints.grpc_server(door=self._door)
        self._server.add_generic_rpc_handlers((Everything(),))
        port = self._endpoints.bind_grpc(self._server, "127.0.0.1", 0, door=self._door)
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def __aexit__(self, *_):
        await self._server.stop(None)


async def outcome(channel, rpc):
    """The status code of a call, and the error it stands for."""
    try:
        await channel.unary_unary(rpc)(b"", timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code(), from_rpc_error(error)
    return grpc.StatusCode.OK, None


def test_every_rpc_has_a_rule_and_every_rule_an_rpc():
    assert len(rpcs()) > 25
    assert set(CALLERS) == set(rpcs())


def test_only_known_callers_stand_in_the_rules_and_nobody_is_forgotten():
    named = frozenset().union(*CALLERS.values())
    assert named == {*ROLES, "client"}
    assert all(CALLERS.values())


def test_the_rules_that_keep_the_memory_of_workers_from_others():
    assert CALLERS["/perigee.v1.DecodeService/Session"] == {"gateway"}
    assert CALLERS["/perigee.v1.VisionService/Encode"] == {"gateway"}
    assert CALLERS["/perigee.v1.PrefillService/Prefill"] == {"decode"}
    assert CALLERS["/perigee.v1.WorkerService/Handshake"] == {"prefill", "decode"}
    admin = [callers for rpc, callers in CALLERS.items() if "AdminService" in rpc]
    assert admin == [{"operator"}] * 6


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_call_what_the_table_says_and_is_denied_all_else(tmp_path, role):
    deployment = Deployment(tmp_path)
    async with (
        Serving(deployment.endpoints("decode")) as address,
        deployment.endpoints(role).channel(address, "decode") as channel,
    ):
        found = {rpc: await outcome(channel, rpc) for rpc in rpcs()}
    denied = {rpc for rpc, (code, _) in found.items() if code is grpc.StatusCode.PERMISSION_DENIED}
    assert denied == {rpc for rpc in rpcs() if role not in CALLERS[rpc]}
    assert denied
    assert all(isinstance(found[rpc][1], PermissionDenied) for rpc in denied)
    assert f"perigee/{role}" in found[min(denied)][1].message


async def test_an_rpc_without_a_rule_is_denied_to_everybody(tmp_path):
    deployment = Deployment(tmp_path)
    async with Serving(deployment.endpoints("decode")) as address:
        for role in ROLES:
            async with deployment.endpoints(role).channel(address, "decode") as channel:
                code, _ = await outcome(channel, "/perigee.v1.WorkerService/New")
                assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_certificate_of_another_trust_domain_is_denied_everything(tmp_path):
    ours, theirs = Deployment(tmp_path / "ours"), Deployment(tmp_path / "theirs", "example.org")
    theirs.authority = ours.authority
    channels = theirs.endpoints("gateway")
    async with Serving(ours.endpoints("decode")) as address:
        shown = Endpoints("gateway", ours.security("gateway").__class__(ours.domain, channels.security.peers))
        async with shown.channel(address, "decode") as channel:
            found = {(await outcome(channel, rpc))[0] for rpc in rpcs()}
    assert found == {grpc.StatusCode.PERMISSION_DENIED}


async def test_a_server_for_clients_offers_clients_rpcs_only_with_and_without_tls():
    async with Serving(Endpoints("gateway"), door=True) as address, open_channel(address) as channel:
        found = {rpc: (await outcome(channel, rpc))[0] for rpc in rpcs()}
    denied = {rpc for rpc, code in found.items() if code is grpc.StatusCode.PERMISSION_DENIED}
    assert denied == {rpc for rpc in rpcs() if "client" not in CALLERS[rpc]}


async def test_plain_tcp_asks_nobody_who_he_is():
    async with Serving(Endpoints("decode")) as address, open_channel(address) as channel:
        found = {(await outcome(channel, rpc))[0] for rpc in rpcs()}
    assert found == {grpc.StatusCode.OK}
