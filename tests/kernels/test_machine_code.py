"""What the compiler makes of the kernels at the real shapes, for GPUs that are not here."""

from __future__ import annotations

import pytest
import torch
import triton

from kernels.experts import product_warps
from kernels.launch import why_unsupported
from kernels.machine_code import table
from kernels.machine_code.table import CAPABILITIES, Row, read, sources
from services.common.errors import ConfigError
from services.engine.loading.text import load_kernel_text_model

HOPPER, BLACKWELL = 90, 100


@pytest.fixture(scope="module", params=[HOPPER, BLACKWELL])
def capability(request):
    return request.param


@pytest.fixture(scope="module")
def compiled(capability):
    """Every launch's machine code for the capability, by name."""
    return table.compiled(capability)


def test_the_table_is_of_these_kernels_for_both_tritons_and_all_gpus():
    committed = read()
    assert committed.sources == sources(), "the kernels have changed: run `make sass` and commit its table"
    assert {version[:3] for version in committed.rows} == {"3.6", "3.7"}
    for rows in committed.rows.values():
        assert list(rows) == [str(capability) for capability in CAPABILITIES]


def test_no_kernel_spills_registers_on_any_gpu():
    for rows in read().rows.values():
        assert {name for own in rows.values() for name, row in own.items() if row.spilled} == set()


def test_every_kernel_can_be_launched_and_is_as_in_the_table(compiled, capability):
    rows = read().rows.get(triton.__version__)
    assert rows is not None, f"the table lacks triton {triton.__version__}: add it to TRITONS in the Makefile"
    assert {name: cubin.faults() for name, cubin in compiled.items() if cubin.faults()} == {}
    assert {name: Row.of(cubin) for name, cubin in compiled.items()} == rows[str(capability)]


def test_matrices_are_multiplied_by_instructions_of_warp_groups(compiled, capability):
    whole_tiles = "HGMMA" if capability == HOPPER else "UTCHMMA"
    products = [cubin for name, cubin in compiled.items() if "product_kernel" in name]
    prefill = [cubin for name, cubin in compiled.items() if "prefill_kernel" in name]
    assert len(products) > 8
    assert prefill
    assert all(cubin.counts[whole_tiles] for cubin in (*products, *prefill))
    # Eight heads do not fill the 64 rows of one.
    few, many = (compiled[f"decode attention {layout}: split_kernel"] for layout in ("tp8", "ep8"))
    assert few.counts["HGMMA"] == 0 < few.counts["HMMA"]
    assert (many.counts["HGMMA"] > 0) == (capability == HOPPER)


def test_the_loop_of_the_int4_product_is_found_in_the_machine_code(compiled, capability):
    loop = compiled["experts ep8, 96 tokens: product_kernel"].product_loop
    # On Hopper: gate and up, two halves of 32 inputs each, 16 inputs per instruction.
    assert loop["HGMMA"] == (8 if capability == HOPPER else 0)
    assert (loop["UTCHMMA"] > 0) == (capability == BLACKWELL)
    assert loop["LDGSTS"] > 0


def test_four_warps_would_spill_with_64_pairs_on_blackwell():
    assert [product_warps(64, architecture) for architecture in (9, 10)] == [4, 8]
    assert [product_warps(32, architecture) for architecture in (9, 10)] == [4, 4]


@pytest.fixture
def gpu(monkeypatch):
    """Makes the machine's GPU one of that name and capability."""

    def become(name, capability, hip=None):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.version, "hip", hip)

    return become


@pytest.mark.parametrize("capability", [(9, 0), (10, 0), (10, 3)])
def test_gpus_whose_machine_code_was_read_are_supported(gpu, capability):
    gpu("NVIDIA", capability)
    assert 10 * capability[0] + capability[1] in CAPABILITIES
    assert why_unsupported("cuda:0") is None


@pytest.mark.parametrize(
    ("name", "capability", "hip", "words"),
    [
        ("NVIDIA A100", (8, 0), None, "NVIDIA A100 has compute capability 8.0"),
        ("NVIDIA RTX 5090", (12, 0), None, "NVIDIA RTX 5090 has compute capability 12.0"),
        ("AMD Instinct MI300X", (9, 4), "6.3", "AMD Instinct MI300X is a ROCm device"),
        ("gfx90a", (9, 0), "6.3", "gfx90a is a ROCm device"),
    ],
)
def test_the_model_is_refused_on_any_other_gpu_before_it_is_loaded(
    gpu, tmp_path, name, capability, hip, words
):
    gpu(name, capability, hip)
    with pytest.raises(ConfigError, match=f"device: {words}.*9.0, 10.0, 10.3"):
        load_kernel_text_model(tmp_path / "no checkpoint", True, torch.bfloat16, "cuda:0")
