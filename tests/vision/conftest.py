"""A tiny vision model and image files."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.media import Grid
from services.engine.model.vision.model import VisionModel

WIDTH = 24


class GatedModel(VisionModel):
    """Counts its runs, and waits in each for `gate` to be open."""

    def __init__(self, config: VisionModelConfig) -> None:
        super().__init__(config)
        self.runs = 0
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def encode_all(
        self, media: Sequence[tuple[Tensor, Grid]], before_layer: Callable[[], None] = lambda: None
    ) -> list[Tensor]:
        self.runs += 1
        self.entered.set()
        assert self.gate.wait(30)
        return super().encode_all(media, before_layer)


@pytest.fixture
def model() -> GatedModel:
    torch.manual_seed(11)
    model = GatedModel(
        VisionModelConfig(
            patch_size=14,
            pos_emb_height=8,
            pos_emb_width=8,
            pos_emb_time=4,
            num_attention_heads=2,
            num_hidden_layers=1,
            hidden_size=16,
            intermediate_size=32,
            merge_kernel_size=(2, 2),
            text_hidden_size=WIDTH,
            projector_ln_eps=1e-5,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.3)
    return model.eval()


@pytest.fixture
def image_file() -> Callable[[int, int, int], bytes]:
    """PNG files of noise by width, height and seed."""

    def make(width: int = 56, height: int = 56, seed: int = 0) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture
def sha256() -> Callable[[bytes], bytes]:
    return lambda data: hashlib.sha256(data).digest()
