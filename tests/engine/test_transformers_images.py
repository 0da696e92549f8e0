"""Images and text together, against transformers on the embedded checkpoint."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from services.common.kimi.media import image_grid
from services.engine.batch import PAGE_TOKENS, BatchItem, build_batch
from services.engine.kv_pages import allocate_kv_pages
from services.engine.model.config import ModelConfig
from services.engine.runner import ModelRunner
from services.engine.weights.loader import read_tensors
from services.engine.weights.text import load_text_model
from services.engine.weights.vision import load_vision_model
from services.vision.preprocess import image_patches
from tests.engine.hf_reference import reference_logits, reference_model


def test_a_prompt_with_two_images_of_different_size_has_the_logits_of_transformers(nano_dir: Path):
    config = ModelConfig.from_dir(nano_dir)
    draw = random.Random(5)
    noise = np.random.default_rng(5)
    ids: list[int] = []
    media: list[tuple[int, torch.Tensor, tuple[int, int, int]]] = []
    for width, height in ((90, 140), (300, 60)):
        image = Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8))
        grid = image_grid(width, height)
        ids += [draw.randrange(2048) for _ in range(9)]
        pixels = torch.from_numpy(image_patches(image, grid))
        media.append((len(ids), pixels, (grid.grid_t, grid.grid_h, grid.grid_w)))
        ids += [config.media_placeholder_token_id] * grid.num_tokens
    ids += [draw.randrange(2048) for _ in range(9)]
    ours = our_logits(nano_dir, ids, media)
    tensors = read_tensors(nano_dir, ("language_model.", "vision_tower.", "mm_projector."))
    theirs = reference_logits(
        reference_model(config, tensors),
        ids,
        pixel_values=torch.cat([pixels for _, pixels, _ in media]),
        image_grid_thw=torch.tensor([grid for _, _, grid in media]),
    )
    difference = (ours - theirs[-1]).abs().max().item() / theirs[-1].std().item()
    print(f"largest difference of the last logits: {difference:.1e} of their standard deviation")
    assert difference <= 1e-4


def our_logits(nano_dir: Path, ids: list[int], media) -> torch.Tensor:
    """The last token's logits, through the tower, the projector and the paged model."""
    model, tower = load_text_model(nano_dir, deterministic=True), load_vision_model(nano_dir)
    pages = list(range(-(-len(ids) // PAGE_TOKENS)))
    text = model.config
    kv_pages = allocate_kv_pages(len(pages), text.num_hidden_layers, text.kv_width, torch.float32)
    embeds = tuple((offset, tower.encode(pixels, grid)) for offset, pixels, grid in media)
    batch = build_batch([BatchItem(ids, 0, pages, True, embeds)])
    return ModelRunner(model, kv_pages, 1).forward(batch)[0]
