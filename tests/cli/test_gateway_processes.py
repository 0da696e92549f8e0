"""Several gateway processes on one port, for real; a tokenizer is all they serve."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from services.cli.connection.admin_client import AdminClient
from services.cli.run.ports import take_ports
from tests.gateway.access.keys import add_key
from tests.support.endpoints import ENDPOINTS, open_sync_channel
from tests.support.waiting import wait_until

NANO = Path(__file__).resolve().parents[2] / "models" / "kimi-nano"
PATIENCE_S = 60.0


class Started:
    """A gateway of two processes; its log is read as it comes."""

    def __init__(self, log: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "services.cli.main", "gateway", "--processes", "2", *arguments]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stderr=output, stdout=output)

    def lines(self, event: str) -> list[dict]:
        whole, _, _ = self.log.read_text().rpartition("\n")  # the last line may still be being written
        found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def until(self, condition) -> None:
        """Returns when the condition holds; a gateway that ends before fails the test."""

        def holds() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return condition()

        wait_until(holds, PATIENCE_S)


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*arguments):
        started.append(Started(tmp_path / f"{len(started)}.log", *arguments))
        return started[-1]

    yield start
    for gateway in started:
        gateway.process.kill()
        gateway.process.wait()


@pytest.fixture
def gateway(start):
    """Two processes, ready, and their address."""
    gateway = start("--tokenizer", str(NANO), "--http-port", "0", "--grpc-port", "0", "--operator-port", "0")
    gateway.until(lambda: len(gateway.lines("gateway ready")) == 2)
    (line,) = gateway.lines("gateway processes")
    return gateway, f"http://127.0.0.1:{line['http']}"


def tokenize(url):
    return httpx.post(f"{url}/tokenize", json={"prompt": "Hello"}, timeout=20).json()["count"]


def requests_by_process(url):
    page = httpx.get(f"{url}/metrics", timeout=20).text
    found = re.findall(r'perigee_requests_total{door="rest",outcome="ok",process="(\d)"} (\d+)', page)
    return {name: int(count) for name, count in found}


def test_both_serve_the_port_and_either_tells_the_numbers_of_both(gateway):
    _, url = gateway
    asked = 0
    for _ in range(200):  # the kernel deals the connections out by chance
        assert tokenize(url) > 0
        asked += 1
        if len(requests_by_process(url)) == 2:
            break
    counts = requests_by_process(url)
    assert set(counts) == {"0", "1"}
    assert sum(counts.values()) == asked


def test_an_operators_command_is_answered_by_either(gateway):
    gateway, _ = gateway
    (line,) = gateway.lines("gateway processes")
    for _ in range(8):
        with open_sync_channel(f"127.0.0.1:{line['operator']}") as channel:
            assert list(AdminClient(channel).list_workers().workers) == []


def test_a_process_that_is_killed_is_missed_by_nobody_for_long_and_comes_again(gateway):
    gateway, url = gateway
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    gateway.until(lambda: len(gateway.lines("gateway ready")) == 3)
    (ended,) = gateway.lines("gateway process ended")
    assert "SIGKILL" in ended["why"]
    assert all(tokenize(url) > 0 for _ in range(20))


def test_a_signal_ends_all_of_them(gateway):
    gateway, url = gateway
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        tokenize(url)


def test_a_taken_port_is_named_with_its_flag(gateway, start):
    _, url = gateway
    port = url.rpartition(":")[2]
    second = start("--tokenizer", str(NANO), "--http-port", port, "--grpc-port", "0", "--operator-port", "0")
    assert second.process.wait(PATIENCE_S) == 2
    assert re.search(f"{port}.*--http-port", second.log.read_text())


def test_settings_that_no_process_can_serve_end_the_whole(start, tmp_path):
    (port,) = take_ports(ENDPOINTS, "127.0.0.1", 0, 1, "")
    gateway = start(
        "--tokenizer",
        str(tmp_path / "nothing"),
        "--http-port",
        str(port),
        "--grpc-port",
        "0",
        "--operator-port",
        "0",
    )
    assert gateway.process.wait(PATIENCE_S) == 2
    assert "nothing" in gateway.log.read_text()


def test_the_processes_count_a_keys_requests_together(start, tmp_path):
    keys = tmp_path / "keys.json"
    key = add_key(keys, "team", requests_per_minute=6, scopes=["chat", "admin"])
    gateway = start(
        "--tokenizer", str(NANO), "--http-port", "0", "--grpc-port", "0", "--operator-port", "0",
        "--api-keys", str(keys),
    )  # fmt: skip
    gateway.until(lambda: len(gateway.lines("gateway ready")) == 2)
    (line,) = gateway.lines("gateway processes")
    url, headers = f"http://127.0.0.1:{line['http']}", {"x-api-key": key}
    # A connection each: the kernel gives some to either process.
    statuses = [
        httpx.post(f"{url}/tokenize", json={"prompt": "Hi"}, headers=headers, timeout=20).status_code
        for _ in range(40)
    ]
    assert statuses[:6] == [200] * 6
    assert statuses.count(429) >= 33, "a place may become free meanwhile, on a slow machine"
    page = httpx.get(f"{url}/metrics", headers=headers, timeout=20).text
    limited = re.findall(
        r'perigee_key_requests_total\{key="team",outcome="rate_limited",process="\d"\}', page
    )
    assert len(limited) == 2, "both processes have refused some"
