"""Transfers are counted by peer, and peers are few."""

from prometheus_client import CollectorRegistry

from services.common.telemetry.peer_transfers import PeerTransfers


def test_each_peer_has_its_bytes_and_seconds():
    transfers, registry = PeerTransfers(), CollectorRegistry()
    registry.register(transfers)
    transfers.note("a:1", 1000, 0.5, 0.1, failed=False)
    transfers.note("a:1", 500, 0.25, 0.2, failed=True)
    transfers.note("b:1", 7, 1.0, 0.0, failed=False)

    def value(name, peer):
        return registry.get_sample_value(f"perigee_kv_{name}_total", {"peer": peer})

    assert value("transfers", "a:1") == 2
    assert value("transfer_failures", "a:1") == 1
    assert value("transfer_peer_bytes", "a:1") == 1500
    assert value("transfer_busy_seconds", "a:1") == 0.75
    assert round(value("transfer_exposed_seconds", "a:1"), 6) == 0.3
    assert (value("transfers", "b:1"), value("transfer_peer_bytes", "b:1")) == (1, 7)


def test_the_peer_that_was_read_longest_ago_is_forgotten():
    transfers, registry = PeerTransfers(), CollectorRegistry()
    registry.register(transfers)
    for port in range(64):
        transfers.note(f"a:{port}", 1, 1.0, 0.0, failed=False)
    transfers.note("a:0", 1, 1.0, 0.0, failed=False)
    transfers.note("new:1", 1, 1.0, 0.0, failed=False)
    shown = {sample.labels["peer"] for family in registry.collect() for sample in family.samples}
    assert len(shown) == 64
    assert "a:1" not in shown
    assert {"a:0", "new:1"} <= shown
