"""What the real agent makes of NIXL's habits."""

import os
import sys
import types

import numpy as np
import pytest

from services.common.errors import ConfigError
from services.engine.kv_transfer.agents import nixl_agent
from services.engine.kv_transfer.agents.agent import AgentError
from services.engine.kv_transfer.agents.nixl_agent import NixlAgent
from services.engine.kv_transfer.agents.pool_device import Host
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.reads.probe_buffer import ProbeBuffer

pytest.importorskip("nixl")


@pytest.fixture
def agent():
    agent = NixlAgent(f"agent-{os.urandom(4).hex()}")
    agent.open()
    yield agent
    agent.close()


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_closing_destroys_the_native_agent_even_when_somebody_keeps_a_handle(agent):
    before = open_files()
    other = NixlAgent("other")
    other.open()
    buffer = ProbeBuffer(Host(), "x")
    kept = [other.register(buffer.region), other.prepare_local(buffer.region)]
    native = open_files() - before
    assert native > 5
    assert other.live_handles == 2
    other.close()
    other.close()
    assert open_files() - before < native / 2
    assert kept


def test_garbage_metadata_is_an_agent_error(agent):
    with pytest.raises(AgentError, match="add a peer"):
        agent.add_peer(b"garbage")


def test_memory_that_is_not_registered_cannot_be_read(agent):
    with pytest.raises(AgentError, match="prepare a list"):
        agent.prepare_remote(agent.name, ProbeBuffer(Host()).region)


def test_removing_a_stranger_is_harmless(agent):
    agent.remove_peer("nobody")


def test_an_unknown_backend_option_is_a_configuration_error():
    agent = NixlAgent("misconfigured", {"num_workers": "many"})
    with pytest.raises(ConfigError, match="many"):
        agent.open()


def test_entries_beyond_four_gibibytes_have_their_own_addresses(agent):
    # Reserved address space of 6 GiB, of which only two entries are ever touched.
    entry_bytes, count = 1 << 20, 6 * 1024
    memory = np.zeros((count, entry_bytes), dtype=np.uint8)
    memory[5000] = 7
    region = Region(RegionKind.KV, memory.ctypes.data, entry_bytes, count)
    agent.register(region)
    local, remote = agent.prepare_local(region), agent.prepare_remote(agent.name, region)
    numbers = np.array([5999], dtype=np.int32), np.array([5000], dtype=np.int32)
    transfer = agent.make_read(local, numbers[0], remote, numbers[1])
    state = agent.post(transfer)
    while state.value != "done":
        agent.poll()
        state = agent.check(transfer)
    assert agent.release(transfer)
    assert (memory[5999] == 7).all()
    assert not memory[5999 - 4096].any()


class WithoutNixl:
    def find_spec(self, name, path=None, target=None):
        if name == "nixl":
            raise ModuleNotFoundError("No module named 'nixl'", name="nixl")


def test_without_the_package_that_chooses_a_backend_the_one_for_machines_without_cuda_is_taken(monkeypatch):
    backend = pytest.importorskip("nixl_cu13._api")
    monkeypatch.setattr(sys, "meta_path", [WithoutNixl(), *sys.meta_path])
    for name in ("nixl", "nixl._api"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert nixl_agent._api() is backend


def test_a_broken_package_is_not_taken_for_a_missing_one(monkeypatch):
    monkeypatch.delitem(sys.modules, "nixl._api", raising=False)
    monkeypatch.setitem(sys.modules, "nixl", types.ModuleType("nixl"))
    with pytest.raises(ModuleNotFoundError, match=r"nixl\._api"):
        nixl_agent._api()
