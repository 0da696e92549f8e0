"""`perigee run` itself: four real processes of the embedded checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.listening import descendants, is_loopback, listening
from tests.support.traffic import Traffic, mixture
from tests.support.waiting import until, wait_until

COMMAND = [sys.executable, "-m", "services.cli.main"]
ANY_PORTS = [
    f"--{name}=0" for name in ("http-port", "grpc-port", "operator-port", "port-base", "metrics-port-base")
]


class Suite:
    """A running `perigee run`, what it printed so far, and its children."""

    def __init__(self, run_dir, *arguments):
        self.run_dir = run_dir
        command = [*COMMAND, "run", "--run-dir", str(run_dir), *ANY_PORTS, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self._read()), daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            yield line.rstrip()

    def until(self, pattern, timeout_s=120.0):
        """The first match of `pattern` in a line printed so far or soon."""
        found = []

        def is_settled():
            # Asked first: a process that has ended prints nothing after its lines were searched.
            ended = self.process.poll() is not None and not self._reader.is_alive()
            found[:] = filter(None, (re.search(pattern, line) for line in list(self.lines)))
            return found or ended

        with contextlib.suppress(AssertionError):
            wait_until(is_settled, timeout_s)
        assert found, f"no {pattern!r} in:\n" + "\n".join(self.lines)
        return found[0]

    def children(self):
        """Process id by role."""
        found = {}
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            for pid in map(int, file.read().split()):
                found[role_of(pid)] = pid
        return found

    def workers(self, role):
        """Process ids of a role: of two while one replaces the other."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return {pid for pid in map(int, file.read().split()) if role_of(pid) == role}

    def count(self, role, what):
        """How many lines about a role say so."""
        return sum(line.split()[:1] == [role] and what in line for line in list(self.lines))

    def end(self, number):
        """Sends a signal; the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=120)
        self._reader.join(5)
        return status


def role_of(pid):
    """Of a child of the suite; "" while it is not the command yet or any more."""
    with contextlib.suppress(FileNotFoundError, IndexError), open(f"/proc/{pid}/cmdline") as words:
        return words.read().split("\0")[3]
    return ""


@pytest.fixture
def suite(nano_dir, tmp_path):
    suite = Suite(tmp_path / "run", "--model", str(nano_dir))
    yield suite
    suite.process.kill()
    suite.process.wait()


def until_gone(pids):
    wait_until(lambda: all(state(pid) == "Z" for pid in pids), 60)


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def refused_beside(suite, model):
    """A second suite with logs in the same place does not start, and leaves them alone."""
    sizes = {path: path.stat().st_size for path in suite.run_dir.glob("*.log")}
    second = Suite(suite.run_dir, "--model", str(model))
    try:
        assert second.process.wait(timeout=120) == 2
    finally:
        second.process.kill()
    second.until(rf"process {suite.process.pid}\) is running with its logs in .*--run-dir", 5)
    assert len(sizes) == 4
    assert all(path.stat().st_size >= size for path, size in sizes.items())


def test_the_suite_starts_answers_survives_a_crash_and_stops(suite, nano_dir):
    suite.until("Perigee is ready")
    url = suite.until(r"REST +(\S+)").group(1)
    address = suite.until(r"gRPC +(\S+)").group(1)
    with urllib.request.urlopen(f"{url}/models", timeout=60) as answer:
        assert b"kimi-nano" in answer.read()
    asked = subprocess.run(
        [*COMMAND, "chat", "Hello", "--address", address, "--max-tokens", "16", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "16 generated" in asked.stderr
    refused_beside(suite, nano_dir)
    reached = {
        (role, *where)
        for role, pid in suite.children().items()
        for each in descendants(pid)
        for where in listening(each)
    }
    assert {role for role, *_ in reached} == {"vision", "prefill", "decode", "gateway"}
    assert [each for each in sorted(reached) if not is_loopback(each[2])] == []
    before = suite.children()
    assert sorted(before) == ["decode", "gateway", "prefill", "vision"]
    os.kill(before["prefill"], signal.SIGKILL)
    suite.until(r"prefill +ended \(killed by SIGKILL\); restarting")
    wait_until(lambda: sum("prefill" in line and "ready in" in line for line in suite.lines) == 2, 120)
    after = suite.children()
    assert after["prefill"] != before["prefill"]
    own = ["--run-dir", str(suite.run_dir)]
    state = {each["role"]: each for each in json.loads(perigee("status", "--json", *own).stdout)["services"]}
    assert {role: each["pid"] for role, each in state.items()} == after
    assert (state["prefill"]["starts"], state["decode"]["starts"]) == (2, 1)
    restarted = perigee("restart", "vision", "gateway", *own).stdout
    assert re.search(r"vision: successor ready in .*\n(.*\n)*gateway: ready in", restarted)
    assert "serving" in perigee("logs", "vision", "--level", "info", *own).stdout
    stopped = perigee("stop", *own).stdout.splitlines()
    assert (stopped[0].split(",")[0], stopped[-1]) == ("waiting for gateway", "stopped")
    assert suite.process.wait(timeout=60) == 0
    until_gone(after.values())
    assert not (suite.run_dir / "suite.json").exists()
    assert (suite.run_dir / "prefill.log").is_file()


def last_event(url, ready):
    """The last event of a long stream; `ready` is released when it has begun."""
    body = {
        "model": "kimi-nano",
        "messages": [{"role": "user", "content": "Count."}],
        "stream": True,
        "max_tokens": 30_000,
        "ignore_eos": True,
    }
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    last = b""
    with urllib.request.urlopen(request, timeout=120) as answer:
        for count, line in enumerate(filter(bytes.strip, answer)):
            if count == 5:
                ready.release()
            last = line
    return last.strip().removeprefix(b"data: ")


def test_streams_that_are_too_long_for_the_grace_end_with_an_event_and_the_suite_is_gone(nano_dir, tmp_path):
    settings = tmp_path / "perigee.toml"
    settings.write_text("[gateway]\ngrace_seconds = 1")
    suite = Suite(tmp_path / "run", "--model", str(nano_dir), "--config", str(settings))
    try:
        suite.until("Perigee is ready")
        url, begun = suite.until(r"REST +(\S+)").group(1), threading.Semaphore(0)
        with ThreadPoolExecutor(4) as pool:
            streams = [pool.submit(last_event, url, begun) for _ in range(4)]
            assert all(begun.acquire(timeout=60) for _ in streams)
            children = suite.children()
            assert suite.end(signal.SIGINT) == 0
            errors = [json.loads(stream.result(60)).get("error", {}) for stream in streams]
        assert [error.get("code") for error in errors] == ["shutting_down"] * 4
        until_gone(children.values())
        assert "killed" not in "\n".join(suite.lines)
    finally:
        suite.process.kill()
        suite.process.wait()


def test_no_service_outlives_a_supervisor_that_is_killed(suite):
    suite.until("gateway +loading")
    # What a service logs first comes after it has asked the kernel to share the supervisor's fate.
    logs = [suite.run_dir / f"{role}.log" for role in ("vision", "prefill", "decode", "gateway")]
    wait_until(lambda: all("configuration" in log.read_text() for log in logs), 120)
    children = suite.children()
    assert len(children) == 4
    suite.process.kill()
    suite.process.wait()
    until_gone(children.values())


def test_a_service_that_cannot_start_ends_the_run_with_its_own_words(nano_dir, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((nano_dir / "config.json").read_bytes())
    suite = Suite(tmp_path / "run", "--model", str(broken))
    assert suite.process.wait(timeout=120) != 0
    suite.until(r"did not start \(exit status 2\)", 5)
    suite.until(r"perigee (vision|prefill|decode|gateway): ", 5)


def test_with_certificates_the_suite_starts_in_the_same_way_and_the_greeting_says_how_to_reach_it(
    nano_dir, tmp_path
):
    certs = tmp_path / "certs"
    assert subprocess.run([*COMMAND, "certs", "dev", str(certs)], check=False).returncode == 0
    tls = ["--tls-dir", str(certs), "--public-tls-dir", str(certs / "public")]
    suite = Suite(tmp_path / "run", "--model", str(nano_dir), *tls)
    try:
        suite.until("Perigee is ready")
        url = suite.until(r"REST +(https://\S+)").group(1)
        operators = suite.until(r"operator +(\S+)").group(1)
        chat = suite.until(r'chat "Hello".* --address (\S+) --ca (\S+)')
        trusting = ssl.create_default_context(cafile=chat.group(2))
        with urllib.request.urlopen(f"{url}/models", timeout=60, context=trusting) as answer:
            assert b"kimi-nano" in answer.read()
        asked = perigee(
            "chat", "Hello", "--address", chat.group(1), "--ca", chat.group(2), "--max-tokens", "4"
        )
        assert "4 generated" in asked.stderr
        listed = perigee("workers", "--address", operators, "--tls-dir", str(certs / "operator"))
        assert [line.split()[3] for line in listed.stdout.splitlines()[1:]] == ["mtls"] * 3
        assert "valid_until" in (suite.run_dir / "decode.log").read_text()
        assert suite.end(signal.SIGINT) == 0
    finally:
        suite.process.kill()
        suite.process.wait()


ROLES = ("vision", "prefill", "decode")
AT_A_TIME = 40


@contextlib.asynccontextmanager
async def load(url, bodies):
    """Asks for all bodies at once, each again a second after it is answered, with another cache. Yields the
    answers as they come, with the indices of their bodies.
    """
    answers, done = [], asyncio.Event()
    async with Traffic(url) as traffic:

        async def ask(index):
            while not done.is_set():
                body = bodies[index] | {"cache_salt": str(len(answers))}
                answers.append((index, await traffic.ask(body)))
                await asyncio.sleep(1)  # the cores load models, too

        asking = [asyncio.create_task(ask(index)) for index in range(len(bodies))]
        try:
            yield answers
        finally:
            done.set()
            await asyncio.gather(*asking)


async def replace_under_load(suite, url, bodies):
    """Replaces all workers, and the successor of prefill while it starts."""
    async with load(url, bodies) as answers:
        before = suite.children()
        os.kill(before["prefill"], signal.SIGTERM)
        await until(lambda: len(suite.workers("prefill")) == 2, 60)
        for pid in (max(suite.workers("prefill")), before["decode"], before["vision"]):
            os.kill(pid, signal.SIGTERM)
        for role in ROLES:
            await until(lambda role=role: suite.count(role, "former one has ended (exit status 0)"), 240)
            await until(lambda role=role: len(suite.workers(role)) == 1, 240)
    return before, answers


def test_workers_that_get_sigterm_are_replaced_without_a_request_noticing(nano_dir, tmp_path):
    certs, run_dir = tmp_path / "certs", tmp_path / "run"
    assert subprocess.run([*COMMAND, "certs", "dev", str(certs)], check=False).returncode == 0
    suite = Suite(run_dir, "--model", str(nano_dir), "--tls-dir", str(certs))
    try:
        suite.until("Perigee is ready")
        url = suite.until(r"REST +(\S+)/v1").group(1)
        operators = suite.until(r"operator +(\S+)").group(1)
        bodies = mixture(AT_A_TIME, max_tokens=30)
        expected = asyncio.run(ask_all(url, bodies))
        assert [answer.error for answer in expected] == [None] * AT_A_TIME
        before, answers = asyncio.run(replace_under_load(suite, url, bodies))
        assert {answer.error for _, answer in answers} == {None}
        assert [index for index, answer in answers if answer.text != expected[index].text] == []
        after = suite.children()
        assert set(after.values()) & set(before.values()) == {before["gateway"]}
        listed = perigee("workers", "--address", operators, "--tls-dir", str(certs / "operator"))
        rows = [line.split()[:4] for line in listed.stdout.splitlines()[1:]]
        assert [(role, state, tls) for role, _, state, tls in rows] == [
            (role, "serving", "mtls") for role in ROLES
        ]
        assert {role: address for role, address, *_ in rows} == {
            role: (run_dir / f"{role}.pool").read_text().strip() for role in ROLES
        }
        assert (run_dir / "decode.log").read_text().count('"event": "serving"') == 2
        os.kill(after["prefill"], signal.SIGTERM)
        wait_until(lambda: len(suite.workers("prefill")) == 2, 60)
        both = suite.workers("prefill")
        assert suite.end(signal.SIGINT) == 0
        until_gone([*both, *after.values()])
        assert "killed" not in suite.lines[-1]
    finally:
        suite.process.kill()
        suite.process.wait()


async def ask_all(url, bodies):
    async with Traffic(url) as traffic:
        return await traffic.ask_all(bodies)


def perigee(*words):
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done
