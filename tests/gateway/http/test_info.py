"""The routes that tell of the server, and the one that flushes."""

import time

import pytest

from tests.gateway.suite import CONTEXT_LENGTH, open_suite, wait_until


@pytest.mark.parametrize("path", ["/model_info", "/get_model_info"])
async def test_the_model_is_described_as_sglang_s_scripts_ask_for_it(suite, path):
    info = (await suite.http.get(path)).json()
    assert info["model_path"] == info["tokenizer_path"]
    assert info["model_path"].endswith("kimi-nano")
    assert info["served_model_name"] == "kimi"
    assert info["is_generation"] is info["has_image_understanding"] is True
    assert info["max_model_len"] == CONTEXT_LENGTH


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
async def test_the_server_lists_its_workers_and_has_what_sglang_s_scripts_look_for(suite, path):
    info = (await suite.http.get(path)).json()
    assert "decode" not in info
    assert info["internal_states"] == [{}]
    assert [(worker["role"], worker["state"]) for worker in info["workers"]] == [
        ("vision", "serving"),
        ("prefill", "serving"),
        ("decode", "serving"),
    ]
    assert info["workers"][2]["free_pages"] == 100


async def test_a_worker_that_is_away_is_listed_without_load(suite):
    await suite.workers["decode0"].stop()
    await wait_until(lambda: suite.gateway.pool.missing_roles())
    worker = (await suite.http.get("/server_info")).json()["workers"][2]
    assert (worker["role"], worker["state"]) == ("decode", "unreachable")
    assert "running" not in worker
    assert (await suite.http.get("/ready")).status_code == 503


@pytest.mark.parametrize(("method", "path"), [("GET", "/flush_cache"), ("POST", "/flush_cache"),
                                              ("POST", "/reset_prefix_cache")])  # fmt: skip
async def test_a_flush_reaches_every_worker(suite, method, path):
    answer = await suite.http.request(method, path, params={"timeout": 60})
    assert answer.status_code == 200
    assert answer.json() == {"pages": 9, "embeddings": 3, "idle": True}
    assert [server.worker.flushed for server in suite.workers.values()] == [1, 1, 1]


async def test_a_flush_waits_for_running_requests_as_long_as_it_is_told(suite):
    import asyncio

    suite.decode.admit.clear()
    running = asyncio.create_task(suite.chat())
    await wait_until(lambda: suite.decode.submits)
    started = time.monotonic()
    answer = await suite.http.post("/flush_cache?timeout=0.2")
    assert answer.json()["idle"] is False
    assert time.monotonic() - started >= 0.2
    waiting = asyncio.create_task(suite.http.post("/flush_cache?timeout=20"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    suite.decode.admit.set()
    assert (await waiting).json()["idle"] is True
    assert (await running).status_code == 200


@pytest.mark.parametrize("timeout", ["-1", "soon", "nan", "1e9"])
async def test_a_flush_with_a_wrong_timeout_is_refused(suite, timeout):
    answer = await suite.http.post("/flush_cache", params={"timeout": timeout})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "timeout"


async def test_a_flush_names_the_workers_it_did_not_reach(suite):
    await suite.workers["prefill"].stop()
    answer = await suite.http.post("/flush_cache")
    assert answer.status_code == 503
    assert suite.workers["prefill"].address in answer.json()["error"]["message"]
    assert suite.workers["decode0"].worker.flushed == 1


async def test_operators_routes_can_be_left_out():
    async with open_suite(admin_routes=False) as suite:
        assert (await suite.http.post("/flush_cache")).status_code == 404
        assert "/flush_cache" not in (await suite.http.get("/openapi.json")).json()["paths"]
