from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from services.common.errors import ConfigError
from services.common.settings import add_flags, check_environment, flags_of, read_file, resolve


@dataclass(frozen=True)
class Example:
    model: str = field(default="nano", metadata={"help": "checkpoint directory, 100% local"})
    port: int = 50052
    grace_seconds: float = 1.5
    deterministic: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    cache: Path | None = None
    names: tuple[str, ...] = ()
    pages: int | Literal["auto"] = "auto"


def test_flags_win_over_environment_over_file_over_default():
    env = {"PERIGEE_PORT": "2", "PERIGEE_MODEL": "env"}
    file = {"port": 3, "model": "file", "grace_seconds": 3}
    config = resolve(Example, {"port": "1"}, env, file)
    assert config == Example(model="env", port=1, grace_seconds=3.0)


def test_nothing_given_gives_the_defaults():
    assert resolve(Example, {}, {}) == Example()


def test_texts_become_the_types_of_the_fields():
    env = {
        "PERIGEE_GRACE_SECONDS": "2",
        "PERIGEE_DETERMINISTIC": "off",
        "PERIGEE_DTYPE": "bfloat16",
        "PERIGEE_CACHE": "/x",
        "PERIGEE_NAMES": "a, b,",
    }
    expected = Example(
        grace_seconds=2.0, deterministic=False, dtype="bfloat16", cache=Path("/x"), names=("a", "b")
    )
    assert resolve(Example, {}, env) == expected


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("512", 512)])
def test_a_number_that_the_service_may_choose_is_a_number_or_auto_in_every_source(text, value):
    assert resolve(Example, {"pages": text}, {}).pages == value
    assert resolve(Example, {}, {"PERIGEE_PAGES": text}).pages == value
    assert resolve(Example, {}, {}, {"pages": value}).pages == value


def test_an_empty_text_is_none_where_none_is_allowed():
    assert resolve(Example, {"cache": ""}, {}).cache is None


@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("port", "many", "a whole number"),
        ("port", 1.5, "a whole number"),
        ("port", True, "a whole number"),
        ("grace_seconds", "long", "a number"),
        ("deterministic", "maybe", "true or false"),
        ("dtype", "int4", "one of float32, bfloat16"),
        ("model", 3, "a text"),
        ("names", 3, "a list of texts"),
        ("pages", "all", "a whole number or auto"),
        ("pages", 1.5, "a whole number or auto"),
    ],
)
def test_a_bad_value_is_an_error_naming_key_and_source(key, value, needed):
    with pytest.raises(ConfigError, match=f"{key}: .* is not {needed} .*the settings file"):
        resolve(Example, {}, {}, {key: value})


def test_the_source_of_a_bad_value_is_spelt_as_the_user_spelt_it():
    with pytest.raises(ConfigError, match=r"from --port"):
        resolve(Example, {"port": "x"}, {})
    with pytest.raises(ConfigError, match=r"from PERIGEE_PORT"):
        resolve(Example, {}, {"PERIGEE_PORT": "x"})


def test_an_unknown_key_in_the_file_is_named_with_the_nearest_known_one():
    with pytest.raises(ConfigError, match=r"prot: unknown setting in the settings file; did you mean port\?"):
        resolve(Example, {}, {}, {"prot": 1})


def test_variables_of_other_processes_do_not_disturb():
    assert resolve(Example, {}, {"PERIGEE_HTTP_PORT": "x", "HOME": "/"}) == Example()


def test_an_environment_variable_no_process_knows_is_named():
    check_environment(
        [Example], {"PERIGEE_PORT": "1", "HOME": "/", "PERIGEE_SHARED": "/"}, also=["PERIGEE_SHARED"]
    )
    with pytest.raises(ConfigError, match=r"PERIGEE_PROT: unknown .* did you mean PERIGEE_PORT\?"):
        check_environment([Example], {"PERIGEE_PROT": "1"})


def test_a_required_setting_that_is_missing_is_named():
    @dataclass(frozen=True)
    class Needy:
        model: str

    Needy.__annotations__["model"] = str
    with pytest.raises(ConfigError, match="model: not set; give --model or PERIGEE_MODEL"):
        resolve(Needy, {}, {})


def test_flags_on_the_command_line_arrive_and_absent_ones_stay_absent():
    parser = argparse.ArgumentParser()
    add_flags(parser, Example)
    namespace = parser.parse_args(["--grace-seconds", "9", "--no-deterministic"])
    assert flags_of(namespace, Example) == {"grace_seconds": "9", "deterministic": False}
    assert resolve(Example, flags_of(namespace, Example), {}) == Example(
        grace_seconds=9.0, deterministic=False
    )


def test_help_shows_purpose_and_default_of_each_flag():
    parser = argparse.ArgumentParser()
    add_flags(parser, Example)
    text = " ".join(parser.format_help().split())
    assert "checkpoint directory, 100% local (default: nano)" in text


def test_a_file_has_one_table_per_role(tmp_path):
    path = tmp_path / "perigee.toml"
    path.write_text("[prefill]\nport = 7\n[decode]\nport = 8\n")
    assert read_file(path, "prefill", ["prefill", "decode"]) == {"port": 7}
    assert read_file(path, "vision", ["prefill", "decode", "vision"]) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [("[perfill]\n", "did you mean prefill"), ("port = 1\n", "port"), ("[", "settings file")],
)
def test_a_file_with_anything_else_is_refused(tmp_path, text, named):
    path = tmp_path / "perigee.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_file(path, "prefill", ["prefill", "decode"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        read_file(tmp_path / "absent.toml", "prefill", ["prefill"])
