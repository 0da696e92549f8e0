"""`perigee sbom`: prints the software bill of materials of this installation."""

from __future__ import annotations

import argparse
import json

from services.cli.sbom.cyclonedx import document
from services.cli.sbom.debian import debian_packages
from services.cli.sbom.libraries import LibraryTable
from services.cli.sbom.packages import installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flag, and sets the command's function."""
    parser.add_argument(
        "--system", action="store_true", help="list the Debian packages of this machine or image, too"
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Prints a document in the format CycloneDX."""
    system = debian_packages() if arguments.system else []
    print(json.dumps(document(installed(LibraryTable()), system), indent=1))
    return 0
