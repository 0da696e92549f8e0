import zlib

import numpy as np
import pytest

from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.reads.checksum import entry_checksums, first_mismatch


@pytest.fixture
def memory():
    return np.random.default_rng(3).integers(0, 256, (20, 48), dtype=np.uint8)


def region_of(memory, **changes):
    values = {"entry_bytes": memory.shape[1], "entry_count": memory.shape[0], **changes}
    return Region(RegionKind.KV, memory.ctypes.data, **values)


def test_a_run_of_scattered_entries_is_summed_in_the_given_order(memory):
    entries = np.array([7, 8, 9, 2, 19, 0], dtype=np.int32)
    sums = entry_checksums(region_of(memory), entries, run=3)
    assert sums == [zlib.crc32(memory[7:10].tobytes()), zlib.crc32(memory[[2, 19, 0]].tobytes())]


def test_runs_of_one_entry_are_summed_apart(memory):
    sums = entry_checksums(region_of(memory), np.array([4, 5], dtype=np.int32), run=1)
    assert sums == [zlib.crc32(memory[4].tobytes()), zlib.crc32(memory[5].tobytes())]


def test_no_entries_have_no_checksums(memory):
    assert entry_checksums(region_of(memory), np.array([], dtype=np.int32), run=4) == []


@pytest.mark.parametrize(("entries", "run"), [([0, 1, 2], 2), ([20], 1), ([-1], 1), ([0], 0)])
def test_entries_that_do_not_fit_are_refused(memory, entries, run):
    with pytest.raises(ValueError, match=r"runs of|outside"):
        entry_checksums(region_of(memory), np.array(entries, dtype=np.int32), run)


def test_device_memory_is_refused(memory):
    with pytest.raises(ValueError, match="host memory"):
        entry_checksums(region_of(memory, memory_type="VRAM"), np.array([0], dtype=np.int32), 1)


def test_the_first_differing_run_is_named():
    assert first_mismatch([1, 2, 3], [1, 9, 9]) == 1
    assert first_mismatch([1], [1]) is None
