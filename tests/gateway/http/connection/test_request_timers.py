"""How long a connection may take for what: on the loop's own clock, without a socket."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.gateway.http.connection.request_protocol import _LINGER_S, Patience, RequestProtocol
from services.gateway.waiting import Waiting
from tests.support.virtual_time import advance, idle

pytestmark = pytest.mark.virtual_time
PATIENCE = Patience(header_bytes=2000, header_s=10.0, keep_alive_s=30)
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n"
MOMENT_S = 0.01


class Transport(asyncio.Transport):
    """The server's side of a connection: what was written, and when it was closed."""

    def __init__(self, protocol):
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self.written = b""
        self.closed_after_s = None

    def write(self, data):
        self.written += data

    def write_eof(self):
        pass

    def is_closing(self):
        return self.closed_after_s is not None

    def close(self):
        if self.closed_after_s is None:
            self.closed_after_s = self._loop.time() - self._opened_at
            self._loop.call_soon(self._protocol.connection_lost, None)


class App:
    """Reads a body if `reads`, waits until `allowed`, and answers with nothing."""

    def __init__(self):
        self.reads = True
        self.allowed = asyncio.Event()
        self.allowed.set()

    async def __call__(self, scope, receive, send):
        while self.reads and (await receive()).get("more_body"):
            pass
        await self.allowed.wait()
        head = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b""})


class Connection:
    """A client's side."""

    def __init__(self):
        self.app = App()
        config = uvicorn.Config(
            self.app, lifespan="off", log_config=None, timeout_keep_alive=PATIENCE.keep_alive_s
        )
        self._protocol = RequestProtocol(
            PATIENCE, Waiting(10), config=config, server_state=ServerState(), app_state={}
        )
        self.transport = Transport(self._protocol)
        self._protocol.connection_made(self.transport)

    def send(self, data):
        self._protocol.data_received(data)

    async def drip(self, data, pause_s):
        """One byte after another until the server closes."""
        for byte in data:
            if not self.transport.is_closing():
                self.send(bytes([byte]))
            await advance(pause_s)

    @property
    def answers(self):
        """The statuses of what the server has written."""
        return [int(part[:3]) for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture
async def connection():
    return Connection()


@pytest.mark.parametrize("beginning", [b"GET / HTTP/1.1\r\nx: ", b"G"])
@pytest.mark.parametrize("drips", [True, False])
async def test_headers_that_drip_or_stop_are_refused_in_time(connection, beginning, drips):
    connection.send(beginning)
    dripping = asyncio.create_task(connection.drip(b"E" if beginning == b"G" else b"x" * 60, 1.0))
    if not drips:
        dripping.cancel()
    await advance(PATIENCE.header_s - MOMENT_S)
    assert connection.answers == []
    await advance(2 * MOMENT_S)
    assert connection.answers == [408]
    await advance(_LINGER_S)
    assert connection.transport.closed_after_s == pytest.approx(PATIENCE.header_s + _LINGER_S)
    await dripping if drips else await idle()


async def test_the_time_of_the_headers_is_not_the_bodys(connection):
    connection.send(POST)
    await advance(3 * PATIENCE.header_s)
    connection.send(b"body")
    await idle()
    assert (connection.answers, connection.transport.is_closing()) == ([200], False)


@pytest.mark.parametrize("beginning", [b"", b"\r\n"])
async def test_a_connection_on_which_no_request_begins_is_closed_without_a_word(connection, beginning):
    await connection.drip(beginning * 20, 1.0)
    await advance(PATIENCE.header_s + MOMENT_S)
    assert connection.transport.written == b""
    assert connection.transport.closed_after_s == pytest.approx(PATIENCE.header_s)


async def test_an_idle_connection_is_closed_and_one_that_is_used_stays(connection):
    for _ in range(3):
        connection.send(GET)
        await advance(PATIENCE.keep_alive_s - MOMENT_S)
        assert not connection.transport.is_closing()
    connection.send(GET)
    await advance(PATIENCE.keep_alive_s + MOMENT_S)
    assert connection.answers == [200] * 4
    assert connection.transport.is_closing()


async def test_a_connection_whose_request_is_being_answered_is_closed_by_no_timer(connection):
    connection.send(GET)
    await idle()
    connection.app.allowed.clear()
    connection.send(GET)
    await advance(100 * PATIENCE.keep_alive_s)
    assert (connection.answers, connection.transport.is_closing()) == ([200], False)
    connection.app.allowed.set()
    await idle()
    assert connection.answers == [200, 200]


async def test_a_body_whose_request_is_answered_already_is_read_for_a_while_only(connection):
    connection.app.reads = False
    connection.send(POST + b"bo")
    await connection.drip(b"d", _LINGER_S - MOMENT_S)
    assert (connection.answers, connection.transport.is_closing()) == ([200], False)
    await advance(2 * MOMENT_S)
    assert connection.transport.closed_after_s == pytest.approx(_LINGER_S)


async def test_a_body_that_ends_after_its_answer_leaves_the_connection_open(connection):
    connection.app.reads = False
    connection.send(POST + b"bo")
    await advance(_LINGER_S - MOMENT_S)
    connection.send(b"dy")
    await advance(_LINGER_S)
    connection.send(GET)
    await idle()
    assert (connection.answers, connection.transport.is_closing()) == ([200, 200], False)
