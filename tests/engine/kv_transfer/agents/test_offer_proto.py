import pytest

from perigee.v1 import worker_pb2
from services.common.errors import Incompatible
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.offer_proto import (
    offer_from_proto,
    offer_to_proto,
    report_from_proto,
    report_to_proto,
)
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport

OFFER = Offer(
    agent_name="decode-1",
    agent_metadata=b"\x00\xff",
    regions=(
        Region(RegionKind.KV, (1 << 47) + 64, 147_456, 250_000, 3, "VRAM"),
        Region(RegionKind.EMBEDDING, 4096, 512, 9),
        Region(RegionKind.PROBE, 8192, 65_536, 16),
    ),
    probe_crc32=0xFFFF_FFFF,
    incarnation="decode-abc",
)


def test_an_offer_survives_the_wire():
    wire = offer_to_proto(OFFER).SerializeToString()
    assert offer_from_proto(worker_pb2.MemoryOffer.FromString(wire)) == OFFER


def test_a_report_survives_the_wire():
    report = TransportReport("rc_mlx5", 42.5, True)
    wire = report_to_proto(report).SerializeToString()
    assert report_from_proto(worker_pb2.TransportReport.FromString(wire)) == report


def test_an_unknown_kind_of_region_is_incompatible():
    message = offer_to_proto(OFFER)
    message.regions[1].kind = worker_pb2.REGION_KIND_UNSPECIFIED
    with pytest.raises(Incompatible, match="unknown kind 0"):
        offer_from_proto(message)


def test_an_empty_region_is_incompatible():
    message = offer_to_proto(OFFER)
    message.regions[0].entry_count = 0
    with pytest.raises(Incompatible, match="impossible region"):
        offer_from_proto(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_name": ""},
        {"agent_name": "x" * 101},
        {"agent_metadata": bytes((1 << 20) + 1)},
        {"regions": [*offer_to_proto(OFFER).regions, offer_to_proto(OFFER).regions[0]]},
    ],
)
def test_an_offer_beyond_the_bounds_is_incompatible(changes):
    wire = {"agent_name": "decode-1", "agent_metadata": b"", "regions": offer_to_proto(OFFER).regions}
    with pytest.raises(Incompatible, match="the peer"):
        offer_from_proto(worker_pb2.MemoryOffer(**(wire | changes)))
