"""Downloads from hosts that do as they please."""

import asyncio
import contextlib
import time

import httpcore
import pytest

from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.rpc.name_resolver import NameResolver
from services.gateway.media.download.allowed_hosts import AllowedHosts
from services.gateway.media.download.downloader import Allowance, Downloader
from services.gateway.media.download.pinned_network import PinnedNetwork
from tests.gateway.media.download.raw_server import PUBLIC, Detour, RawServer, internet, page
from tests.support.waiting import let_tasks_run, scaled, until

URL = "http://files.example/a"
HOSTS = AllowedHosts("files.example, other.example, rebinding.example, mixed.example, inside.example:8080")


async def fetch(network, url=URL, limit=1000, allowance=None, timeout_s=5.0, hosts=HOSTS):
    downloader = Downloader(hosts, timeout_s, network)
    try:
        return await downloader.fetch(url, limit, allowance or Allowance(10_000))
    finally:
        await downloader.close()


async def test_a_file_comes_whole_and_is_asked_for_by_its_host_s_name():
    async with internet({"/a?b=%20c": page(b"data", Content_Type="text/html")}) as (server, detour, network):
        assert await fetch(network, "HTTP://Files.Example:80/a?b=%20c#part") == b"data"
        assert detour.connected == [PUBLIC]
        head = server.asked[0].lower()
        assert "host: files.example\r\n" in head
        assert "accept-encoding: identity" in head


async def test_without_a_length_the_file_ends_with_the_connection():
    async with internet({"/a": b"HTTP/1.1 200 OK\r\n\r\ndata"}) as (_, _, network):
        assert await fetch(network) == b"data"


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/a",
        "http://files.example:8080/a",
        "https://files.example:80/a",
        "ftp://files.example/a",
        "http://127.0.0.1/a",
        "http://files.example.evil.example/a",
        "http://2130706433/",
        "http://0x7f.1/a",
        "http://[::ffff:127.0.0.1]/a",
        "http://evil.example\\.files.example/a",
        "http://evil.example#@files.example/a",
    ],
)
async def test_a_url_that_is_not_allowed_is_refused_before_its_name_is_resolved(url):
    async with internet({}) as (_, detour, network):
        with pytest.raises(UnsupportedValue):
            await fetch(network, url)
        assert not detour.connected


@pytest.mark.parametrize(
    "url",
    [
        "http://user@files.example/a",
        "http://user:word@files.example/a",
        "http:///a",
        "http://files.example:x/a",
        "http://[::1/a",
        "http://files.example\\@evil.example/a",
        "http://evil.example\\@files.example/a",
        "http://evil.example#@files.example:x@evil.example/a",
        "http://" + "x" * 70 + ".example/",
        "http://files.example/" + "x" * 9000,
    ],
)
async def test_what_is_no_url_is_refused(url):
    async with internet({}) as (_, detour, network):
        with pytest.raises(InvalidRequest):
            await fetch(network, url)
        assert not detour.connected


async def test_a_url_cannot_add_lines_to_the_request():
    async with internet({"/a%20b%0D%0AX:y": page(b"data")}) as (server, _, network):
        with contextlib.suppress(InvalidRequest):
            await fetch(network, "http://files.example/a b\r\nX:y")
        assert all("\nX:y" not in head for head in server.asked)


