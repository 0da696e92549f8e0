"""A request is answered only under a name of this gateway: pages of other sites cannot pass for it."""

import asyncio
import json

import pytest
from starlette.routing import Route

from services.common.errors import ConfigError
from services.gateway.http.guards.host_check import HostCheck
from tests.gateway.browser import needs_browser, open_browser
from tests.gateway.suite import chat_body, open_suite

LOOPBACK, POD = ("127.0.0.1", 30000), ("10.1.2.3", 30000)


def refused(check, host, server=LOOPBACK):
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    return check.refusal({"type": "http", "headers": headers, "server": server}) is not None


OWN = [
    "localhost",
    "localhost:30000",
    "LocalHost:1",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:80",
    "[::1]:30000",
    "[::1]",
]
FOREIGN = [
    "evil.test", "evil.test:30000", "localhost.evil.test", "127.0.0.1.evil.test", "notlocalhost", "127.0.0.2",
    "10.1.2.3", "[::2]", "0.0.0.0", "localhost@evil.test", "evil.test/localhost", "a b", "[evil.test]",
    "localhost:x", "::1", "2130706433", "lo\xe7alhost",
]  # fmt: skip


@pytest.mark.parametrize("server", [LOOPBACK, ("::1", 1), ("127.3.3.3", 1), ("::ffff:127.0.0.1", 1), None])
def test_at_a_loopback_address_only_its_own_names_are_served(server):
    check = HostCheck([])
    assert not [host for host in OWN if refused(check, host, server)]
    assert not [host for host in FOREIGN if not refused(check, host, server)]


@pytest.mark.parametrize("host", [None, ""])
def test_a_request_without_a_host_is_served(host):
    assert not refused(HostCheck([]), host)


def test_a_name_is_judged_by_where_the_client_connected_to_each_time():
    check = HostCheck([])
    for _ in range(2):
        assert refused(check, "gateway.svc", LOOPBACK)
        assert not refused(check, "gateway.svc", POD)


def test_a_host_longer_than_any_name_is_refused():
    assert not refused(HostCheck(["*"]), "a" * 253 + ".:30000")
    assert refused(HostCheck(["*"]), "a" * 300)


def test_names_of_the_setting_are_served_beside_the_own_ones():
    check = HostCheck(["Models.Example.org", "*.lab.test", "192.0.2.7", "[2001:db8::7]"])
    served = ["models.example.org:30000", "a.lab.test", "b.a.lab.test", "192.0.2.7:1", "[2001:db8::7]", *OWN]
    assert not [host for host in served if refused(check, host)]
    foreign = ["lab.test", "alab.test", "x.models.example.org", "example.org", "192.0.2.8", "evil.test"]
    assert not [host for host in foreign if not refused(check, host)]


def test_a_star_serves_every_name():
    assert not [host for host in FOREIGN if refused(HostCheck(["*"]), host)]


@pytest.mark.parametrize(
    "host", ["gateway:30000", "perigee.default.svc.cluster.local", "10.1.2.3", "[fd00::1]:1"]
)
def test_at_other_addresses_names_of_services_are_served_without_a_setting(host):
    assert not refused(HostCheck([]), host, POD)


def test_at_other_addresses_a_setting_leaves_its_names_and_all_addresses():
    check = HostCheck(["gateway"])
    assert not [host for host in ("gateway:1", "10.1.2.3", "192.0.2.1", *OWN) if refused(check, host, POD)]
    assert refused(check, "evil.test", POD)


@pytest.mark.parametrize(
    "entry", ["http://a.test", "a.test:80", "*.", "a.*", "**", "a/b", "", "*.1.2.3.4.", "[::1"]
)
def test_an_entry_that_is_no_name_is_refused_with_it(entry):
    with pytest.raises(ConfigError, match="allowed_hosts") as caught:
        HostCheck([entry])
    assert repr(entry) in caught.value.message


def every_route(suite):
    """Method and path of everything the door offers, and of what it does not."""
    routes = [route for route in suite.gateway._http._server.config.app.routes if isinstance(route, Route)]
    pairs = [
        (method, route.path.replace("{name:path}", "kimi")) for route in routes for method in route.methods
    ]
    assert len(pairs) > 20
    return [*sorted(pairs), ("GET", "/nothing"), ("OPTIONS", "/v1/models"), ("DELETE", "/")]


async def test_every_route_refuses_a_foreign_host_with_an_error_object(suite):
    for method, path in every_route(suite):
        answer = await suite.http.request(method, path, headers={"host": "evil.test"})
        assert answer.status_code == 421, (method, path)
        assert answer.headers["x-request-id"]
        if method != "HEAD":
            error = answer.json()["error"]
            assert error["type"] == "invalid_request_error"
            # Messages has no codes.
            assert path.startswith("/v1/messages") or error["code"] == "host_not_allowed"
            assert "'evil.test'" in error["message"]
            assert "--allowed-hosts" in error["message"]
    assert not suite.decode.submits


async def test_a_refused_body_is_not_read_and_the_connection_goes_on_or_ends_in_order(suite):
    body = json.dumps(chat_body()).encode()
    for host, status in (("evil.test", 421), ("localhost", 200), ("evil.test", 421), ("[::1]:5", 200)):
        answer = await suite.http.post("/v1/chat/completions", content=body, headers={"host": host})
        assert answer.status_code == status


async def test_over_http_1_0_a_request_without_a_host_is_answered(suite):
    reader, writer = await asyncio.open_connection("127.0.0.1", suite.gateway.http_port)
    writer.write(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_the_setting_reaches_the_door():
    async with open_suite(allowed_hosts=("*.example.org",)) as suite:
        for host, status in (("api.example.org", 200), ("evil.test", 421)):
            assert (await suite.http.get("/v1/models", headers={"host": host})).status_code == status
    with pytest.raises(ConfigError, match="allowed_hosts: 'a b' is no name"):
        async with open_suite(allowed_hosts=("a b",)):
            pass


@needs_browser
async def test_in_a_browser_a_name_that_is_made_to_resolve_here_reads_nothing_from_any_route(suite):
    port = suite.gateway.http_port
    async with open_browser("--host-resolver-rules=MAP evil.test 127.0.0.1") as browser:
        await browser.go(f"http://evil.test:{port}/")
        assert await browser.run("return location.hostname") == "evil.test"
        for method, path in every_route(suite):
            body = "undefined" if method in ("GET", "HEAD") else '"{}"'
            asked = f"fetch({json.dumps(path)}, {{method: {json.dumps(method)}, body: {body}}})"
            assert await browser.resolve(f"{asked}.then(a => a.status)") == 421, (method, path)
        await browser.go(f"http://localhost:{port}/v1/models")
        assert "kimi-alias" in str(await browser.run("return document.body.innerText"))
