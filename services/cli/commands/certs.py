"""`perigee certs dev DIR`: makes certificates to try mTLS with."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from services.common.errors import ConfigError
from services.common.rpc.tls.trust_domain import DEFAULT_TRUST_DOMAIN, TrustDomain

_LONGEST_DAYS = 3650
_PUBLIC_NAMES = "localhost,127.0.0.1,::1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Makes a CA and, below DIR, a directory per role (vision, prefill, decode, gateway, operator) for "
        "--tls-dir and one, public, for --public-tls-dir. Called again it replaces the certificates, which "
        "services notice while they run, and keeps the CA. For trying and testing: the CA's key lies beside "
        "the others. Needs the extra certs."
    )
    kinds = parser.add_subparsers(dest="kind", metavar="dev", required=True)
    dev = kinds.add_parser("dev", help="certificates of a CA of one's own")
    dev.add_argument("directory", type=Path, metavar="DIR", help="where to write; made if it is not there")
    dev.add_argument(
        "--trust-domain",
        default=DEFAULT_TRUST_DOMAIN,
        help=f"as the services' setting (default: {DEFAULT_TRUST_DOMAIN})",
    )
    dev.add_argument(
        "--public-names",
        default=_PUBLIC_NAMES,
        metavar="NAME,…",
        help=f"names and addresses by which clients call the gateway (default: {_PUBLIC_NAMES})",
    )
    dev.add_argument("--days", type=float, default=90.0, metavar="N", help="lifetime (default: 90)")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Raises ConfigError for wrong arguments, and if `cryptography` is not installed."""
    if not 0 < arguments.days <= _LONGEST_DAYS:
        raise ConfigError(f"--days must be above 0 and at most {_LONGEST_DAYS}, is {arguments.days:g}")
    domain = TrustDomain(arguments.trust_domain)
    names = [name.strip() for name in arguments.public_names.split(",") if name.strip()]
    if not names:
        raise ConfigError("--public-names is empty; give at least one name")
    try:
        from services.cli.dev_certificates import write_dev_certificates
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'perigee[certs]'") from error
    made = write_dev_certificates(arguments.directory, domain, names, datetime.timedelta(days=arguments.days))
    for path in made:
        print(path)
    return 0
