from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Literal

import pytest

from services.common.errors import ConfigError
from services.common.setting_ranges import check_seconds
from services.common.settings import FORMERLY, check_environment, read_file, resolve


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


def test_a_variable_of_one_role_wins_over_that_of_all_and_is_nothing_to_the_others():
    env = {"PERIGEE_PORT": "2", "PERIGEE_DECODE_PORT": "3"}
    assert resolve(Example, {}, env, role="decode").port == 3
    assert resolve(Example, {}, env, role="prefill").port == 2
    assert resolve(Example, {"port": "1"}, env, role="decode").port == 1


def test_a_variable_of_a_role_is_known_for_the_settings_that_the_role_has():
    check_environment([], {"PERIGEE_DECODE_PORT": "1"}, roles={"decode": Example})
    with pytest.raises(ConfigError, match=r"PERIGEE_DECODE_PROT: .* did you mean PERIGEE_DECODE_PORT\?"):
        check_environment([], {"PERIGEE_DECODE_PROT": "1"}, roles={"decode": Example})


@dataclass(frozen=True)
class Renamed:
    hold_seconds: float = field(default=30.0, metadata={FORMERLY: {"hold_ms": 0.001}})
    stop_seconds: float | Literal["auto"] = field(default="auto", metadata={FORMERLY: {"stop_s": 1}})

    def __post_init__(self):
        check_seconds(self, "hold_seconds")


def test_a_former_name_is_still_taken_from_every_source_in_its_own_unit():
    assert resolve(Renamed, {"hold_ms": "1500"}, {}).hold_seconds == 1.5
    assert resolve(Renamed, {}, {"PERIGEE_HOLD_MS": "1500"}).hold_seconds == 1.5
    assert resolve(Renamed, {}, {}, {"hold_ms": 1500, "stop_s": "auto"}) == Renamed(1.5, "auto")
    check_environment([Renamed], {"PERIGEE_STOP_S": "1"})
    with pytest.raises(ConfigError, match=r"hold_ms: 'long' is not a number \(from --hold-ms\)"):
        resolve(Renamed, {"hold_ms": "long"}, {})


def test_a_setting_given_by_two_of_its_names_is_refused_unless_the_sources_differ():
    assert resolve(Renamed, {"hold_ms": "1500"}, {"PERIGEE_HOLD_SECONDS": "4"}).hold_seconds == 1.5
    with pytest.raises(ConfigError, match="hold_ms and hold_seconds are the same setting"):
        resolve(Renamed, {}, {}, {"hold_seconds": 4, "hold_ms": 1500})


def test_a_value_out_of_range_is_refused_with_where_it_came_from():
    sentence = r"^hold_seconds: must be 0.001 to 604800 seconds, is -1 \(from PERIGEE_VISION_HOLD_SECONDS\)$"
    with pytest.raises(ConfigError, match=sentence):
        resolve(Renamed, {}, {"PERIGEE_VISION_HOLD_SECONDS": "-1"}, role="vision")


def test_a_name_like_no_other_is_refused_without_a_list_that_nobody_reads():
    many = make_dataclass("Many", [(f"setting_{number}", int, 0) for number in range(100)])
    with pytest.raises(ConfigError, match=r"^PERIGEE_XYZZY: unknown setting in the environment$"):
        check_environment([many], {"PERIGEE_XYZZY": "1"})


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
