"""A slice of Kimi-K2.5 on a GPU: how near decode steps and prefill are to what the hardware allows.

python -m benchmarks.layer_slice [--dry-run] [--results DIR]

One dense and three MoE layers at full width with random weights, int4 experts. First their logits, at full
width with fewer experts, are compared with the model in plain PyTorch; then decode steps run as CUDA graphs
for many batches and contexts, and prompts in chunks. Limits are the larger of bytes / measured reads and
operations / measured bfloat16 products. Writes `layer_slice.csv` and `layer_slice.md`; exits with 1 where
something is wrong. Without a GPU it says "not run".
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from services.engine.batch import PAGE_TOKENS, BatchItem, ForwardBatch, build_batch
from services.engine.model.config import TextConfig, YarnScaling
from services.engine.model.page_views import PageViews
from services.engine.model.text_model import TextModel
from services.engine.weights.int4 import dequantise
from services.engine.weights.names import text_tensors

if TYPE_CHECKING:
    from kernels.benchmarks.ceilings import Ceilings
    from services.engine.kernel_model.text_model import KernelTextModel

RESULTS = Path("kernels/benchmarks/results")
TOLERANCE = 3e-2
"""Of the norm of the logits: bfloat16 in four layers, against float32."""
CHUNK = 8192
_INT4_BYTES = 9 / 16
_REPLAYS = 20


@dataclass(frozen=True)
class Sizes:
    """`batches` x `contexts` decode steps, `prompts` prefilled; `few` experts where logits are compared."""

    config: TextConfig
    batches: tuple[int, ...] = (1, 16, 64, 100, 256)
    contexts: tuple[int, ...] = (1024, 8192, 32768)
    prompts: tuple[int, ...] = (8192, 32768)
    few: int = 16
    dtype: torch.dtype = torch.bfloat16


KIMI = TextConfig(
    hidden_size=7168,
    num_hidden_layers=4,
    first_k_dense_replace=1,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    num_attention_heads=64,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_routed_experts=384,
    num_experts_per_tok=8,
    n_shared_experts=1,
    norm_topk_prob=True,
    routed_scaling_factor=2.827,
    rms_norm_eps=1e-5,
    rope_theta=50000.0,
    rope_scaling=YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0),
    max_position_embeddings=262144,
    vocab_size=1024,  # the head is no part of the slice
)
TINY = Sizes(
    replace(
        KIMI,
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=64,
        moe_intermediate_size=64,
        num_attention_heads=2,
        q_lora_rank=32,
        kv_lora_rank=64,
        qk_nope_head_dim=16,
        qk_rope_head_dim=16,
        v_head_dim=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=1024,
        vocab_size=64,
    ),
    batches=(2,),
    contexts=(70,),
    prompts=(40,),
    few=2,
    dtype=torch.float32,
)


@dataclass
class Row:
    """One measurement; empty texts are what was not measured."""

    what: str
    verdict: str = ""
    microseconds: str = ""
    limit_microseconds: str = ""
    times_the_limit: str = ""
    host_microseconds: str = ""
    tokens_per_second: str = ""
    note: str = ""


class RandomWeights(Mapping[str, Tensor]):
    """Tensors of a text model made when they are asked for, experts packed as int4."""

    def __init__(self, config: TextConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._shapes = text_tensors(config)
        self._device = device
        self._dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        """The same for the same name."""
        generator = torch.Generator(self._device).manual_seed(sum(name.encode()))
        make = {"device": self._device, "generator": generator}
        weight = name.removesuffix("_packed").removesuffix("_scale")
        rows, *inputs = self._shapes[weight]
        if name.endswith("_packed"):
            words = (rows, inputs[0] // 8)
            return torch.randint(-(2**31), 2**31 - 1, words, dtype=torch.int32, **make)  # type: ignore[call-overload]
        if name.endswith("_scale"):
            scale = torch.rand(rows, inputs[0] // 32, **make)  # type: ignore[call-overload]
            return (scale * 0.4 * inputs[0] ** -0.5).bfloat16()
        values = torch.randn(rows, *inputs, dtype=self._dtype, **make)  # type: ignore[call-overload]
        if name.endswith("e_score_correction_bias"):
            return 0.01 * values.float()
        return values if "norm" in name or "embed" in name else values.mul_(inputs[0] ** -0.5)

    def __contains__(self, name: object) -> bool:
        text = str(name)
        packed = text.endswith("_packed") and ".mlp.experts." in text
        return text.removesuffix("_packed") in self._shapes and (packed or not text.endswith("_packed"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


class Dequantised(Mapping[str, Tensor]):
    """The same weights in float32, experts unpacked."""

    def __init__(self, packed: RandomWeights) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Tensor:
        if f"{name}_packed" not in self._packed:
            return self._packed[name].float()
        words, scale = self._packed[f"{name}_packed"], self._packed[f"{name}_scale"]
        return dequantise(words, scale, torch.empty(len(words), 8 * words.shape[1], device=words.device))

    def __contains__(self, name: object) -> bool:
        return name in self._packed and not str(name).endswith("_packed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Slice:
    """The model on kernels, and pages for its contexts."""

    def __init__(self, sizes: Sizes, device: torch.device, ceilings: Ceilings) -> None:
        self.sizes = sizes
        self.device = device
        self._ceilings = ceilings
        self.rows: list[Row] = []

    def compare(self) -> None:
        """Logits of a prompt and of decode steps behind it, against plain PyTorch in float32."""
        from services.engine.kernel_model.decode_graphs import DecodeGraphs
        from services.engine.kernel_model.text_model import KernelTextModel

        config = replace(
            self.sizes.config,
            n_routed_experts=self.sizes.few,
            num_experts_per_tok=min(self.sizes.few, self.sizes.config.num_experts_per_tok),
        )
        weights = RandomWeights(config, self.device, self.sizes.dtype)
        ours = KernelTextModel(config, weights, deterministic=False)
        plain = TextModel(config, Dequantised(weights), deterministic=False)
        prompts = [list(range(3, 3 + length)) for length in (35, 5)]
        steps = [[BatchItem(prompt, 0, [row], True)] for row, prompt in enumerate(prompts)]
        steps.append([BatchItem([7], len(prompt), [row], True) for row, prompt in enumerate(prompts)])
        pages = self._pages(config, 2)
        exact = self._pages(config, 2).float()
        graphs = DecodeGraphs(ours, pages, _record(self.device), most_rows=2)
        for number, items in enumerate(steps):
            batch = build_batch(items, self.device)
            views = PageViews(pages, config.kv_lora_rank)
            found = graphs.run(batch) if graphs.takes(batch) else ours.forward(batch, pages, views)
            wanted = plain.forward(batch, exact, PageViews(exact, config.kv_lora_rank))
            error = ((found - wanted).norm() / wanted.norm()).item()
            verdict = "right" if error <= TOLERANCE else "WRONG"
            what = f"logits of batch {number}, {self.sizes.few} experts"
            self.rows.append(Row(what, verdict, note=f"error {error:.1e} of {TOLERANCE:.0e}"))

    def time(self) -> None:
        """Decode steps of all batches and contexts, then prompts; what does not fit is said."""
        from services.engine.kernel_model.text_model import KernelTextModel

        weights = RandomWeights(self.sizes.config, self.device, self.sizes.dtype)
        model = KernelTextModel(self.sizes.config, weights, deterministic=False)
        for context in self.sizes.contexts:
            for batch in self.sizes.batches:
                self._try(f"decode B={batch} context={context}", self._decode, model, batch, context)
        for prompt in self.sizes.prompts:
            self._try(f"prefill {prompt} in chunks of {CHUNK}", self._prefill, model, prompt)

    def _try(self, what: str, measure: Callable[..., None], *args: object) -> None:
        row = Row(what)
        self.rows.append(row)
        try:
            measure(row, *args)
        except torch.OutOfMemoryError as error:
            row.note = f"not run: {str(error).splitlines()[0]}"
        except Exception as error:  # noqa: BLE001 - barrier: the other rows are measured all the same
            row.verdict, row.note = "failed", repr(error)

    def _decode(self, row: Row, model: KernelTextModel, batch: int, context: int) -> None:
        from services.engine.kernel_model.decode_graphs import DecodeGraphs

        each = -(-context // PAGE_TOKENS)
        pages = self._pages(model.config, batch * each)
        order = torch.randperm(batch * each).view(batch, each).tolist()
        graphs = DecodeGraphs(model, pages, _record(self.device), most_rows=batch)
        items = [BatchItem([5 + index % 50], context - 1, order[index], True) for index in range(batch)]
        built = build_batch(items, self.device)
        graphs.run(built)
        gpu, host = _times(lambda: graphs.run(built), self.device)
        self._note(row, gpu, self._decode_limit(batch, context), batch)
        row.host_microseconds = f"{1e6 * host:.0f}"

    def _prefill(self, row: Row, model: KernelTextModel, prompt: int) -> None:
        each = -(-prompt // PAGE_TOKENS)
        pages = self._pages(model.config, each)
        views = PageViews(pages, model.config.kv_lora_rank)
        batches: list[ForwardBatch] = []
        for start in range(0, prompt, CHUNK):
            tokens = [5 + place % 50 for place in range(start, min(start + CHUNK, prompt))]
            batches.append(build_batch([BatchItem(tokens, start, list(range(each)), True)], self.device))

        def run() -> None:
            for batch in batches:
                model.forward(batch, pages, views)

        run()
        gpu, host = _times(run, self.device, repeats=3)
        self._note(row, gpu, self._prefill_limit(prompt), prompt)
        row.host_microseconds = f"{1e6 * host:.0f}"

    def _note(self, row: Row, seconds: float, limit: float, tokens: int) -> None:
        row.microseconds, row.limit_microseconds = f"{1e6 * seconds:.0f}", f"{1e6 * limit:.0f}"
        row.times_the_limit = f"{seconds / limit:.2f}"
        row.tokens_per_second = f"{tokens / seconds:.0f}"

    def _pages(self, config: TextConfig, count: int) -> Tensor:
        shape = (count, config.num_hidden_layers, PAGE_TOKENS, config.kv_width)
        generator = torch.Generator(self.device).manual_seed(1)
        return torch.randn(shape, device=self.device, dtype=self.sizes.dtype, generator=generator)

    def _decode_limit(self, batch: int, context: int) -> float:
        """Of bytes: all weights but the experts that nobody chose, with uniform routing, and the latents."""
        config = self.sizes.config
        moe = config.num_hidden_layers - config.first_k_dense_replace
        missed = (1 - config.num_experts_per_tok / config.n_routed_experts) ** batch
        touched = config.n_routed_experts * (1 - missed)
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        num_bytes = 2 * self._dense_weights() + moe * touched * expert * _INT4_BYTES
        num_bytes += 2 * batch * context * config.kv_width * config.num_hidden_layers
        heads, latent = config.num_attention_heads, config.kv_lora_rank
        scores = 2 * batch * context * heads * (config.kv_width + latent) * config.num_hidden_layers
        products = 2 * batch * (self._dense_weights() + moe * config.num_experts_per_tok * expert)
        return self._ceilings.limit_seconds(int(num_bytes), scores + products)

    def _prefill_limit(self, prompt: int) -> float:
        """Of operations: products of every token, and the scores of the expanded form."""
        config = self.sizes.config
        moe = config.num_hidden_layers - config.first_k_dense_replace
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        products = 2 * prompt * (self._dense_weights() + moe * config.num_experts_per_tok * expert)
        per_pair = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
        return self._ceilings.limit_seconds(
            0, products + prompt * prompt * per_pair * config.num_hidden_layers
        )

    def _dense_weights(self) -> int:
        """Weights that every token meets, without embedding, head and routed experts."""
        shapes = text_tensors(self.sizes.config)
        skipped = (".mlp.experts.", "embed_tokens", "lm_head")
        return sum(
            torch.Size(shape).numel()
            for name, shape in shapes.items()
            if not any(part in name for part in skipped)
        )


def _record(device: torch.device) -> Callable[..., object]:
    from services.engine.kernel_model.decode_graphs import CudaGraph

    return CudaGraph if device.type == "cuda" else _Again


class _Again:
    """What a graph is where there is no GPU: the computation, done again."""

    def __init__(self, compute: Callable[[], None]) -> None:
        self.replay = compute


def _times(run: Callable[[], object], device: torch.device, repeats: int = _REPLAYS) -> tuple[float, float]:
    """Seconds on the device, and what the host needs to enqueue it, of the median run."""
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return (time.perf_counter() - began,) * 2
    gpu, host = [], []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        began = time.perf_counter()
        start.record()
        run()
        end.record()
        host.append(time.perf_counter() - began)
        torch.cuda.synchronize()
        gpu.append(start.elapsed_time(end) / 1e3)
    return statistics.median(gpu), statistics.median(host)


def measure(sizes: Sizes, device: torch.device, ceilings: Ceilings) -> list[Row]:
    """All rows."""
    made = Slice(sizes, device, ceilings)
    made.compare()
    made.time()
    return made.rows


def write(rows: list[Row], facts: Mapping[str, str], directory: Path) -> str:
    """`layer_slice.csv` and `layer_slice.md`; returns the latter."""
    names = [field.name for field in fields(Row)]
    lines = [*(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(asdict(row)[name] for name in names) + " |" for row in rows]
    text = "\n".join([*lines, ""])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "layer_slice.md").write_text(text)
    with (directory / "layer_slice.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    return text


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer_slice", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes in Triton's interpreter, no GPU")
    parser.add_argument("--results", type=Path, default=None)
    options = parser.parse_args(argv)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    elif not torch.cuda.is_available():
        print("layer slice: not run: torch sees no CUDA device here")
        return 0
    # Late, because they import triton.
    from kernels.benchmarks.ceilings import Ceilings
    from kernels.benchmarks.timer import ClockTimer, GraphTimer

    if options.dry_run:
        sizes, device, name = TINY, torch.device("cpu"), "dry run in Triton's interpreter, tiny sizes"
        ceilings = Ceilings.measure(ClockTimer(), device, programs=1, side=64)
        where = options.results or Path("benchmarks/results/dry-run")
    else:
        sizes, device = Sizes(KIMI), torch.device("cuda", 0)
        name = torch.cuda.get_device_name()
        ceilings = Ceilings.measure(GraphTimer(), device, programs=16384, side=8192)
        where = options.results or RESULTS / name.lower().replace(" ", "-")
    with torch.inference_mode():
        rows = measure(sizes, device, ceilings)
    facts = {
        "device": name,
        "torch": torch.__version__,
        "reads": f"{ceilings.bandwidth / 1e9:,.0f} GB/s",
        "bfloat16 products": f"{ceilings.rate / 1e12:,.1f} TFLOP/s",
    }
    print(write(rows, facts, where))
    return int(any(row.verdict in ("WRONG", "failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
