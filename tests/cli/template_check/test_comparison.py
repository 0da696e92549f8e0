"""`perigee checkpoint verify --template`: which model profile a checkpoint's own template is of."""

from __future__ import annotations

import os

import pytest

from services.cli.main import main
from services.cli.template_check.comparison import compare_template
from services.common.errors import CheckpointError
from tests.cli.template_check.templates import TEMPLATES


@pytest.fixture
def checkpoint(nano_dir, tmp_path):
    """Makes a directory with the embedded tokenizer and a template."""

    def make(template, name="checkpoint"):
        directory = tmp_path / name
        directory.mkdir()
        for file in ("tiktoken.model", "tokenizer_config.json"):
            (directory / file).symlink_to(nano_dir / file)
        (directory / "chat_template.jinja").write_text(template)
        return directory

    return make


def fitting(directory):
    return [fit.profile.name for fit in compare_template(directory).fits if fit.fits]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_fits_its_profile_and_no_other(checkpoint, capsys, name):
    assert main(["checkpoint", "verify", str(checkpoint(TEMPLATES[name])), "--template"]) == 0
    output = capsys.readouterr().out
    assert f"\nthe template is that of {name}\n" in output
    assert output.count("first difference at character") == len(TEMPLATES) - 1
    assert f"served as {name} without further settings: its template has" in output


def test_every_profile_is_compared_in_all_modes_that_it_offers(checkpoint):
    k25, k26, k27 = compare_template(checkpoint(TEMPLATES["k2.6"])).fits
    assert k25.compared == k26.compared == 232  # as docs/checkpoints.md says
    assert k26.equal == k26.compared
    assert 100 < k27.compared < k26.compared
    assert 0 < k27.equal < k27.compared


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(message.name or message.role)", "message.role"),
        ("part.text", "part.text | trim"),
        ("(tools | tojson", "(tools | string"),
        ("tools_ts_str or", ""),
        ("<|media_end|>\\n", "<|media_end|>"),
        ("found = namespace(answer=-1)", "found = namespace(answer=-2)"),
        ("message.role == 'assistant' and not message.tool_calls", "message.role == 'user'"),
        ("{{ '</think>' }}", "{{ '</think>\\n' }}"),
        ("message.reasoning is defined", "message.reasoning"),
        ("'## Return of '", "'## Result of '"),
        ("given is string", "given is mapping"),
        ("{%- for message in messages -%}\n  {{-", "{%- for message in messages[1:] -%}\n  {{-"),
        ("{%- if add_generation_prompt -%}", "{%- if true -%}"),
        ("{%- if tools -%}", "{%- if tools and (messages | length) == 1 -%}"),
    ],
)
def test_a_template_that_is_wrong_in_one_place_fits_none(checkpoint, capsys, old, new):
    template = TEMPLATES["k2.6"]
    assert old in template
    broken = checkpoint(template.replace(old, new, 1))
    if "namespace" in old:  # a guard: nothing but the mark of "none" differs
        assert fitting(broken) == ["k2.6"]
        return
    assert main(["checkpoint", "verify", str(broken), "--template"]) == 1
    assert capsys.readouterr().out.endswith("\nno profile renders as the template does\n")


def test_the_first_difference_is_shown_where_it_is(checkpoint, capsys):
    template = TEMPLATES["k2.6"].replace("'<|im_middle|>' -}}", "'<|im_middle|>\\x1b[31m' -}}", 1)
    assert main(["checkpoint", "verify", str(checkpoint(template)), "--template"]) == 1
    output = capsys.readouterr().out
    assert "k2.6: 0 of" in output
    assert "  first difference at character 28: a question\n" in output
    assert r"    template: '<|im_user|>user<|im_middle|>\x1b[31mHi<|im_end|>" in output
    assert "    Perigee:  '<|im_user|>user<|im_middle|>Hi<|im_end|>" in output


def test_a_setting_is_advised_where_the_name_would_mislead(checkpoint, capsys):
    template = TEMPLATES["k2.6"].replace("preserve_thinking", "preserve_thinking | default(false)")
    misnamed = checkpoint(template, "kimi-k2.7-code")
    assert main(["checkpoint", "verify", str(misnamed), "--template"]) == 0
    assert "set --model-profile k2.6, for it would be k2.7-code: " in capsys.readouterr().out


def test_a_checkpoint_without_a_template_or_tokenizer_is_refused(nano_dir, tmp_path, checkpoint, capsys):
    assert main(["checkpoint", "verify", str(nano_dir), "--template"]) == 1
    assert "chat_template.jinja cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "bare").mkdir()
    with pytest.raises(CheckpointError, match=r"tiktoken\.model"):
        compare_template(tmp_path / "bare")
    piped = checkpoint("", "piped")
    (piped / "chat_template.jinja").unlink()
    os.mkfifo(piped / "chat_template.jinja")
    with pytest.raises(CheckpointError, match="cannot be read: Not a regular file"):
        compare_template(piped)
    large = checkpoint("x" * ((1 << 20) + 1), "large")
    with pytest.raises(CheckpointError, match="is larger than 1,048,576 bytes"):
        compare_template(large)
