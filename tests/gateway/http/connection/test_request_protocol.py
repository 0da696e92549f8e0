"""Where a request ends, its framing says: one request, one answer, whatever else it offers or gets wrong."""

import asyncio
import json

import pytest

from tests.gateway.suite import chat_body, wait_until

TOKENIZE = json.dumps({"prompt": "Hi"}).encode()
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
OFFERS = [
    "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk",
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13",
    "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: TLS/1.0, h2c",
]  # fmt: skip


class Client:
    """A socket, and the answers that come out of it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, suite):
        return cls(*await asyncio.open_connection("127.0.0.1", suite.gateway.http_port))

    def send(self, data):
        self.writer.write(data)

    async def answer(self):
        """Status and document of the next answer, whose length is announced."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split("\r\n")[0])
            return int(head.split()[1]), json.loads(await self.reader.readexactly(length))

    async def rest(self):
        """All that comes until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@pytest.fixture
async def client(suite):
    opened = await Client.open(suite)
    yield opened
    opened.writer.close()


def post(body, *lines, path="/tokenize", framed=True):
    head = [f"POST {path} HTTP/1.1", "host: localhost", *lines]
    head += [f"content-length: {len(body)}"] if framed else []
    return "\r\n".join([*head, "", ""]).encode() + body


def chunked(body):
    return (
        b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 5]), body[i : i + 5]) for i in range(0, len(body), 5))
        + b"0\r\n\r\n"
    )


async def test_a_request_that_offers_an_upgrade_is_answered_as_if_it_did_not(client):
    for offer in OFFERS * 2:
        client.send(post(TOKENIZE, offer))
        status, answer = await client.answer()
        assert (status, answer["text"]) == (200, "Hi")


@pytest.mark.parametrize("offer", OFFERS)
async def test_a_body_that_comes_after_an_offer_is_no_second_request(client, received, offer):
    whole = post(SMUGGLED, offer)
    client.send(whole[: -len(SMUGGLED)])
    await wait_until(lambda: received.count == len(whole) - len(SMUGGLED))
    client.send(SMUGGLED)
    status, answer = await client.answer()
    assert status == 400
    assert "not valid JSON" in answer["error"]["message"]
    client.send(post(TOKENIZE, "connection: close"))
    assert (await client.answer())[0] == 200
    assert await client.rest() == b""


async def test_chunks_behind_an_offer_are_its_body(client):
    client.send(post(chunked(TOKENIZE), OFFERS[0], "transfer-encoding: chunked", framed=False))
    client.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n" + OFFERS[1].encode() + b"\r\n\r\n")
    assert (await client.answer())[1]["text"] == "Hi"
    assert (await client.answer())[1]["object"] == "list"


async def test_offers_in_one_segment_are_answered_in_turn(client):
    client.send(b"".join(post(TOKENIZE, offer) for offer in OFFERS * 3))
    for _ in range(9):
        assert (await client.answer())[0] == 200


async def test_an_offer_cut_anywhere_is_read_alike(client, received):
    whole = post(TOKENIZE, OFFERS[0])
    for cut in range(1, len(whole), 7):
        received.count = 0
        client.send(whole[:cut])
        await wait_until(lambda cut=cut: received.count == cut)
        client.send(whole[cut:])
        assert (await client.answer())[0] == 200


async def test_nothing_behind_a_connect_is_a_request(client):
    client.send(b"CONNECT a:80 HTTP/1.1\r\nhost: localhost\r\n\r\n" + SMUGGLED)
    status, answer = await client.answer()
    assert (status, answer["error"]["type"]) == (405, "invalid_request_error")
    client.send(SMUGGLED)
    assert await client.rest() == b""


FAULTS = [
    post(TOKENIZE, "content-length: 3", "transfer-encoding: chunked", framed=False),
    post(chunked(TOKENIZE), "transfer-encoding: chunked"),
    post(TOKENIZE, "content-length: 3"),
    post(TOKENIZE, f"content-length: {len(TOKENIZE)}"),
    post(TOKENIZE, "content-length: +3", framed=False),
    post(chunked(TOKENIZE), "transfer-encoding: chunked, identity", framed=False),
    post(chunked(TOKENIZE), "transfer-encoding:\r\n chunked", framed=False),
    post(chunked(TOKENIZE), "transfer-encoding : chunked", framed=False),
    post(TOKENIZE, "x: a\r\n b"),
    post(TOKENIZE, "x: a").replace(b"\r\n", b"\n"),
    post(TOKENIZE, "x: a\ny: b"),
    post(b"5\nabcde\n0\n\n", "transfer-encoding: chunked", framed=False),
    post(b"5;a\nb\r\nabcde\r\n0\r\n\r\n", "transfer-encoding: chunked", framed=False),
    post(b"5\r\nabcde0\r\n\r\n", "transfer-encoding: chunked", framed=False),
    post(b"fffffffffffffffff\r\nabcde\r\n0\r\n\r\n", "transfer-encoding: chunked", framed=False),
    post(chunked(TOKENIZE)[:-2] + b"content-length: 3\r\n\r\n", "transfer-encoding: chunked", framed=False),
]  # fmt: skip


async def test_a_request_of_doubtful_length_gets_one_answer_and_ends_the_connection(suite):
    for fault in FAULTS:
        client = await Client.open(suite)
        client.send(fault + SMUGGLED)
        status, answer = await client.answer()
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), fault
        assert await client.rest() == b"", fault
        client.writer.close()


async def test_a_transfer_coding_that_is_not_known_is_refused_by_name(suite):
    for coding in ("gzip, chunked", "xchunked"):
        client = await Client.open(suite)
        client.send(post(chunked(TOKENIZE), f"transfer-encoding: {coding}", framed=False) + SMUGGLED)
        status, answer = await client.answer()
        assert status == 501
        assert coding in answer["error"]["message"]
        assert await client.rest() == b""
        client.writer.close()


async def test_garbage_behind_a_request_does_not_cut_into_its_answer(suite, client):
    suite.say("word " * 200)
    suite.decode.step_s = 0.001
    body = json.dumps(chat_body(stream=True, max_tokens=7000)).encode()
    client.send(post(body, path="/v1/chat/completions"))
    await client.reader.readuntil(b"data: ")
    client.send(b"nonsense\r\n\r\n")
    answer = await client.rest()
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"HTTP/1.1" not in answer


async def test_a_broken_request_behind_others_takes_no_answer_from_them(client):
    client.send(post(TOKENIZE) * 2 + FAULTS[-1] + SMUGGLED)
    assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
    assert b"HTTP/1.1 200" not in await client.rest()


async def test_only_so_many_requests_wait_behind_one(suite, client):
    suite.decode.admit.clear()
    body = json.dumps(chat_body()).encode()
    client.send(post(body, path="/v1/chat/completions") + SMUGGLED * 1000)
    await wait_until(lambda: suite.decode.submits)
    suite.decode.admit.set()
    statuses = [(await client.answer())[0] for _ in range(17)]
    assert statuses == [200] * 17
    assert await client.rest() == b""


async def test_white_space_behind_the_value_of_a_header_is_no_part_of_it(client):
    client.send(post(TOKENIZE, "x-request-id: mine \t"))
    async with asyncio.timeout(10):
        head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"x-request-id: mine\r\n" in head.lower()


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.test"]])
async def test_a_request_has_one_host_or_is_malformed(client, hosts):
    lines = ["GET /v1/models HTTP/1.1", *(f"host: {host}" for host in hosts), "", ""]
    client.send("\r\n".join(lines).encode())
    status, answer = await client.answer()
    assert (status, f"this one has {len(hosts)}" in answer["error"]["message"]) == (400, True)
    assert await client.rest() == b"", "what comes behind it is not read"


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.test/v1/models", "localhost", 421),
        ("HTTP://evil.test:80?a=http://localhost/", "localhost", 421),
        ("http://localhost@evil.test/v1/models", "localhost", 421),
        ("http://127.0.0.1:30000/v1/models", "evil.test", 200),
        ("http://localhost", "evil.test", 200),
        ("http://[::1]/v1/models", "evil.test", 200),
        ("/v1/models?next=http://evil.test/", "localhost", 200),
    ],
)
async def test_the_host_of_a_target_that_is_a_url_is_the_requests(client, target, host, status):
    client.send(f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)
