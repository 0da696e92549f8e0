"""The whole model, its initial weights, and its weights under the published names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from services.engine.model.config.model_config import ModelConfig
from services.engine.model.vision.model import VisionModel
from training.data.batch import Rows
from training.model.mixture import Experts, Gate, MixtureOfExperts
from training.model.text import TrainedText
from training.model.vision import encoder_of

_STACKED = (".experts.gate_proj", ".experts.up_proj", ".experts.down_proj")
EMBEDDING_SPREAD = 0.5
HEAD_SHARE = 0.02
POSITION_SPREAD = 0.05


class TrainedModel(nn.Module):
    """Text model, vision tower and projector."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.language_model = TrainedText(config.text)
        vision = VisionModel(config.vision_part)
        self.vision_tower, self.mm_projector = vision.vision_tower, vision.mm_projector
        self.encode = encoder_of(vision)
        _initialise(self, config.text.num_hidden_layers, torch.Generator().manual_seed(seed))
        # The head starts as a share of the embedding, so a token that attention copies is predicted at once:
        # the model learns to copy from half as many tokens.
        with torch.no_grad():
            embedding = self.language_model.model.embed_tokens.weight
            self.language_model.lm_head.weight.copy_(HEAD_SHARE * embedding)

    def forward(self, rows: Rows) -> Tensor:
        """Hidden states `[B, L, hidden]`."""
        pictures = self.encode(rows.pictures, rows.token_ids.device) if rows.pictures else None
        out: Tensor = self.language_model(rows, pictures)
        return out

    def gates(self) -> list[Gate]:
        """The routers."""
        return [module for module in self.modules() if isinstance(module, Gate)]

    def mixtures(self) -> list[MixtureOfExperts]:
        """The layers that have routed experts."""
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]

    def experts(self) -> list[Experts]:
        """The routed experts of each layer that has them."""
        return [module for module in self.modules() if isinstance(module, Experts)]


def published_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict with the projections of each expert separate, as in a checkpoint."""
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(_STACKED):
            stem, _, projection = name.rpartition(".")
            for expert, part in enumerate(tensor.unbind(0)):
                weights[f"{stem}.{expert}.{projection}.weight"] = part
        else:
            weights[name] = tensor
    return weights


def trained_weights(
    read: Callable[[str], Tensor], names: Iterable[str], num_experts: int
) -> dict[str, Tensor]:
    """The state_dict of `names`, the inverse of `published_weights`; `read` returns the tensors of a
    checkpoint.
    """
    state: dict[str, Tensor] = {}
    for name in names:
        if name.endswith(_STACKED):
            stem, _, projection = name.rpartition(".")
            parts = [read(f"{stem}.{expert}.{projection}.weight") for expert in range(num_experts)]
            state[name] = torch.stack(parts)
        else:
            state[name] = read(name)
    return state


def _initialise(model: nn.Module, layers: int, generator: torch.Generator) -> None:
    """Initialises the weights. Matrix products keep the scale of their input. Outputs added to the residual
    stream start small, and those of routed experts start at zero, so that experts can join a model that was
    trained without them.
    """
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("embed_tokens.weight"):
                parameter.normal_(0.0, EMBEDDING_SPREAD, generator=generator)
            elif "pos_emb" in name:
                parameter.normal_(0.0, POSITION_SPREAD, generator=generator)
            elif name.endswith("experts.down_proj"):
                parameter.zero_()
            else:
                fan_in = parameter[0].numel() if not name.endswith(_STACKED) else parameter.shape[-1]
                small = name.endswith(("o_proj.weight", "down_proj.weight", "wo.weight", "fc1.weight"))
                gain = (2 * layers) ** -0.5 if small else 1.0
                parameter.normal_(0.0, gain * fan_in**-0.5, generator=generator)
