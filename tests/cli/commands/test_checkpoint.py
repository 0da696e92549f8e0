"""`perigee checkpoint`: a dry run of the published checkpoint, and small ones whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from services.cli.main import main
from services.decode.config import DecodeConfig
from services.engine.loading.memory_plan import plan_memory
from services.engine.model.architectures import load_config
from services.engine.weights.headers import INDEX_NAME, read_headers, shard_names

LAYER = "language_model.model.layers.7.mlp.experts.3."


@pytest.fixture(scope="module")
def published(shared_dir, tmp_path_factory):
    """Headers of all 64 shards, no weights."""
    directory = tmp_path_factory.mktemp("published") / "checkpoint"
    config = shared_dir / "data" / "kimi-k2.5" / "config.json"
    assert main(["checkpoint", "random", str(directory), "--config", str(config), "--header-only"]) == 0
    return directory


def rewrite_header(path, change):
    """Edits a shard's header in place: it keeps its length, the data stay where they are."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        change(header)
        text = json.dumps(header, separators=(",", ":")).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))


def test_a_sparse_checkpoint_of_all_published_tensors_is_accepted(published, capsys):
    names = shard_names(published)
    assert (names[0], names[-1]) == (
        "model-00001-of-000064.safetensors",
        "model-00064-of-000064.safetensors",
    )
    assert sum(path.stat().st_blocks * 512 for path in published.iterdir()) < 100_000_000
    assert main(["checkpoint", "verify", str(published), "--tp", "8", "--gpu-memory", "141"]) == 0
    output = capsys.readouterr().out
    assert "208,550 tensors in 64 shards, 595,148,192,736 bytes" in output
    assert "memory plan of one rank of 8" in output


@pytest.mark.parametrize(
    ("split", "pages"),
    [
        ([], {"decode": "11,", "prefill": "12,", "aggregated": "11,"}),
        (["--dp-attention"], {"decode": "9,", "prefill": "9,", "aggregated": "9,"}),
        (["--dp-attention", "--expert-parallel"], {"decode": "9,", "prefill": "9,", "aggregated": "9,"}),
    ],
)
def test_the_plan_says_how_many_pages_each_role_takes_by_itself(published, capsys, split, pages):
    flags = ["--tp", "8", "--gpu-memory", "141", *split]
    assert main(["checkpoint", "verify", str(published), *flags]) == 0
    output = capsys.readouterr().out
    for role, start in pages.items():
        assert re.search(rf"^ +{start}\d+  {role}: [67]\d\d,\d+ tokens", output, re.MULTILINE), output


VERIFY = """
import sys
from services.cli.main import main
from services.cli.process_memory import peak_resident_bytes
status = main(["checkpoint", "verify", sys.argv[1]])
print(peak_resident_bytes())
sys.exit(status)
"""


def test_a_checkpoint_of_another_architecture_is_refused_by_name(tmp_path, capsys):
    config = {"model_type": "kimi_k3", "architectures": ["KimiK3ForConditionalGeneration"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["checkpoint", "verify", str(tmp_path)]) == 1
    sentence = "model_type is 'kimi_k3' (KimiK3ForConditionalGeneration); served: kimi_k25"
    assert capsys.readouterr().err == f"perigee checkpoint: {tmp_path}/config.json: {sentence}\n"


def test_the_check_takes_bounded_time_and_memory(published):
    before = time.monotonic()
    # A process of its own, which says what it took: what the kernel says of children begins at the size
    # of this one.
    command = [sys.executable, "-c", VERIFY, str(published)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert time.monotonic() - before < 60
    assert int(output.splitlines()[-1]) < 1_000_000_000


def test_a_deleted_a_renamed_and_a_misshapen_tensor_are_named(published, tmp_path, capsys):
    for path in published.iterdir():
        if path.name.startswith("model-00008"):
            (tmp_path / path.name).write_bytes(path.open("rb").read(8_000_000))
            with (tmp_path / path.name).open("r+b") as file:
                file.truncate(path.stat().st_size)
        else:
            (tmp_path / path.name).symlink_to(path)

    def change(header):
        del header[f"{LAYER}gate_proj.weight_scale"]
        header[f"{LAYER}up_proj.weight_pakced"] = header.pop(f"{LAYER}up_proj.weight_packed")
        header[f"{LAYER}down_proj.weight_packed"]["shape"] = [256, 7168]

    rewrite_header(tmp_path / "model-00008-of-000064.safetensors", change)
    assert main(["checkpoint", "verify", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    for finding in (
        f"{LAYER}gate_proj.weight_scale is missing",
        f"{LAYER}up_proj.weight_packed is missing",
        f"{LAYER}up_proj.weight_pakced does not belong to this model",
        f"{LAYER}down_proj.weight_packed has shape [256, 7168], expected [7168, 256]",
    ):
        assert finding in output


def test_every_finding_is_spelt_out_and_once(nano_dir, tmp_path, capsys):
    config = json.loads((nano_dir / "config.json").read_text())
    assert main(["checkpoint", "random", str(tmp_path / "a"), "--config", str(nano_dir / "config.json")]) == 0
    config["text_config"]["n_routed_experts"] = 64
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    assert main(["checkpoint", "verify", str(tmp_path / "a")]) == 1
    output = capsys.readouterr().out
    # 56 more experts in three layers, and their routers' rows.
    findings = [line for line in output.splitlines() if line.startswith("  ")]
    assert len(findings) == len(set(findings)) == 3 * (56 * 3 + 2)


def test_a_key_of_the_configuration_that_is_not_sane_is_named(nano_dir, tmp_path, capsys):
    config = json.loads((nano_dir / "config.json").read_text())
    config["text_config"]["scoring_func"] = "softmax"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["checkpoint", "verify", str(tmp_path)]) == 1
    assert "text_config.scoring_func is 'softmax'" in capsys.readouterr().err


def test_the_embedded_checkpoint_is_accepted(nano_dir):
    assert main(["checkpoint", "verify", str(nano_dir)]) == 0


def test_a_shard_that_is_cut_off_is_named(nano_dir, tmp_path, capsys):
    for path in nano_dir.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / shard_names(tmp_path)[0]
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 1)
    assert main(["checkpoint", "verify", str(tmp_path)]) == 1
    assert f"{shard} is cut off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--tp", "3", "--gpu-memory", "141"], "over 3 ranks does not divide language_model"),
        (["--tp", "0", "--gpu-memory", "141"], "--tp: must be 1 to 1,024, is 0"),
        (["--tp", "2", "--gpu-memory", "0.001"], "--gpu-memory 0.001"),
        (["--tp", "2"], "--tp goes together with"),
        (["--gpu-memory", "141"], "--tp goes together with"),
        (["--read-rank", "0"], "--tp goes together with"),
        (["--dp-attention"], "--expert-parallel and --dp-attention apply to several GPUs"),
        (["--tp", "2", "--read-rank", "2"], "has ranks 0 to 1, not 2"),
        (["--tp", "3", "--read-rank", "0"], "over 3 ranks does not divide language_model"),
    ],
)
def test_a_plan_or_a_reading_that_cannot_be_made_says_why(nano_dir, flags, named, capsys):
    assert main(["checkpoint", "verify", str(nano_dir), *flags]) == 2
    assert named in capsys.readouterr().err


