"""How many KV pages a worker allocates."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import ConfigError
from services.decode.config import DecodeConfig
from services.engine.loading.memory_plan import plan_memory
from services.engine.serving.page_count import page_count
from services.prefill.config import PrefillConfig
from tests.support.published_model import published_config

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CONFIG = published_config()
H200 = 141_000_000_000


def pages_of(settings, usable=H200):
    return page_count(settings, CONFIG, GPU, lambda device, ranks: usable if ranks == 8 else 0)


def test_by_default_a_gpu_is_filled_with_what_its_plan_leaves_for_pages():
    decode = DecodeConfig(tp=8)
    assert pages_of(decode) == plan_memory(CONFIG, decode.shape_on("cuda"), H200).pages > 11_000


def test_what_is_not_free_or_is_reserved_for_others_is_not_taken():
    whole = pages_of(PrefillConfig(tp=8))
    assert pages_of(PrefillConfig(tp=8, reserved_gb=9.0)) == pytest.approx(whole - 2001, abs=1)
    assert pages_of(PrefillConfig(tp=8), H200 - 9 * 10**9) < whole - 1900


@pytest.mark.parametrize(("config", "pages"), [(PrefillConfig, 512), (DecodeConfig, 1024)])
def test_on_a_cpu_auto_is_a_number_that_any_machine_has_room_for(config, pages):
    assert page_count(config(), CONFIG, CPU) == pages
    assert page_count(config(kv_pages=7), CONFIG, CPU) == 7


def test_more_pages_than_the_machine_has_memory_for_are_refused_with_what_fits():
    with pytest.raises(
        ConfigError, match=r"^kv_pages: 1,000,000,000 pages are asked for; at most [\d,]+ fit"
    ):
        page_count(DecodeConfig(kv_pages=10**9), CONFIG, CPU)


def test_as_many_as_are_asked_for_are_taken_if_they_fit():
    assert pages_of(DecodeConfig(tp=8, kv_pages=12_500)) == 12_500
    with pytest.raises(ConfigError, match=r"^kv_pages: 20,000 pages are asked for; at most 13,\d+ fit"):
        pages_of(DecodeConfig(tp=8, kv_pages=20_000))


@pytest.mark.parametrize("pages", ["auto", 1])
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_amounts_before_it_is_loaded(pages):
    sentence = r"^device: the model does not fit: each of 8 GPUs has 80\.0 GB, its share .* takes 76\.2 GB"
    with pytest.raises(ConfigError, match=sentence):
        pages_of(DecodeConfig(tp=8, kv_pages=pages), 80 * 10**9)
