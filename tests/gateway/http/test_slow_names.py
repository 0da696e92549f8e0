"""What names that take long to resolve cost those who do not need them: nothing."""

import asyncio
import socket
import threading

import pytest

from tests.gateway.suite import open_suite, wait_until

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


class SlowNameServer:
    """In place of the system's resolver: answers names that begin with "slow" only when `gate` is open."""

    def __init__(self):
        self.asked = []
        self.gate = threading.Event()
        self._ask_system = socket.getaddrinfo

    def getaddrinfo(self, host, port, *args, **kwargs):
        self.asked.append(host)
        if not host.startswith("slow"):
            return self._ask_system("127.0.0.1", port, *args, **kwargs)
        self.gate.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")


@pytest.fixture
def names(monkeypatch):
    server = SlowNameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    monkeypatch.setattr("services.gateway.workers.discovery._FIRST_LOOK_S", 0.05)
    yield server
    server.gate.set()


async def test_slow_names_of_media_and_of_a_pool_delay_neither_chats_nor_other_pools(names):
    async with open_suite(
        more_decodes=("slow-pool:5", "quick-pool:6"), allowed_media_hosts="*", discovery_seconds=0.01
    ) as suite:
        urls = [{"type": "image_url", "image_url": {"url": f"http://slow{i}/a.png"}} for i in range(32)]
        chats = [{"messages": [{"role": "user", "content": urls}]} for _ in range(4)]
        waiting = [asyncio.create_task(suite.chat(**body)) for body in chats]
        await wait_until(lambda: len([name for name in names.asked if name.startswith("slow")]) >= 9)
        async with asyncio.timeout(20):
            answer = await suite.chat(tools=TOOLS)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
        before = names.asked.count("quick-pool")
        await wait_until(lambda: names.asked.count("quick-pool") > before + 2)
        assert not any(task.done() for task in waiting)
        names.gate.set()
        refused = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in refused] == [400] * 4
