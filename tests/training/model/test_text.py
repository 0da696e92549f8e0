"""The training model computes what the engine computes from the same weights."""

from __future__ import annotations

import random

import pytest
import torch

from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.text_model import TextModel
from services.engine.weights.expected import expected_tensors
from tests.engine.text_models import every_logit, make_runner, pages_for, tiny_config
from training.data.batch import make_rows
from training.data.example import Example
from training.model.mixture import Experts
from training.model.model import TrainedModel, published_weights

VISION = VisionModelConfig(14, 8, 8, 4, 2, 1, 16, 24, (2, 2), 40, 1e-5)
CONFIG = ModelConfig("kimi_k25", tiny_config(), VISION, 96, None)


@pytest.fixture(scope="module")
def model():
    made = TrainedModel(CONFIG, seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    for gate in made.gates():
        gate.e_score_correction_bias.normal_(0.0, 0.3, generator=generator)
    with torch.no_grad():
        made.language_model.lm_head.weight.mul_(10)
    return made


def engine_logits(model, ids):
    weights = published_weights(model.state_dict())
    engine = TextModel(CONFIG.text, PrefixedWeights(weights, "language_model."), deterministic=False)
    pages = pages_for(len(ids))
    return every_logit(make_runner(engine, len(pages)), ids, pages)


def example(*ids):
    return Example("", ids, ((1, len(ids)),))


@torch.no_grad()
def test_every_document_of_a_packed_row_has_the_logits_that_the_engine_gives_it_alone(model):
    rng = random.Random(4)
    first, second, third = ([rng.randrange(96) for _ in range(count)] for count in (70, 41, 100))
    rows = make_rows([[example(*first), example(*second)], [example(*third)]], 128, media_pad=96)
    logits = model.language_model.lm_head(model(rows))
    for found, ids in ((logits[0, :70], first), (logits[0, 70:111], second), (logits[1, :100], third)):
        expected = engine_logits(model, ids)
        assert expected.std() > 0.1
        assert (found - expected).abs().max() <= 1e-4 * expected.std()


def test_its_weights_have_the_published_names_and_shapes(model):
    weights = published_weights(model.state_dict())
    expected = expected_tensors(CONFIG)
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        name: stored.shape for name, stored in expected.items()
    }


def test_all_experts_on_all_tokens_give_what_the_chosen_ones_give():
    experts = Experts(6, 32, 64)
    generator = torch.Generator().manual_seed(2)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2, generator=generator)
    x = torch.randn(50, 32, generator=generator)
    chosen = torch.rand(50, 6, generator=generator).topk(3, dim=-1).indices
    weights = torch.rand(50, 3, generator=generator)
    torch.testing.assert_close(experts.dense(x, chosen, weights), experts.gathered(x, chosen, weights))


def test_the_routers_bias_rises_where_the_load_is_low():
    model = TrainedModel(CONFIG).train()
    gate = model.gates()[0]
    gate.load.copy_(torch.tensor([9.0, 1.0, 5.0, 5.0, 5.0, 5.0]))
    gate.balance(0.1)
    assert gate.e_score_correction_bias.tolist() == pytest.approx([-0.1, 0.1, 0, 0, 0, 0])
    assert gate.load.sum() == 0
