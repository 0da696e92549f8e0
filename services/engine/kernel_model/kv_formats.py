"""The KV formats of the kernels."""

from __future__ import annotations

from services.engine.kv_cache.kv_format import BFLOAT16, KvFormat

KERNEL_FORMATS: tuple[KvFormat, ...] = (BFLOAT16,)
"""Those that the kernels write and read. They multiply pages with weights as they are, so both have one
dtype.
"""