PRIVATE = [
    "127.0.0.1",
    "10.0.0.7",
    "169.254.169.254",
    "::1",
    "fd00:ec2::254",
    "::ffff:192.168.0.1",
    "100.64.0.9",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_an_allowed_name_with_an_address_that_is_not_public_is_not_reached(address):
    async with internet({}, {"files.example": [[address]]}) as (_, detour, network):
        with pytest.raises(UnsupportedValue, match="not public"):
            await fetch(network)
        assert not detour.connected


async def test_one_address_that_is_not_public_among_others_is_enough_to_refuse():
    async with internet({}, {"mixed.example": [[PUBLIC, "10.0.0.1"]]}) as (_, detour, network):
        with pytest.raises(UnsupportedValue, match="not public"):
            await fetch(network, "http://mixed.example/a")
        assert not detour.connected


async def test_a_name_that_changes_its_address_is_connected_where_it_was_checked():
    names = {"rebinding.example": [[PUBLIC], ["127.0.0.1"]]}
    async with internet({"/a": page(b"data")}, names) as (_, detour, network):
        assert await fetch(network, "http://rebinding.example/a") == b"data"
        assert detour.connected == [PUBLIC]
        with pytest.raises(UnsupportedValue, match="not public"):
            await fetch(network, "http://rebinding.example/a")
        assert detour.connected == [PUBLIC]


async def test_the_next_address_is_tried_where_the_first_does_not_answer():
    async with internet({"/a": page(b"data")}, {"other.example": [["8.8.8.8", PUBLIC]]}) as (
        _,
        detour,
        network,
    ):
        assert await fetch(network, "http://other.example/a") == b"data"
        assert detour.connected == ["8.8.8.8", PUBLIC]


async def test_a_redirect_is_followed_to_an_allowed_host_only():
    pages = {
        "/a": page(b"", "302 Found", Location="/b"),
        "/b": page(b"", "307 Temporary Redirect", Location="//files.example/c"),
        "/c": page(b"data"),
        "/evil": page(b"", "302 Found", Location="http://evil.example/"),
        "/port": page(b"", "302 Found", Location="http://files.example:6379/"),
        "/file": page(b"", "302 Found", Location="file:///etc/passwd"),
        "/literal": page(b"", "301 Moved", Location="http://169.254.169.254/latest"),
    }
    async with internet(pages) as (_, detour, network):
        assert await fetch(network) == b"data"
        for path in ("evil", "port", "file", "literal"):
            with pytest.raises(UnsupportedValue):
                await fetch(network, f"http://files.example/{path}")
        assert set(detour.connected) == {PUBLIC}


async def test_a_redirect_to_an_allowed_name_of_a_private_address_is_not_followed():
    pages = {"/a": page(b"", "302 Found", Location="http://inside.example:8080/")}
    async with internet(pages, {"inside.example": [["10.0.0.8"]]}) as (_, detour, network):
        with pytest.raises(UnsupportedValue, match="not public"):
            await fetch(network)
        assert detour.connected == [PUBLIC]


async def test_redirects_are_followed_a_few_times_only():
    async with internet({"/a": page(b"", "302 Found", Location="/a")}) as (server, _, network):
        with pytest.raises(InvalidRequest, match="redirects more than 3 times"):
            await fetch(network)
        assert len(server.asked) == 4


async def drip(writer: asyncio.StreamWriter) -> None:
    await send_slowly(writer, b"HTTP/1.1 200 OK\r\n\r\n", b"x")


async def slow_head(writer: asyncio.StreamWriter) -> None:
    await send_slowly(writer, b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n")


async def send_slowly(writer: asyncio.StreamWriter, begin: bytes, piece: bytes) -> None:
    writer.write(begin)
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.02)  # a host that keeps sending, too slowly to finish in time


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("manner", [drip, silence, slow_head])
async def test_a_host_that_takes_its_time_is_given_up(manner):
    async with internet({"/a": manner}) as (server, _, network):
        started = time.monotonic()
        with pytest.raises(InvalidRequest, match=r"within 0\.3 s"):
            await fetch(network, timeout_s=0.3)
        assert time.monotonic() - started < scaled(3)
        await until(lambda: manner is silence or not server.open)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 4096)
        await writer.drain()


async def test_an_endless_file_is_cut_off_at_the_limit():
    async with internet({"/a": endless}) as (_, _, network):
        with pytest.raises(InvalidRequest, match="larger than 1000 bytes"):
            await fetch(network)


