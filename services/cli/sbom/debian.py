"""The Debian packages of a container image, from dpkg's own file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

STATUS = Path("/var/lib/dpkg/status")


@dataclass(frozen=True)
class DebianPackage:
    """An installed package; its licence is in /usr/share/doc/NAME/copyright."""

    name: str
    version: str
    architecture: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:deb/debian/{self.name}@{quote(self.version, safe='')}?arch={self.architecture}"


def debian_packages(status: Path = STATUS) -> list[DebianPackage]:
    """Returns the installed packages by name; none where there is no dpkg."""
    if not status.exists():
        return []
    found = []
    for stanza in status.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if line[:1].isalpha() and ": " in line
        )
        if fields.get("Status") == "install ok installed":
            found.append(DebianPackage(fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(found, key=lambda package: (package.name, package.architecture))
