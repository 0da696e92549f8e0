"""The routes that tell of the server."""

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


LENGTHS = {
    "/v1/models": lambda answer: answer["data"][0]["max_model_len"],
    "/v1/models/kimi": lambda answer: answer["max_model_len"],
    "/model_info": lambda answer: answer["max_model_len"],
    "/server_info": lambda answer: answer["max_model_len"],
    "/tokenizer_info": lambda answer: answer["model_max_length"],
}


async def test_every_page_has_the_context_that_the_workers_serve():
    async with open_suite(context_length=321) as suite:
        found = {path: read((await suite.http.get(path)).json()) for path, read in LENGTHS.items()}
    assert found == dict.fromkeys(LENGTHS, 321)


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
