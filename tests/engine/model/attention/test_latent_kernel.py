"""The compiled attention loop against softmax written down plainly."""

from __future__ import annotations

import platform

import pytest
import torch

from services.engine.kv_cache.kv_format import BFLOAT16
from services.engine.model.attention.latent_kernel import LatentKernel
from services.engine.model.attention.page_views import PageViews
from services.engine.model.attention.paged_attention import PagedAttention
from services.engine.model.attention.tiled_attention import TiledAttention
from services.engine.native import library as native
from services.engine.native import sources
from tests.engine.model.attention.test_paged_attention import ITEMS, KEY, LATENT, case

CPU = torch.device("cpu")


def attention(heads, threads=1):
    kernel = LatentKernel.available(heads, LATENT, KEY, CPU)
    if kernel is None:
        pytest.skip("nothing can be compiled here: see the log")
    torch.set_num_threads(threads)
    return PagedAttention(TiledAttention(), batch_decode=True, kernel=kernel)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("heads", [1, 3, 4, 20])
def test_a_mixed_batch_is_softmax_attention(heads, threads):
    batch, query, pages, expected = case(ITEMS, heads)
    compiled = attention(heads, threads)
    plan = compiled.plan(batch)
    assert plan.kernel is not None
    found = compiled.attend(query, PageViews(pages, LATENT), 1, plan)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 20.0, -20.0])
def test_scores_of_any_size_are_softmax_attention(shift):
    batch, query, pages, _ = case([(200, 1), (0, 90)], heads=4)
    query[..., :8] += shift
    compiled, plain = attention(4), PagedAttention(TiledAttention(), batch_decode=False)
    views = PageViews(pages, LATENT)
    found = compiled.attend(query, views, 1, compiled.plan(batch))
    torch.testing.assert_close(found, plain.attend(query, views, 1, plain.plan(batch)), rtol=1e-3, atol=1e-4)


def test_a_token_has_the_same_bits_alone_as_in_any_batch():
    items = [(0, 130), (63, 1), (0, 1), (70, 61)]
    batch, query, pages, _ = case(items, heads=3)
    compiled, views = attention(3), PageViews(pages, LATENT)
    together = compiled.attend(query, views, 1, compiled.plan(batch))
    row = 0
    for (first, count), sequence in zip(items, batch.sequences, strict=True):
        for token in range(count):
            alone = compiled.kernel.plan([(first + token, 1, sequence.pages)])
            found = compiled.kernel.attend(query[row : row + 1], pages, 1, alone)
            assert torch.equal(found[0], together[row])
            row += 1


def test_slots_behind_a_token_do_not_matter():
    batch, query, pages, _ = case(ITEMS, heads=3)
    compiled = attention(3)
    before = compiled.attend(query, PageViews(pages, LATENT), 1, compiled.plan(batch))
    for sequence in batch.sequences:
        used = sequence.context_len % 64
        if used:
            pages[sequence.pages[-1], :, used:] = float("nan")
    after = compiled.attend(query, PageViews(pages, LATENT), 1, compiled.plan(batch))
    assert torch.equal(before, after)


def test_narrow_pages_take_the_other_way():
    batch, *_ = case(ITEMS, heads=3)
    assert attention(3).plan(batch, BFLOAT16).kernel is None


@pytest.mark.parametrize("sizes", [(20, 32), (24, 36), (2048, 2080)])
def test_odd_sizes_are_not_taken(sizes):
    assert LatentKernel.available(3, *sizes, CPU) is None


@pytest.mark.parametrize("found", [None, "/bin/false"])
def test_without_a_working_compiler_there_is_none_and_the_log_says_so(found, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(native, "library_directory", lambda: tmp_path)
    monkeypatch.setattr(sources.shutil, "which", lambda name: found)
    assert native.library.__wrapped__() is None
    assert "no compiled loops" in capsys.readouterr().out


def test_the_library_is_compiled_once(monkeypatch, tmp_path):
    if native.library() is None:
        pytest.skip("nothing can be compiled here: see the log")
    monkeypatch.setattr(native, "library_directory", lambda: tmp_path)
    assert native.library.__wrapped__() is not None
    made = list(tmp_path.iterdir())
    monkeypatch.setattr(native.subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert native.library.__wrapped__() is not None
    assert list(tmp_path.iterdir()) == made


def test_what_was_compiled_elsewhere_needs_no_compiler(made_before):
    if not sources._REQUIRED.get(platform.machine(), frozenset()) <= sources.processor_flags():
        pytest.skip("it does not run on this processor")
    loops = native.library.__wrapped__()
    kernel = LatentKernel(loops, 3, LATENT, KEY)
    assert kernel._keeps_rows()


def test_what_was_compiled_elsewhere_is_left_alone_by_an_older_processor(made_before, monkeypatch):
    monkeypatch.setattr(sources, "_REQUIRED", {platform.machine(): frozenset({"avx2", "a-new-thing"})})
    assert native.library.__wrapped__() is None
