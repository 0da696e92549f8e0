"""The certificates of a process, read again when their files change."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from services.common.errors import ConfigError
from services.common.rpc.role import Role
from services.common.rpc.tls.bundle import (
    CA,
    CERTIFICATE,
    KEY,
    Bundle,
    Subject,
    check_door_files,
    check_peer_files,
    read_bundle,
)
from services.common.rpc.tls.trust_domain import TrustDomain

_EVERY_S = 2.0

_Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """`current` is the last bundle that passed all checks; any thread may read it. `valid_until`: the end of
    its certificate, as text; "" for a door's.

    A rotation that is incomplete or wrong changes nothing: it is logged once, and the files are looked at
    again. So a server never falls back to plain TCP or to no certificate.
    """

    def __init__(self, directory: Path, check: Callable[[], str], *, with_ca: bool) -> None:
        """`check` returns `valid_until`, or raises ConfigError if the files are of no use; so does this."""
        self._directory = directory
        self._check = check
        self._with_ca = with_ca
        self._listeners: list[Callable[[], None]] = []
        self._stamp = self._stamped()
        self._complaint = ""
        self._complained = False
        self.valid_until = ""
        self.current = self._checked()

    @classmethod
    def of_peer(cls, directory: Path, trust_domain: TrustDomain, *roles: Role) -> Certificates:
        """The certificates by which a process and its peers know each other. It has one of `roles`."""

        def check() -> str:
            subject = check_peer_files(directory)
            if not any(_is_of(subject, trust_domain, role) for role in roles):
                wanted = " or ".join(
                    f"{trust_domain.spiffe_id(role)} and {trust_domain.dns_name(role)}" for role in roles
                )
                raise ConfigError(
                    f"{directory / CERTIFICATE}: must have the URI and DNS name {wanted}, and no other URI;"
                    f" has {', '.join((*subject.uris, *subject.dns_names)) or 'none'}"
                )
            return subject.not_after

        return cls(directory, check, with_ca=True)

    @classmethod
    def of_door(cls, directory: Path) -> Certificates:
        """The certificate that a server shows to clients. `ca.crt` is not used."""

        def check() -> str:
            check_door_files(directory)
            return ""

        return cls(directory, check, with_ca=False)

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._directory

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after each change of `current`, on the thread that looks."""
        self._listeners.append(listener)

    def look(self) -> bool:
        """Takes the files if they have changed and pass; returns whether `current` is another one."""
        stamp = self._stamped()
        if stamp == self._stamp and not self._complaint:
            return False
        try:
            found = self._checked()
        except ConfigError as error:
            self._refused(error.message)
            return False
        self._stamp, self._complaint = stamp, ""
        if found == self.current:
            return False
        self.current = found
        _log().info(
            "new certificates in use", directory=str(self._directory), valid_until=self.valid_until or "-"
        )
        for listener in self._listeners:
            listener()
        return True

    @contextlib.contextmanager
    def watching(self, every_s: float = _EVERY_S) -> Iterator[None]:
        """Looks every `every_s` seconds on a thread of its own, for the length of the block."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(every_s):
                try:
                    self.look()
                # Barrier: a defect in one look must not end the looking.
                except Exception:
                    log = _log()
                    log.exception("certificates could not be looked at", directory=str(self._directory))

        thread = threading.Thread(target=watch, name="certificates", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _refused(self, why: str) -> None:
        """Logs a reason found twice in a row: the first time the files may be half replaced."""
        if why == self._complaint and not self._complained:
            self._complained = True
            _log().error("new certificates refused; the old ones stay in use", detail=why)
        elif why != self._complaint:
            self._complaint, self._complained = why, False

    def _checked(self) -> Bundle:
        """Reads before and after the check, which reads the files itself: both must be what was checked."""
        before = read_bundle(self._directory, with_ca=self._with_ca)
        valid_until = self._check()
        after = read_bundle(self._directory, with_ca=self._with_ca)
        if before != after:
            raise ConfigError(f"{self._directory}: the files are being replaced")
        self.valid_until = valid_until
        return after

    def _stamped(self) -> _Stamp:
        names = (CERTIFICATE, KEY, CA) if self._with_ca else (CERTIFICATE, KEY)
        return tuple(_stamp(self._directory / name) for name in names)


def _log() -> Any:
    # Only here: a health check, which runs every few seconds and logs nothing, must not load it.
    import structlog

    return structlog.get_logger()


def _is_of(subject: Subject, trust_domain: TrustDomain, role: Role) -> bool:
    named = trust_domain.dns_name(role) in subject.dns_names
    return named and subject.uris == (trust_domain.spiffe_id(role),)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
