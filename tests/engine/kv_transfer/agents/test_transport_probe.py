import pytest

from services.engine.kv_transfer.agents.transport_probe import from_tables, inferred, rdma_obstacle

READ = "remote memory read by ucp_get*(multi) into host memory from host |"


def table(title, *rows):
    return [f"{title}      |", READ, "Range  | Description |   Config   |", *rows]


def test_the_path_to_a_peer_is_not_the_path_to_oneself():
    rows = [
        *table("a self cfg#0", "0..inf | zero-copy   | self/memory |"),
        *table("a intra-node cfg#1", "0..inf | zero-copy   | cma/memory  |"),
    ]
    assert from_tables(rows, "a", to_self=False) == ("cma", False)
    assert from_tables(rows, "a", to_self=True) == ("self", False)


def test_a_read_by_a_remote_dma_device_is_rdma():
    rows = table("a inter-node cfg#1", "0..inf | zero-copy | rc_mlx5/mlx5_0:1/path0 |")
    assert from_tables(rows, "a", to_self=False) == ("rc_mlx5", True)


def test_one_range_of_sizes_over_tcp_is_a_fallback():
    rows = table(
        "a inter-node cfg#1",
        "0..8184 | copy-out | rc_mlx5/mlx5_0:1 |",
        "8185..inf | zero-copy | 50% on rc_mlx5/mlx5_0:1 and 50% on tcp/eth0 |",
    )
    assert from_tables(rows, "a", to_self=False) == ("rc_mlx5+tcp", False)


def test_emulated_reads_are_no_rdma():
    rows = table("a inter-node cfg#1", "0..inf | software emulation | rc_verbs/mlx5_0:1 |")
    assert from_tables(rows, "a", to_self=False) == ("rc_verbs", False)


def test_a_read_between_the_gpus_of_a_host_is_direct():
    rows = table("a intra-node cfg#1", "0..inf | zero-copy | cuda_ipc/cuda |")
    assert from_tables(rows, "a", to_self=False) == ("cuda_ipc", True)


@pytest.mark.parametrize(
    ("names", "excluded"),
    [
        ("all", False),
        ("cuda,tcp", False),
        ("cuda_ipc,sm", False),
        ("^tcp", False),
        ("tcp", True),
        ("^cuda", True),
    ],
)
def test_device_memory_has_a_direct_path_without_an_rdma_device_unless_ucx_tls_excludes_it(
    tmp_path, names, excluded
):
    obstacle = rdma_obstacle({"UCX_TLS": names}, "VRAM", tmp_path)
    assert (obstacle is not None) == excluded


def test_tables_of_another_agent_say_nothing():
    rows = table("ab inter-node cfg#1", "0..inf | zero-copy | cma/memory |")
    assert from_tables(rows, "a", to_self=False) is None


def test_a_guess_is_marked_and_never_claims_rdma():
    assert inferred({"UCX_TLS": "rc"}) == ("rc (inferred)", False)
    assert inferred({}) == ("ucx (inferred)", False)


@pytest.mark.parametrize(
    ("names", "excluded"),
    [
        ("tcp", True),
        ("^ib", True),
        ("rc,cuda_copy", False),
        ("all", False),
        ("^tcp", False),
        ("sm, rc_x", False),
    ],
)
def test_ucx_tls_may_exclude_rdma(tmp_path, names, excluded):
    (tmp_path / "mlx5_0").mkdir()
    obstacle = rdma_obstacle({"UCX_TLS": names}, infiniband=tmp_path)
    assert (obstacle is not None) == excluded


def test_a_machine_without_a_device_cannot_do_rdma(tmp_path):
    assert "no RDMA device" in (rdma_obstacle({}, infiniband=tmp_path) or "")
    assert "no RDMA device" in (rdma_obstacle({}, infiniband=tmp_path / "absent") or "")


def test_a_name_that_ucx_cut_short_is_still_ours():
    rows = table("prefill-a4691aa16198433cba1d532 self cfg#0", "0..inf | zero-copy | cma/memory |")
    assert from_tables(rows, "prefill-a4691aa16198433cba1d532cda4b575b", to_self=True) == ("cma", False)
