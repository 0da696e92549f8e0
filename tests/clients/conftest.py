"""The suites that the clients talk to, and what each client says of them."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.client import Client
from tests.clients.environment import Environment
from tests.clients.script import Report, check
from tests.support.stack import Stack


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--clients", action="store_true", help="install the clients and run their scripts")
    parser.addoption(
        "--stall", type=float, metavar="SECONDS", help="stop workers for so long under the clients"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without `--clients` nothing is installed: these tests take minutes."""
    needs = {"test_clients.py": "clients", "test_stalls.py": "stall"}.get(collection_path.name)
    return True if needs and not config.getoption(needs, default=None) else None


@pytest.fixture(scope="session")
def nano(repository: Path) -> Path:
    """kimi-nano, which knows the answers that the scripts expect."""
    return repository / "models" / "kimi-nano"


@pytest.fixture(scope="session")
def suite(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One process of each role."""
    with Stack(nano, tmp_path_factory.mktemp("suite")) as stack:
        stack.start()
        yield stack


@pytest.fixture(scope="session")
def full_gateway(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a gateway with as many requests as it may have: one, whose answer nobody reads."""
    flags = {"max_concurrent_requests": 1, "prefill": "", "vision": ""}
    with Stack(nano, tmp_path_factory.mktemp("full"), {"gateway": flags}) as stack:
        stack.start("decode", "gateway")
        # 16,000 tokens with 20 alternatives each are more than the connection's buffers take.
        body = {"model": "kimi-nano", "messages": [{"role": "user", "content": "Hi"}], "stream": True,
                "ignore_eos": True, "max_tokens": 16_000, "logprobs": True, "top_logprobs": 20}  # fmt: skip
        asked = urllib.request.Request(
            f"{stack.base_url}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            answer.readline()
            yield stack.base_url


@pytest.fixture(scope="session")
def environment_of(repository: Path) -> Callable[[Client], Environment]:
    """Returns a client's environment, installed."""

    def prepare(client: Client) -> Environment:
        environment = Environment(client, repository / ".run" / "clients")
        environment.prepare()
        return environment

    return prepare


@pytest.fixture(scope="session")
def reports_of(
    suite: Stack, full_gateway: str, environment_of: Callable[[Client], Environment]
) -> Callable[[Client], dict[str, Report]]:
    """Returns what a client's script says, run on first use."""
    known: dict[Client, dict[str, Report]] = {}

    def reports(client: Client) -> dict[str, Report]:
        if client not in known:
            known[client] = check(environment_of(client), suite.base_url, full_gateway)
        return known[client]

    return reports
