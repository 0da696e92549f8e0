"""The gateways' benchmark measures real streams through real processes; how fast is nothing for a test."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.gateways.__main__ import (
    DIRECT,
    MTLS,
    OURS,
    TLS,
    TRACES,
    Bench,
    Lag,
    Result,
    costs,
    measure,
    ratios,
    table,
)
from benchmarks.gateways.client import Clients, Load


@pytest.fixture(scope="module")
def bench(tmp_path_factory, repository):
    directory = tmp_path_factory.mktemp("gateways")
    with Bench(directory, directory / "nowhere") as bench:
        yield bench


@pytest.mark.parametrize("name", [DIRECT, OURS, MTLS, TLS, TRACES])
def test_every_token_of_every_stream_comes_after_it_was_sent(bench, name, monkeypatch):
    # Few connections: other tests choose free ports meanwhile.
    monkeypatch.setattr("benchmarks.gateways.__main__.STREAMS", (3, 8))
    monkeypatch.setattr("benchmarks.gateways.__main__._COUNT_STREAMS", 4)
    with bench.gateway(name) as target:
        result = asyncio.run(measure(target, bench.stamps, 6, count_s=0.2))
        clients = Clients(target.port, target.model, bench.stamps, target.tls, target.key)
        load = asyncio.run(clients.stream(8, 6))
    assert (len(load.firsts), len(load.lags)) == (8, 8 * 5)
    assert all(0 < lag < 60 for lag in load.firsts + load.lags)
    assert set(result.lags) == {3, 8}
    assert result.requests_per_second > 0
    assert result.rss_mib > 1


def test_a_stream_that_lacks_tokens_is_no_result(bench):
    def three_tokens(*_) -> asyncio.Future[int]:
        answered = asyncio.get_running_loop().create_future()
        answered.set_result(3)
        return answered

    async def ask() -> None:
        clients = Clients(bench.gateway(DIRECT).__enter__().port, "engine", bench.stamps)
        await clients.open(1)
        clients._connections[0].ask = three_tokens
        await clients.stream(1, 5)

    with pytest.raises(RuntimeError, match="not every stream had 5 tokens"):
        asyncio.run(ask())


def test_lags_are_ranked_and_ratios_taken_of_the_same_numbers():
    load = Load([0.001 * number for number in range(100)], [0.001, 0.003, 0.008], 2.0)
    lag = Lag.of(load, cpu_s=0.0103)
    found = (lag.first_ms, lag.p50_ms, lag.p99_ms, lag.finish_s, lag.cpu_us)
    assert found == pytest.approx((3.0, 50.0, 98.0, 2.0, 100.0))
    half = Lag(1.5, 25.0, 49.0, 1.0, 50.0)
    results = {
        "perigee": Result({16: half, 64: half, 256: half}, 1.0, 1.0),
        "sglang-router": Result({16: lag, 64: lag, 256: lag}, 1.0, 1.0),
    }
    assert list(ratios(results).values()) == pytest.approx([0.5] * 4)
    assert "perigee" in table(results)


def test_the_cost_of_certificates_is_the_median_of_the_ratios_of_each_round():
    lags = [Lag(value, value, value, value, value) for value in (1.0, 2.0, 10.0)]
    plain = [Result(dict.fromkeys((16, 64, 256), lags[0]), 8.0, 1.0)] * 3
    secured = [Result(dict.fromkeys((16, 64, 256), lag), 4.0, 1.0) for lag in lags]
    found = costs({OURS: plain, MTLS: secured})
    assert found[f"{MTLS}, 64 streams, p99_ms"] == 2.0
    assert found[f"{MTLS}, seconds per request"] == 2.0
    assert not any(name.startswith(TLS) for name in found)
