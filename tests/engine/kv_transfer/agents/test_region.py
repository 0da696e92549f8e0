import pytest

from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import Region, RegionKind


def test_a_region_beyond_four_gibibytes_keeps_its_size():
    assert Region(RegionKind.KV, 1 << 46, 147_456, 61 * 4096).total_bytes == 147_456 * 61 * 4096


@pytest.mark.parametrize(
    "changes",
    [
        {"base_address": 0},
        {"entry_bytes": 0},
        {"entry_count": -1},
        {"device_id": -1},
        {"entry_count": 2**31},
        {"base_address": 2**64 - 127},
        {"entry_bytes": 2**63},
        {"memory_type": "DISK"},
    ],
)
def test_an_impossible_region_is_refused(changes):
    values = {"kind": RegionKind.KV, "base_address": 4096, "entry_bytes": 64, "entry_count": 2, **changes}
    with pytest.raises(ValueError, match=r"region|memory_type"):
        Region(**values)


def test_an_offer_finds_its_regions_by_kind():
    region = Region(RegionKind.EMBEDDING, 4096, 64, 2)
    offer = Offer("agent", b"", (region,), 0, "incarnation")
    assert offer.region(RegionKind.EMBEDDING) is region
    assert offer.region(RegionKind.KV) is None
