"""That it is known when a kernel is compiled."""

from __future__ import annotations

from triton import knobs

from services.engine.kernel_model.compilation import before_compilation


def test_it_is_called_through_tritons_hook_and_compilation_goes_on(monkeypatch):
    monkeypatch.setattr(knobs.runtime, "jit_cache_hook", None)
    calls = []
    before_compilation(lambda: calls.append("compiled"))
    hook = knobs.runtime.jit_cache_hook
    assert not hook(key="k", repr="r", fn=None, compile={}, is_manual_warmup=False, already_compiled=False)
    assert calls == ["compiled"]