@pytest.fixture
def int4(nano_dir, tmp_path):
    directory = tmp_path / "int4"
    config = str(nano_dir / "config.json")
    assert main(["checkpoint", "random", str(directory), "--config", config, "--int4"]) == 0
    return directory


def test_reading_a_ranks_share_takes_the_bytes_that_the_plan_gives_it(int4, capsys):
    flags = ["--tp", "2", "--gpu-memory", "8", "--read-rank", "1"]
    assert main(["checkpoint", "verify", str(int4), *flags]) == 0
    output = capsys.readouterr().out
    plan = plan_memory(load_config(int4), DecodeConfig(tp=2).shape_on("cuda"), 8 * 10**9)
    assert f"rank 1 of 2 read its share: {plan.split + plan.replicated:,} bytes in " in output
    assert re.search(r"[\d.]+ GB/s; 4 readers took at most [\d,]+ bytes of memory", output)


def test_a_share_with_a_tensor_that_contradicts_another_is_not_as_it_should_be(int4, capsys):
    header = read_headers(int4)[f"{LAYER.replace('.7.', '.3.')}down_proj.weight_shape"]
    with (int4 / header.shard).open("r+b") as file:
        file.seek(header.start)
        file.write(bytes(8))
    assert main(["checkpoint", "verify", str(int4)]) == 0
    assert main(["checkpoint", "verify", str(int4), "--tp", "2", "--read-rank", "0"]) == 1
    assert "down_proj.weight_shape says [0, 0]" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["--int4", "--bf16"])
def test_a_random_checkpoint_is_what_its_configuration_says_and_the_same_each_time(nano_dir, tmp_path, kind):
    config = str(nano_dir / "config.json")
    for name, more in (("a", ()), ("b", ()), ("other", ("--seed", "1")), ("three", ("--shards", "3"))):
        assert main(["checkpoint", "random", str(tmp_path / name), "--config", config, kind, *more]) == 0
        assert main(["checkpoint", "verify", str(tmp_path / name)]) == 0
    # Four layers; embedding, norm and head; projector; tower.
    assert (len(shard_names(tmp_path / "a")), len(shard_names(tmp_path / "three"))) == (7, 3)
    packed = any(name.endswith("weight_packed") for name in read_headers(tmp_path / "a"))
    assert packed == (kind == "--int4")
    assert (tmp_path / "a" / INDEX_NAME).read_bytes() == (tmp_path / "other" / INDEX_NAME).read_bytes()
    for shard in shard_names(tmp_path / "a"):
        assert (tmp_path / "a" / shard).read_bytes() == (tmp_path / "b" / shard).read_bytes()
        assert (tmp_path / "a" / shard).read_bytes() != (tmp_path / "other" / shard).read_bytes()


def test_a_directory_that_holds_something_is_not_written_to(nano_dir, capsys):
    config = str(nano_dir / "config.json")
    assert main(["checkpoint", "random", str(nano_dir), "--config", config]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_too_many_shards_are_refused_by_name(nano_dir, tmp_path, capsys):
    config = str(nano_dir / "config.json")
    assert main(["checkpoint", "random", str(tmp_path), "--config", config, "--shards", "9999"]) == 2
    assert "--shards must be from 1 to" in capsys.readouterr().err
