"""One training step: gradients of a batch, two optimisers, load balancing of the routers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.data.batch import NO_TARGET, Rows
from training.model.model import TrainedModel
from training.run.adam import Adam
from training.run.muon import Muon
from training.run.ranks import Ranks

_NO_PRODUCTS = ("embed_tokens", "lm_head", "mlp.gate.weight", "pos_emb", "patch_embed.proj", "head.")
BALANCE_RATE = 1e-3


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of matrices and of everything else."""

    muon: float
    adam: float


class Optimisers:
    """Muon for the matrices of a model's products, Adam for everything else."""

    def __init__(
        self,
        model: nn.Module,
        ranks: Ranks = Ranks(),  # noqa: B008 - it cannot change
    ) -> None:
        self._model = model
        named = dict(model.named_parameters())
        matrices = {name for name, value in named.items() if value.ndim in (2, 3)}
        matrices -= {name for name in named if any(part in name for part in _NO_PRODUCTS)}
        self.muon = Muon({name: value for name, value in named.items() if name in matrices}, ranks)
        self.adam = Adam({name: value for name, value in named.items() if name not in matrices})

    def step(self, rates: Rates, factor: float, number: int) -> None:
        """Update `number`, from 1, at `factor` of the rates; forgets the gradients."""
        self.muon.step(rates.muon * factor)
        self.adam.step(rates.adam * factor, number)
        self._model.zero_grad(set_to_none=True)


class Trainer:
    """Trains a model. Matrix products run in `dtype`; weights stay float32. All `ranks` step together.

    `compiled` runs the text layers through torch.compile in training, which needs a C++ compiler and takes
    minutes.
    """

    def __init__(
        self,
        model: TrainedModel,
        rates: Rates,
        device: torch.device,
        dtype: torch.dtype,
        ranks: Ranks = Ranks(),  # noqa: B008 - it cannot change
        compiled: bool = False,
    ) -> None:
        self.model = model.to(device)
        if compiled:
            for layer in model.language_model.model.layers:
                layer.compile(dynamic=True)
        self._ranks = ranks
        for experts in model.experts():
            experts.on_all_tokens = device.type != "cpu"
        self._rates = rates
        self._device = device
        self._dtype = dtype
        self.optimisers = Optimisers(self.model, ranks)

    def step(self, batch: Sequence[Rows], number: int, factor: float) -> float:
        """Applies update `number`, counted from 1, at `factor` of the peak rates; returns the mean loss per
        target before it.

        `batch` is this rank's share.
        """
        self.model.train()
        (targets,) = self._ranks.total(sum(rows.num_targets for rows in batch))
        total = torch.zeros((), device=self._device)
        for rows in batch:
            loss = self.loss(rows.to(self._device)) / targets
            loss.backward()
            total += loss.detach()
        self._ranks.add_up_gradients(self.model.parameters())
        self._ranks.add_up([total, *(gate.load for gate in self.model.gates())])
        self.optimisers.step(self._rates, factor, number)
        for gate in self.model.gates():
            gate.balance(BALANCE_RATE)
        return total.item()

    def loss(self, rows: Rows) -> Tensor:
        """The sum of the losses over the targets of one micro-batch."""
        logits, targets = self.answer_logits(rows)
        return functional.cross_entropy(logits.float(), targets, reduction="sum")

    def answer_logits(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Logits `[N, vocab]` at the positions with a target, row by row, and the targets `[N]`."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            hidden = self.model(rows)
            wanted = rows.targets != NO_TARGET
            logits: Tensor = self.model.language_model.lm_head(hidden[wanted])
        return logits, rows.targets[wanted]

    def state(self) -> dict[str, Tensor]:
        """All state that resuming needs, by name; the tensors are not copied."""
        named = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        named |= {f"muon.{name}": tensor for name, tensor in self.optimisers.muon.state.items()}
        return named | {f"adam.{name}": tensor for name, tensor in self.optimisers.adam.state.items()}
