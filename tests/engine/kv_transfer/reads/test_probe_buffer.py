import zlib

import numpy as np

from services.engine.kv_transfer.agents.pool_device import Host
from services.engine.kv_transfer.reads.checksum import entry_checksums
from services.engine.kv_transfer.reads.probe_buffer import ProbeBuffer

HOST = Host()


def test_the_probe_of_another_incarnation_has_another_checksum():
    assert ProbeBuffer(HOST, "a").crc32 == ProbeBuffer(HOST, "a").crc32 != ProbeBuffer(HOST, "b").crc32


def test_a_landing_buffer_starts_empty():
    buffer = ProbeBuffer(HOST)
    assert buffer.crc32 == zlib.crc32(bytes(buffer.region.total_bytes))


def test_the_region_covers_the_bytes_that_are_summed():
    buffer = ProbeBuffer(HOST, "a")
    entries = np.arange(buffer.region.entry_count, dtype=np.int32)
    assert entry_checksums(buffer.region, entries, len(entries)) == [buffer.crc32]