async def test_a_length_over_the_limit_is_believed_at_once():
    async with internet({"/a": b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"}) as (_, _, network):
        with pytest.raises(InvalidRequest, match="larger than 1000 bytes"):
            await fetch(network)


async def test_the_files_of_a_request_have_an_allowance_together():
    async with internet({"/a": page(b"x" * 600)}) as (_, _, network):
        allowance = Allowance(1000)
        assert len(await fetch(network, allowance=allowance)) == 600
        with pytest.raises(InvalidRequest, match="together"):
            await fetch(network, allowance=allowance)


@pytest.mark.parametrize(
    "answer",
    [
        page(b"short")[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"SSH-2.0-server\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        page(b"no", "404 Not Found"),
        page(b"no", "500 Oops"),
        page(b"part", "206 Partial Content"),
        page(b"", "302 Found"),
        page(b"x", Content_Encoding="gzip"),
    ],
)
async def test_an_answer_that_is_no_whole_file_is_the_caller_s_error(answer):
    async with internet({"/a": answer}) as (_, _, network):
        with pytest.raises(InvalidRequest):
            await fetch(network)


async def test_bytes_beyond_the_announced_length_are_not_read():
    async with internet({"/a": page(b"data") + b"more"}) as (_, _, network):
        assert await fetch(network) == b"data"


class Held:
    """A resolver that answers nobody before `free` is set; `asked`: the hosts, in order."""

    def __init__(self) -> None:
        self.asked = []
        self.free = asyncio.Event()

    async def addresses(self, host, port):
        self.asked.append(host)
        await self.free.wait()
        return [PUBLIC]


async def test_one_request_takes_a_part_of_the_turns_however_many_files_it_wants():
    async with internet({"/a": page(b"data")}) as (_, detour, _):
        names = Held()
        downloader = Downloader(AllowedHosts("*"), 10.0, PinnedNetwork(names.addresses, detour))
        mine, other = Allowance(10_000), Allowance(10_000)
        slow = [asyncio.create_task(downloader.fetch(f"http://{i}.slow/a", 9, mine)) for i in range(32)]
        await let_tasks_run()
        slow.append(asyncio.create_task(downloader.fetch("http://other/a", 9, other)))
        await let_tasks_run()
        assert names.asked == [*(f"{i}.slow" for i in range(8)), "other"]
        names.free.set()
        assert await asyncio.gather(*slow) == [b"data"] * 33
        await downloader.close()


async def test_waiting_for_a_turn_counts_as_time_that_a_file_takes():
    async with internet({}) as (_, detour, _):
        names = Held()
        downloader = Downloader(AllowedHosts("*"), 0.2, PinnedNetwork(names.addresses, detour))
        allowance = Allowance(10_000)
        for _ in range(8):
            await allowance.turns.acquire()
        with pytest.raises(InvalidRequest, match=r"did not arrive within 0\.2 s"):
            await downloader.fetch("http://slow/a", 9, allowance)
        assert names.asked == [], "its time was over before its turn came"
        await downloader.close()


async def test_a_name_that_does_not_resolve_or_answer_is_the_caller_s_error():
    async with internet({}, {"other.example": [["8.8.8.8"]]}) as (_, _, network):
        for url in ("http://inside.example:8080/a", "http://other.example/a"):
            with pytest.raises(InvalidRequest):
                await fetch(network, url)


async def test_a_host_that_is_no_name_for_the_system_is_the_caller_s_error():
    network = PinnedNetwork(NameResolver(1).addresses, Detour(RawServer({})))
    with pytest.raises(InvalidRequest):
        await fetch(network, "http://a\0b/", hosts=AllowedHosts("*"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "2130706433", "0x7f.1", "127.1"])
async def test_the_system_s_resolver_gives_no_way_to_this_machine(host):
    detour = Detour(RawServer({}))
    network = PinnedNetwork(NameResolver(1).addresses, detour)
    with pytest.raises((UnsupportedValue, httpcore.ConnectError)):
        await network.connect_tcp(host, 80)
    assert not detour.connected
