"""The command teaches the vision part to read, and a run takes over what it has learnt."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from safetensors.torch import load_file

from services.engine.weights.writer import write_json
from services.families.kimi.tokenizer import KimiTokenizer
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.reading import __main__ as reading
from training.reading.cells import NO_TOKEN, SLOTS, STARTS
from training.reading.reader import Likeness
from training.run.loop import Run
from training.run.settings import read_settings
from training.skills.split import Split


@pytest.fixture
def directory(nano_dir, tmp_path):
    for name in ("tiktoken.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((nano_dir / name).read_bytes())
    values = trained_config(Vocabulary.from_dir(tmp_path))
    values["text_config"] |= {"hidden_size": 32, "num_hidden_layers": 2}
    values["vision_config"] |= {"text_hidden_size": 32, "vt_hidden_size": 48, "mm_hidden_size": 48}
    write_json(tmp_path / "config.json", values)
    return tmp_path


def test_pages_have_labels_for_every_token_and_no_page_of_training_is_held_out(nano_dir):
    tokenizer = KimiTokenizer.from_dir(nano_dir)
    of_split = {
        split: list(itertools.islice(reading.pages(1, split, tokenizer), 10))
        for split in (Split.TRAIN, Split.HELD_OUT)
    }
    for page in itertools.chain(*of_split.values()):
        assert page.letters.shape == (page.picture.num_tokens, SLOTS)
        assert page.starts.shape == (page.picture.num_tokens, STARTS + 1)
        assert page.letters.any()
        # A token begins in a cell only if a letter is there.
        assert not (page.starts[:, 0] != NO_TOKEN)[~page.letters.any(-1)].any()
    first, second = (page.picture.levels for page in (of_split[Split.TRAIN][0], of_split[Split.HELD_OUT][0]))
    assert first.shape != second.shape or not torch.equal(first, second)


def test_the_loss_falls_and_a_run_begins_with_the_weights(directory, monkeypatch, capsys):
    out = directory / "reading.safetensors"
    Run(read_settings(f"--dir {directory} --steps 1 --eval-cases 1".split()), print).train()
    command = f"reading --dir {directory} --out {out} --steps 30 --pages 2 --log-every 10"
    monkeypatch.setattr(sys, "argv", command.split())
    reading.main()
    lines = capsys.readouterr().out.splitlines()
    first, *_, last = (float(line.split("loss ")[1].split(",")[0]) for line in lines)
    assert last < 0.8 * first
    said = []
    arguments = f"--dir {directory} --steps 2 --vision {out} --eval-cases 1"
    run = Run(read_settings(arguments.split()), said.append)
    saved = load_file(out)
    state = run.trainer.model.state_dict()
    assert saved
    assert all(torch.equal(state[name], value) for name, value in saved.items())
    assert said[-1] == f"{len(saved)} weights of the vision part from {out}"
    run.train()
    said.clear()
    Run(read_settings(arguments.split()), said.append)
    assert len(said) == 1, "it was taken over again"


def test_a_row_that_is_as_it_should_be_is_like_its_tokens_and_no_others():
    embedding = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    likeness = Likeness(embedding, blank=49)
    starts = torch.tensor([[3, 7, 9, 11], [3, NO_TOKEN, NO_TOKEN, NO_TOKEN], [NO_TOKEN] * 4])
    rows = likeness.rows(starts)
    assert likeness.tokens(rows)[0].tolist() == [3, 7, 9]
    assert torch.equal(rows[1], embedding[3])
    assert torch.equal(rows[2], embedding[49])
