"""`perigee serve`: the whole suite, started with the flags of SGLang's command lines for this model."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from services.cli.run.command import run_suite
from services.cli.run_config import RunConfig
from services.cli.settings_source import resolve_settings, settings_file
from services.common.errors import ConfigError

_PARSER = "kimi_k2"
_ABSENT = argparse.SUPPRESS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes. Names in `dest` are RunConfig's; what is not given keeps its default there."""
    parser.add_argument("--config", metavar="FILE", help="settings file of all services, as for run")
    cookbook = parser.add_argument_group("as in the cookbook")
    cookbook.add_argument(
        "--model-path", "--model", dest="model", default=_ABSENT, metavar="DIR", help="checkpoint directory"
    )
    cookbook.add_argument(
        "--tp",
        "--tp-size",
        "--tensor-parallel-size",
        type=int,
        default=_ABSENT,
        help="processes that share the model, with a GPU each where there are some",
    )
    for kind, meaning in (("reasoning", "reasoning_content"), ("tool-call", "tool_calls")):
        cookbook.add_argument(
            f"--{kind}-parser",
            default=_ABSENT,
            metavar=_PARSER,
            help=f"{meaning} apart from content; not given: raw content",
        )
    cookbook.add_argument("--chat-template", metavar=_PARSER, help="the model's own, which is always used")
    cookbook.add_argument(
        "--trust-remote-code", action="store_true", help="no effect: no code of a checkpoint is ever run"
    )
    cookbook.add_argument("--served-model-name", default=_ABSENT, help="name the model answers to")
    cookbook.add_argument("--host", default=_ABSENT, help="address of the doors")
    cookbook.add_argument("--port", dest="http_port", type=int, default=_ABSENT, help="of the REST door")
    ours = parser.add_argument_group("as for run")
    for key in ("grpc_port", "operator_port", "port_base", "metrics_port_base"):
        ours.add_argument(f"--{key.replace('_', '-')}", type=int, default=_ABSENT)
    ours.add_argument(
        "--aggregated",
        action=argparse.BooleanOptionalAction,
        default=_ABSENT,
        help="no prefill worker: decode computes prompts itself",
    )
    ours.add_argument("--run-dir", type=Path, default=_ABSENT)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """As `perigee run`."""
    return run_suite(run_config(arguments), settings_file(arguments, os.environ))


def run_config(arguments: argparse.Namespace) -> RunConfig:
    """What the flags mean. Raises ConfigError for a value that cannot be served, naming its flag."""
    if arguments.chat_template not in (None, _PARSER):
        raise ConfigError(
            f"--chat-template {arguments.chat_template}: only the model's own, {_PARSER}, is used"
        )
    for key in ("reasoning_parser", "tool_call_parser"):
        given = getattr(arguments, key, None)
        if given not in (None, _PARSER):
            raise ConfigError(f"--{key.replace('_', '-')} {given}: only {_PARSER} is offered")
    config = resolve_settings(RunConfig, "run", arguments, os.environ)
    # As in the cookbook, unless a variable or the settings file says otherwise.
    return replace(
        config,
        reasoning_parser=config.reasoning_parser or "none",
        tool_call_parser=config.tool_call_parser or "none",
    )
