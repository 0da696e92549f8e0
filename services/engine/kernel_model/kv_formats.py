"""The KV formats of the kernels."""

from __future__ import annotations

from services.engine.kv_cache.kv_format import BFLOAT16, KvFormat

KERNEL_FORMATS: tuple[KvFormat, ...] = (BFLOAT16,)
"""The formats that the kernels write and read. The kernels multiply pages with weights without conversion,
so both have the same dtype.
"""
