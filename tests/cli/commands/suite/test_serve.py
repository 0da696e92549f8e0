"""Command lines of the cookbook carry over."""

import dataclasses
import shlex
from itertools import pairwise

import pytest

from services.cli.commands.suite.serve import run_config
from services.cli.main import build_parser, main
from services.cli.run.plan import make_plan
from services.cli.run_config import RunConfig
from services.common.errors import ConfigError
from tests.support.endpoints import ENDPOINTS

COOKBOOK = (
    "serve --model-path {model} --tp 1 --reasoning-parser kimi_k2 --tool-call-parser kimi_k2"
    " --chat-template kimi_k2 --trust-remote-code --served-model-name kimi-k2.5 --host 0.0.0.0 --port {port}"
)


def parsed(line):
    return build_parser({"serve"}).parse_args(shlex.split(line))


def test_a_command_line_of_the_cookbook_starts_the_suite_it_means(nano_dir):
    config = run_config(parsed(COOKBOOK.format(model=nano_dir, port=31234)))
    assert config.model == str(nano_dir)
    assert (config.served_model_name, config.host, config.http_port) == ("kimi-k2.5", "0.0.0.0", 31234)
    free = dataclasses.replace(
        config, http_port=0, grpc_port=0, operator_port=0, port_base=0, metrics_port_base=0
    )
    gateway = make_plan(free, ENDPOINTS).children[-1].arguments
    assert "kimi-k2.5" in gateway
    assert "0.0.0.0" in gateway


def test_the_context_length_reaches_the_workers_of_text(nano_dir):
    config = run_config(parsed(f"serve --model {nano_dir} --context-length 2048"))
    assert config.context_length == 2048


def test_prefill_and_decode_are_as_many_processes_as_tp_says(nano_dir):
    config = run_config(parsed(f"serve --model {nano_dir} --tp 2 --port 0"))
    free = dataclasses.replace(config, grpc_port=0, operator_port=0, port_base=0, metrics_port_base=0)
    children = make_plan(free, ENDPOINTS).children
    told = {child.role for child in children if ("--tp", "2") in pairwise(child.arguments)}
    assert told == {"prefill", "decode"}


def test_aggregated_means_what_it_means_for_run():
    assert run_config(parsed("serve --aggregated")).aggregated
    assert not run_config(parsed("serve --no-aggregated")).aggregated


def test_a_model_profile_is_taken_over():
    assert run_config(parsed("serve --model-profile k2.6")).model_profile == "k2.6"


def test_both_spellings_of_the_model_mean_the_same(nano_dir):
    assert run_config(parsed(f"serve --model {nano_dir}")) == run_config(
        parsed(f"serve --model-path {nano_dir}")
    )


def test_a_parser_that_is_not_named_is_the_settings_file_s_else_none(tmp_path):
    file = tmp_path / "perigee.toml"
    file.write_text('[run]\nreasoning_parser = "kimi_k2"\n')
    config = run_config(parsed(f"serve --config {file}"))
    assert (config.reasoning_parser, config.tool_call_parser) == ("kimi_k2", "none")


def test_what_is_not_given_has_the_defaults_of_run():
    parsers = {"reasoning_parser", "tool_call_parser"}
    config, default = run_config(parsed("serve")), RunConfig()
    for field in dataclasses.fields(RunConfig):
        if field.name not in parsers:
            assert getattr(config, field.name) == getattr(default, field.name)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--tp 0", "tp: must be 1 to 1,024"),
        ("--tensor-parallel-size -1", "tp: must be 1 to 1,024"),
        ("--reasoning-parser qwen3", "--reasoning-parser qwen3"),
        ("--tool-call-parser hermes", "--tool-call-parser hermes"),
        ("--chat-template other.jinja", "--chat-template other.jinja"),
        ("--port 70000", "http_port"),
    ],
)
def test_what_cannot_be_served_is_refused_by_its_flag(flags, named):
    with pytest.raises(ConfigError, match=named):
        run_config(parsed(f"serve {flags}"))


def test_a_name_of_a_hub_is_no_directory(capsys):
    assert main(["serve", "--model-path", "moonshotai/Kimi-K2.5", "--tp", "1"]) == 2
    assert "moonshotai/Kimi-K2.5 is not a checkpoint directory" in capsys.readouterr().err


def test_a_flag_that_is_not_offered_is_named(capsys):
    assert main(["serve", "--enable-dp-attention"]) == 2
    assert (
        "unknown flag --enable-dp-attention; did you mean --prefill.dp-attention or --decode.dp-attention?"
        in capsys.readouterr().err
    )
