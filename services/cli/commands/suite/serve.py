"""`perigee serve`: runs the whole suite, with the flags of SGLang's command lines for this model."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from services.cli.run.command import add_dry_run, run_suite
from services.cli.run_config import RunConfig
from services.cli.settings_source import Sources, add_suite_flags, resolve_settings
from services.common.errors import ConfigError

_PARSER = "kimi_k2"
_ABSENT = argparse.SUPPRESS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments. `dest` names are RunConfig's; absent flags keep RunConfig's defaults."""
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
        help="processes that share the model; on GPUs, one each",
    )
    for kind, meaning in (("reasoning", "reasoning_content"), ("tool-call", "tool_calls")):
        cookbook.add_argument(
            f"--{kind}-parser",
            default=_ABSENT,
            metavar=_PARSER,
            help=f"return {meaning} apart from content (default: raw content)",
        )
    cookbook.add_argument(
        "--chat-template", metavar=_PARSER, help=f"no effect: {_PARSER}, the model's own, is always used"
    )
    cookbook.add_argument(
        "--trust-remote-code", action="store_true", help="no effect: a checkpoint's code is never run"
    )
    cookbook.add_argument("--served-model-name", default=_ABSENT, help="name of the model in requests")
    cookbook.add_argument(
        "--context-length", type=int, default=_ABSENT, help="longest prompt plus completion, tokens"
    )
    cookbook.add_argument("--host", default=_ABSENT, help="address on which REST and gRPC listen")
    cookbook.add_argument("--port", dest="http_port", type=int, default=_ABSENT, help="REST port")
    ours = parser.add_argument_group("as for run")
    for key in ("grpc_port", "operator_port", "port_base", "metrics_port_base"):
        ours.add_argument(f"--{key.replace('_', '-')}", type=int, default=_ABSENT)
    ours.add_argument(
        "--aggregated",
        action=argparse.BooleanOptionalAction,
        default=_ABSENT,
        help="run without prefill workers: decode computes prompts itself (default: if GPUs are too few)",
    )
    ours.add_argument(
        "--model-profile",
        default=_ABSENT,
        help="k2.5, k2.6 or k2.7-code (default: as the checkpoint's chat template and the names say)",
    )
    for key in ("tls_dir", "public_tls_dir", "trust_domain"):
        ours.add_argument(f"--{key.replace('_', '-')}", default=_ABSENT)
    ours.add_argument(
        "--insecure", action="store_true", default=_ABSENT, help="plain TCP although other machines reach it"
    )
    ours.add_argument("--run-dir", type=Path, default=_ABSENT)
    add_dry_run(parser)
    add_suite_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Runs the suite as `perigee run` does."""
    config = run_config(arguments)
    return run_suite(config, Sources.of(arguments, os.environ), dry_run=arguments.dry_run)


def run_config(arguments: argparse.Namespace) -> RunConfig:
    """Returns the suite's settings. Raises ConfigError naming the flag of an unsupported value."""
    if arguments.chat_template not in (None, _PARSER):
        raise ConfigError(
            f"--chat-template {arguments.chat_template}: only {_PARSER}, the model's own, is supported"
        )
    for key in ("reasoning_parser", "tool_call_parser"):
        given = getattr(arguments, key, None)
        if given not in (None, _PARSER):
            raise ConfigError(f"--{key.replace('_', '-')} {given}: only {_PARSER} is supported")
    config = resolve_settings(RunConfig, "run", arguments, os.environ)
    # The cookbook's default is raw content; variables and the settings file override it.
    return replace(
        config,
        reasoning_parser=config.reasoning_parser or "none",
        tool_call_parser=config.tool_call_parser or "none",
    )
