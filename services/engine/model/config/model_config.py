"""The model's configuration, read from a checkpoint's config.json and checked."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import CheckpointError
from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.vision_config import VisionModelConfig


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a checkpoint. `vision` and `media_placeholder_token_id` are None for a text model.

    `quantization` is ``compressed-tensors`` if the routed experts are int4.
    """

    model_type: str
    text: TextConfig
    vision: VisionModelConfig | None
    media_placeholder_token_id: int | None
    quantization: str | None

    @property
    def vision_part(self) -> VisionModelConfig:
        """The vision part's sizes. Raises CheckpointError for a text model."""
        if self.vision is None:
            raise CheckpointError(f"a model of type {self.model_type} has no vision part")
        return self.vision
