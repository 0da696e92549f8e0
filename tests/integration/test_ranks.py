"""Workers whose model is shared by several processes: groups of different size in prefill and decode."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
import torch

from services.common.errors import ConfigError
from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.ranks.rank_plan import RankPlan
from tests.support.decode_client import DecodeClient
from tests.support.rank_groups import start_ranks
from tests.support.waiting import wait_until

FLAGS = {"prefill": {"tp": 2}, "decode": {"tp": 4}}
NUM_TOKENS = 24
# Transfers do not depend on groups: one transport is enough.
pytestmark = pytest.mark.parametrize("transport", ["default"], indirect=True)


@pytest.fixture(scope="module")
def prompts():
    draw = random.Random(31)
    return [[draw.randrange(2048) for _ in range(length)] for length in (1, 63, 64, 65, 200, 700)]


def test_groups_generate_the_tokens_of_a_plain_loop(workers, decode_client, reference, prompts):
    submitted = [
        decode_client.submit(prompt, NUM_TOKENS, [workers.address("prefill")], logprobs=True)[1]
        for prompt in prompts
    ]
    for prompt, outcome in zip(prompts, submitted, strict=True):
        assert outcome.done.wait(120)
        assert outcome.error is None
        assert outcome.tokens[0] == reference.greedy(prompt, NUM_TOKENS)
        text = reference.model.config
        page_bytes = text.num_hidden_layers * PAGE_TOKENS * text.kv_width * 4
        assert outcome.stats.transfer_bytes == -(-(len(prompt) - 1) // PAGE_TOKENS) * page_bytes


def test_what_was_read_is_in_the_cache_of_the_whole_group(workers, decode_client, reference, prompts):
    longer = prompts[-1] + prompts[0]
    outcome = decode_client.generate(longer, NUM_TOKENS, [workers.address("prefill")])
    assert outcome.stats.cached_tokens >= len(prompts[-1]) // PAGE_TOKENS * PAGE_TOKENS
    assert outcome.tokens[0] == reference.greedy(longer, NUM_TOKENS)


def test_a_group_that_lost_a_rank_ends_and_leaves_no_process_behind(workers, prompts):
    process = workers.processes["decode"]
    listed = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [child for path in listed for child in path.read_text().split()]
    ranks = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(ranks) == 3
    os.kill(int(ranks[1]), signal.SIGKILL)
    channel = workers.channel("decode")
    client = DecodeClient(channel)
    client.submit(prompts[3], NUM_TOKENS, [workers.address("prefill")])
    assert process.wait(60) != 0
    channel.close()
    # The kernel ends them some time after their parent.
    wait_until(lambda: not any(Path(f"/proc/{child}/exe").exists() for child in children), 30)


def test_a_group_that_the_model_cannot_be_split_over_does_not_start(nano_dir, transport):
    plan = RankPlan(8, nano_dir, True, torch.float32, FLOAT32, 1, 4)
    with pytest.raises(ConfigError, match=r"8 ranks does not divide .*b_proj"):
        start_ranks(plan)
    assert not multiprocessing.active_children()
