"""The model profile that a checkpoint suggests."""

from __future__ import annotations

import os

import pytest

from services.common.errors import ConfigError
from services.families.kimi.family import KIMI
from services.families.kimi.profiles import suggest_profile
from services.families.profile_choice import choose_profile

OLD = "{% if thinking is defined and thinking is false %}<think></think>{% else %}<think>{% endif %}"
SWITCHED = "{% if preserve_thinking %}{{ m.reasoning }}{% endif %}" + OLD
ALWAYS = "{% set keep = preserve_thinking | default(true) %}<think>"
BARE = "{# thinking #}{{ '<think>' }}{{ m['thinking'] }}"


@pytest.mark.parametrize(
    ("template", "names", "profile"),
    [
        (None, (), "k2.5"),
        (None, ("kimi-nano",), "k2.5"),
        (None, ("Kimi-K2.6",), "k2.6"),
        (None, ("kimi_k2_7_code", "k2.5"), "k2.7-code"),
        (None, ("kimi-k25-int4",), "k2.5"),
        (None, ("models--moonshotai--Kimi-K2.7-Code",), "k2.7-code"),
        (None, ("kimi-k2-0905", "kimi-k2.65", "ak2.6"), "k2.5"),
        (OLD, (), "k2.5"),
        (OLD, ("kimi-k2.6",), "k2.5"),
        (SWITCHED, (), "k2.6"),
        (SWITCHED, ("kimi-k2.5",), "k2.6"),
        (SWITCHED, ("kimi-k2.7-code",), "k2.7-code"),
        (ALWAYS, (), "k2.7-code"),
        (ALWAYS, ("kimi-k2.6",), "k2.6"),
        ("{% if preserve_thinking is not defined or preserve_thinking %}", (), "k2.7-code"),
        ("{% if preserve_thinking is not defined %}{% set preserve_thinking = false %}", (), "k2.6"),
        (BARE, (), "k2.5"),
        (BARE, ("kimi-k2.7-code",), "k2.7-code"),
        ("{# preserve_thinking #}" + OLD, (), "k2.5"),
    ],
    ids=str,
)
def test_the_template_decides_and_names_decide_what_it_leaves_open(template, names, profile):
    suggestion = suggest_profile(template, names)
    assert suggestion.name == profile
    assert suggestion.because


def test_a_name_that_the_template_contradicts_is_in_the_reason():
    assert "although kimi-k2.6 says k2.6" in suggest_profile(OLD, ("kimi-k2.6",)).because


def test_a_checkpoint_is_asked_for_its_template_then_its_directory_then_its_served_names(tmp_path):
    directory = tmp_path / "models--m--Kimi-K2.6" / "snapshots" / "0123"
    directory.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(directory)
    assert choose_profile(KIMI, link, ("kimi-k2.7-code",)).profile.name == "k2.6"
    assert choose_profile(KIMI, tmp_path / "here", ("kimi-k2.7-code",)).profile.name == "k2.7-code"
    (directory / "chat_template.jinja").write_text(OLD)
    assert choose_profile(KIMI, link).profile.name == "k2.5"


def test_the_setting_wins_and_an_unknown_one_is_refused(tmp_path):
    (tmp_path / "chat_template.jinja").write_text(SWITCHED)
    chosen = choose_profile(KIMI, tmp_path, (), "k2.7-code")
    assert (chosen.profile.name, chosen.because) == ("k2.7-code", "the setting model_profile says so")
    with pytest.raises(ConfigError, match=r"model_profile: 'K2\.6' is not one of k2\.5, k2\.6, k2\.7-code"):
        choose_profile(KIMI, tmp_path, (), "K2.6")


def test_a_template_that_is_no_text_or_no_file_ends_no_start(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe" * 10)
    assert choose_profile(KIMI, tmp_path, ("k2.6",)).profile.name == "k2.6"
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.jinja").mkdir()
    assert choose_profile(KIMI, tmp_path).profile.name == "k2.5"
    (tmp_path / "chat_template.jinja").rmdir()
    os.mkfifo(tmp_path / "chat_template.jinja")
    assert choose_profile(KIMI, tmp_path).profile.name == "k2.5"
