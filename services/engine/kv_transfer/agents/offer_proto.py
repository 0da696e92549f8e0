"""Converts offers and transport reports to and from protobuf messages."""

from __future__ import annotations

from perigee.v1 import worker_pb2
from services.common.errors import Incompatible
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport

_KINDS = {
    RegionKind.KV: worker_pb2.REGION_KIND_KV,
    RegionKind.EMBEDDING: worker_pb2.REGION_KIND_EMBEDDING,
    RegionKind.PROBE: worker_pb2.REGION_KIND_PROBE,
}
_MAX_NAME = 100
_MAX_METADATA_BYTES = 1 << 20
_KINDS_BY_NUMBER = {number: kind for kind, number in _KINDS.items()}


def offer_to_proto(offer: Offer) -> worker_pb2.MemoryOffer:
    """The offer as a message, for the first message of a handshake."""
    regions = [
        worker_pb2.MemoryRegion(
            kind=_KINDS[region.kind],
            base_address=region.base_address,
            entry_bytes=region.entry_bytes,
            entry_count=region.entry_count,
            device_id=region.device_id,
            memory_type=region.memory_type,
        )
        for region in offer.regions
    ]
    return worker_pb2.MemoryOffer(
        agent_name=offer.agent_name,
        agent_metadata=offer.agent_metadata,
        regions=regions,
        probe_crc32=offer.probe_crc32,
        incarnation=offer.incarnation,
    )


def offer_from_proto(message: worker_pb2.MemoryOffer) -> Offer:
    """The offer in a message. Raises Incompatible for values that no worker of this version sends."""
    if not 0 < len(message.agent_name) <= _MAX_NAME:
        raise Incompatible(f"the peer's agent name has {len(message.agent_name)} characters")
    if len(message.agent_metadata) > _MAX_METADATA_BYTES:
        raise Incompatible(
            f"the peer's agent metadata has {len(message.agent_metadata)} bytes, more than"
            f" {_MAX_METADATA_BYTES}"
        )
    kinds = [region.kind for region in message.regions]
    if len(set(kinds)) != len(kinds):
        raise Incompatible("the peer offers two regions of one kind")
    return Offer(
        agent_name=message.agent_name,
        agent_metadata=message.agent_metadata,
        regions=tuple(_region_from_proto(region) for region in message.regions),
        probe_crc32=message.probe_crc32,
        incarnation=message.incarnation,
    )


def report_to_proto(report: TransportReport) -> worker_pb2.TransportReport:
    """The report as a message, for WorkerInfo."""
    return worker_pb2.TransportReport(
        transport=report.transport, gigabytes_per_second=report.gigabytes_per_second, rdma=report.rdma
    )


def report_from_proto(message: worker_pb2.TransportReport) -> TransportReport:
    """The report in a message of WorkerInfo."""
    return TransportReport(message.transport, message.gigabytes_per_second, message.rdma)


def _region_from_proto(message: worker_pb2.MemoryRegion) -> Region:
    kind = _KINDS_BY_NUMBER.get(message.kind)
    if kind is None:
        raise Incompatible(f"the peer offers a region of unknown kind {message.kind}")
    try:
        return Region(
            kind,
            message.base_address,
            message.entry_bytes,
            message.entry_count,
            message.device_id,
            message.memory_type,
        )
    except ValueError as error:
        raise Incompatible(f"the peer offers {error}") from error
