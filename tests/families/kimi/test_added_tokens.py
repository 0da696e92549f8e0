from __future__ import annotations

import json

import pytest

from services.common.errors import CheckpointError
from services.families.kimi.added_tokens import read_added_tokens


def write(tmp_path, decoder):
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"added_tokens_decoder": decoder}))
    return path


def test_named_and_reserved_slots_fill_the_places_above_the_ranks(tmp_path):
    path = write(
        tmp_path, {"300": {"content": "A", "special": True}, "302": {"content": "B", "special": False}}
    )
    added = read_added_tokens(path, num_ranks=300)
    assert len(added.ids) == 256
    assert (added.ids["A"], added.ids["<|reserved_token_301|>"], added.ids["B"]) == (300, 301, 302)
    assert sorted(added.ids.values()) == list(range(300, 556))
    assert added.flagged == {300}


def test_everything_that_is_wrong_is_listed(tmp_path):
    path = write(
        tmp_path,
        {
            "299": {"content": "below"},
            "556": {"content": "above"},
            "x": {"content": "no id"},
            "301": {},
            "302": {"content": "twice"},
            "303": {"content": "twice"},
            "304": {"content": ""},
        },
    )
    with pytest.raises(CheckpointError) as caught:
        read_added_tokens(path, num_ranks=300)
    message = caught.value.message
    assert len(message.splitlines()) == 6
    for finding in ("'below'", "'above'", "'x'", "'301'", "'twice', id 303", "'', id 304"):
        assert finding in message


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"added_tokens_decoder": []}'])
def test_a_file_of_another_shape_is_refused(tmp_path, text):
    path = tmp_path / "tokenizer_config.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        read_added_tokens(path, num_ranks=300)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_added_tokens(tmp_path / "nowhere.json", num_ranks=300)
