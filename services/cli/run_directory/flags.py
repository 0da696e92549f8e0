"""Which suite a command means."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from services.cli.run_config import RunConfig
from services.cli.settings_source import Sources
from services.common.settings import build


def add_run_dir_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --run-dir and --config, for `run_directory`."""
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="directory of the suite's logs, as for run (or PERIGEE_RUN_DIR; default: .run)",
    )
    parser.add_argument("--config", metavar="FILE", help="settings file of the suite (or PERIGEE_CONFIG)")


def run_directory(arguments: argparse.Namespace, env: Mapping[str, str]) -> Path:
    """Returns the directory. Raises ConfigError as `perigee run` does."""
    flags = {} if arguments.run_dir is None else {"run_dir": arguments.run_dir}
    given = Sources.of(arguments, env).given(RunConfig, "run", flags)
    return build(RunConfig, {"run_dir": given["run_dir"]} if "run_dir" in given else {}).run_dir
