"""Images, video and text together, against transformers on the embedded checkpoint."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Kimi_K25ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from services.engine.batch import PAGE_TOKENS
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.loading.text import load_text_model
from services.engine.loading.vision import load_vision_model
from services.engine.model.architectures import load_config
from services.engine.runner import ModelRunner
from services.families.kimi.media import video_frame_grid
from services.families.media import ImageGrid
from services.vision.preprocess import image_patches
from tests.engine.model.hf_reference import reference_logits, reference_model
from tests.support.batches import batch_of
from tests.support.fidelity import FidelityReport
from tests.support.tensors import read_tensors


def test_a_prompt_with_two_images_of_different_size_has_the_logits_of_transformers(nano_dir: Path, fidelity):
    error = check_against_transformers(nano_dir, [frames(90, 140, 1), frames(300, 60, 1)])
    note(fidelity, "last logits, two images of different size, f32", error)


def test_a_prompt_with_chunks_of_video_and_an_image_has_the_logits_of_transformers(nano_dir: Path, fidelity):
    given = [frames(90, 60, 4), frames(60, 90, 1), frames(250, 28, 2), frames(28, 300, 1), frames(30, 30, 3)]
    error = check_against_transformers(nano_dir, given)
    note(fidelity, "last logits, four chunks of video and an image, f32", error)


def note(fidelity: FidelityReport, what: str, error: float) -> None:
    fidelity.near("Text model with images and video", what, "transformers", error)


Medium = tuple[torch.Tensor, ImageGrid]


def frames(width: int, height: int, count: int) -> Medium:
    """Noise, as the patches of a picture or of a chunk of a video."""
    noise = np.random.default_rng(width + count)
    grid = replace(video_frame_grid(width, height), grid_t=count)
    pictures = noise.integers(0, 256, (count, height, width, 3), np.uint8)
    patches = [image_patches(Image.fromarray(picture), grid) for picture in pictures]
    return torch.from_numpy(np.concatenate(patches)), grid


def check_against_transformers(nano_dir: Path, given: list[Medium]) -> float:
    """The largest difference of the last logits, as a share of their standard deviation."""
    config = load_config(nano_dir)
    draw = random.Random(5)
    ids: list[int] = []
    media: list[tuple[int, torch.Tensor, tuple[int, int, int]]] = []
    for pixels, grid in given:
        ids += [draw.randrange(2048) for _ in range(9)]
        media.append((len(ids), pixels, (grid.grid_t, grid.grid_h, grid.grid_w)))
        ids += [config.media_placeholder_token_id] * grid.num_tokens
    ids += [draw.randrange(2048) for _ in range(9)]
    ours = our_logits(nano_dir, ids, media)
    tensors = read_tensors(nano_dir, ("language_model.", "vision_tower.", "mm_projector."))
    reference = reference_model(config, tensors)
    embeds = tuple(their_embedding(reference, pixels, grid) for _, pixels, grid in media)
    theirs = reference_logits(
        reference, ids, mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=embeds)}
    )
    difference = (ours - theirs[-1]).abs().max().item() / theirs[-1].std().item()
    assert difference <= 1e-4
    return difference


@torch.inference_mode()
def their_embedding(
    reference: Kimi_K25ForConditionalGeneration, pixels: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """By their tower and projector: their own way to the pair of them divides videos by a wrong count."""
    merged = reference.model.vision_tower(pixels, grid_thw=torch.tensor([grid])).pooler_output
    return reference.model.mm_projector(merged).squeeze(1)


def our_logits(nano_dir: Path, ids: list[int], media) -> torch.Tensor:
    """The last token's logits, through the tower, the projector and the paged model."""
    model, tower = load_text_model(nano_dir, deterministic=True), load_vision_model(nano_dir)
    pages = list(range(-(-len(ids) // PAGE_TOKENS)))
    text = model.config
    kv_pages = allocate_kv_pages(len(pages), text.num_hidden_layers, text.kv_width, FLOAT32)
    embeds = tuple((offset, tower.encode(pixels, grid)) for offset, pixels, grid in media)
    batch = batch_of([(ids, 0, pages, True, embeds)])
    return ModelRunner(model, kv_pages, 1).forward(batch)[0]
