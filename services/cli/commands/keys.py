"""`perigee keys create|list|revoke`: the file of API keys."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from services.cli.key_table import key_table
from services.common.errors import ConfigError
from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.secret import digest, new_key

_VARIABLE = "PERIGEE_API_KEYS"
_MOST_DAYS = 36_500
_LIMITS = {
    "max_concurrent": "most requests in flight (default: a share of the gateway's)",
    "requests_per_minute": "most requests in any minute (default: no limit)",
    "tokens_per_minute": "most tokens in any minute, prompts and answers together (default: no limit)",
    "weight": "part of a busy service, in proportion to the other keys' weights, 1 to 100 (default: 1)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    parser.description = (
        "Makes, lists and revokes API keys. The file holds digests, never a key; gateways started with "
        "--api-keys FILE notice a change within a second or two."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print it, this once", allow_abbrev=False)
    create.add_argument("label", metavar="LABEL", help="its name in logs, metrics and these commands")
    create.add_argument(
        "--scope",
        action="append",
        choices=("chat", "admin"),
        help="what it allows; may be repeated (default: chat). admin: /metrics, /server_info, operator port",
    )
    create.add_argument("--expires-in-days", type=float, metavar="DAYS", help="default: it never expires")
    for name, text in _LIMITS.items():
        create.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=text)
    create.set_defaults(execute=_create)
    listing = actions.add_parser("list", help="show all keys' labels, scopes and limits", allow_abbrev=False)
    listing.set_defaults(execute=_list)
    revoke = actions.add_parser("revoke", help="remove a key; requests that run go on", allow_abbrev=False)
    revoke.add_argument("label", metavar="LABEL", help="as `list` shows it")
    revoke.set_defaults(execute=_revoke)
    for each in (create, listing, revoke):
        each.add_argument(
            "--api-keys",
            metavar="FILE",
            default=os.environ.get(_VARIABLE, ""),
            help=f"the file of keys (or {_VARIABLE}); `create` makes it where it is missing",
        )


def _create(arguments: argparse.Namespace) -> int:
    """Prints the key alone to stdout. Raises ConfigError for a value out of range or a taken label."""
    file, key = _file(arguments), new_key()
    record = {
        "label": arguments.label,
        "sha256": digest(key),
        "scopes": sorted(set(arguments.scope or ["chat"]), reverse=True),
        "created": _now(),
        **{name: getattr(arguments, name) for name in _LIMITS if getattr(arguments, name) is not None},
    }
    days = arguments.expires_in_days
    if days is not None:
        if not 0 < days <= _MOST_DAYS:
            raise ConfigError(f"--expires-in-days: must be above 0 and at most {_MOST_DAYS}, is {days:g}")
        record["expires"] = _now() + timedelta(days=days)
    try:
        made = msgspec.convert(record, KeyRecord)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{error}") from error
    file.add(made)
    print(key)
    print(f"This is the only time that the key of {made.label!r} is shown.", file=sys.stderr)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    print("\n".join(key_table(_file(arguments).read(), _now())))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    removed = _file(arguments).remove(arguments.label)
    print(f"the key of {removed.label!r} is revoked", file=sys.stderr)
    return 0


def _file(arguments: argparse.Namespace) -> KeyFile:
    if not arguments.api_keys:
        raise ConfigError(f"--api-keys: name the file of keys, or set {_VARIABLE}")
    return KeyFile(Path(arguments.api_keys))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
