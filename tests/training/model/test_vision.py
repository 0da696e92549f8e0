"""Pictures are embedded as the vision service embeds them."""

from __future__ import annotations

import torch

from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.vision.model import VisionModel
from services.families.kimi.family import MEDIA
from services.vision.preprocess import preprocess_image
from training.data.picture import pixels_of, read_picture
from training.model.vision import encoder_of
from training.skills.dice import Dice
from training.skills.documents import Printer
from training.skills.lexicon import Lexicon
from training.skills.split import Split

CONFIG = VisionModelConfig(14, 8, 8, 4, 2, 2, 32, 48, (2, 2), 40, 1e-5)


def pictures(count):
    printer = Printer(Lexicon())
    return [printer.receipt(Dice("test", number), Split.TRAIN).printed.picture for number in range(count)]


@torch.no_grad()
def test_pictures_of_different_sizes_together_have_the_embeddings_that_each_has_alone():
    torch.manual_seed(5)
    model = VisionModel(CONFIG)
    torch.nn.init.normal_(model.vision_tower.patch_embed.pos_emb.weight)
    data = pictures(3)
    found = encoder_of(model)([read_picture(one) for one in data], torch.device("cpu"))
    expected = []
    for one in data:
        patches = preprocess_image(one, 1 << 22, MEDIA)
        grid = (1, patches.grid.grid_h, patches.grid.grid_w)
        expected.append(model.encode(torch.from_numpy(patches.pixels), grid))
    assert len({len(rows) for rows in expected}) > 1
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_a_picture_keeps_the_very_pixels_of_the_preprocessing():
    data = pictures(1)[0]
    pixels = torch.from_numpy(preprocess_image(data, 1 << 22, MEDIA).pixels)
    assert torch.equal(pixels_of([read_picture(data)], torch.device("cpu")), pixels.flatten(1))
