"""A worker that expects RDMA learns at its start that it may not lock its pool, and what to do."""

from __future__ import annotations

import resource

import pytest

from services.common.errors import ConfigError
from services.engine.kv_transfer.agents import locked_memory
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.opening import TransferOpening

MIB = 1 << 20


def pool(mebibytes, memory_type="DRAM"):
    return Region(RegionKind.KV, 4096, MIB, mebibytes, memory_type=memory_type)


@pytest.fixture
def limit(monkeypatch):
    """Sets the limit, of a process that is not root."""

    def set_to(value):
        monkeypatch.setattr(resource, "getrlimit", lambda which: (value, resource.RLIM_INFINITY))
        monkeypatch.setattr(locked_memory, "_ignores_limits", lambda: False)

    return set_to


def test_a_pool_beyond_the_limit_is_refused_with_the_remedy(limit):
    limit(163 * MIB)
    with pytest.raises(ConfigError) as refused:
        locked_memory.check_locked_memory([pool(100)])
    assert "RDMA locks 171,966,464 bytes of memory here" in str(refused.value)
    assert "RLIMIT_MEMLOCK allows 170,917,888" in str(refused.value)
    assert "LimitMEMLOCK=infinity" in str(refused.value)
    assert "IPC_LOCK does nothing" in str(refused.value)


def test_a_pool_within_the_limit_and_any_pool_without_one_are_fine(limit):
    limit(164 * MIB)
    locked_memory.check_locked_memory([pool(100)])
    limit(resource.RLIM_INFINITY)
    locked_memory.check_locked_memory([pool(1 << 20)])


def test_memory_of_a_gpu_does_not_count(limit):
    limit(64 * MIB)
    locked_memory.check_locked_memory([pool(1 << 20, "VRAM")])


def test_only_a_worker_that_expects_rdma_asks(limit):
    limit(0)
    TransferOpening("any", {}, "any")([pool(1)])
    with pytest.raises(ConfigError, match="RLIMIT_MEMLOCK"):
        TransferOpening("rdma", {}, "rdma")([pool(1)])
    with pytest.raises(ConfigError, match="RLIMIT_MEMLOCK"):
        TransferOpening("rdma", {}, "rdma").shared([pool(1)], (), 1)


@pytest.mark.parametrize(("bits", "ignores"), [("0000000000004000", True), ("00000000a80425fb", False)])
def test_the_capability_counts_where_it_is_effective(tmp_path, bits, ignores):
    status = tmp_path / "status"
    status.write_text(f"Name:\tperigee\nCapPrm:\t0000000000000000\nCapEff:\t{bits}\n")
    assert locked_memory._ignores_limits(status) is ignores
