"""What an encoder has to do, in patches: what the model takes, whatever size the files have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from services.common.errors import Overloaded
from services.common.fairness.share import served_meanwhile, within_share
from services.common.telemetry.timeline import Timeline


@dataclass(frozen=True)
class Terms:
    """A caller's terms. `patches`: the image has so many after resizing, 0 if its header cannot be read.

    `limit_s`: the most seconds that an image or a chunk may take, time in queues apart; None: any. `left_s`:
    seconds until the caller leaves; None: it stays. `tenant`: whose file it is, 0 for nobody's in particular;
    `weight`: that tenant's. `timeline`: gets the stages of the file if this caller is the first one with it.
    """

    patches: int = 0
    limit_s: float | None = None
    left_s: float | None = None
    tenant: int = 0
    weight: int = 1
    timeline: Timeline | None = None


class Backlog:
    """Files in progress or queued, by their patches; refuses more than the encoder can take.

    A file is refused if there are too many, if its tenant has its share of the places, or if those before it
    and it would take longer than its caller stays even at the fastest rate the model has shown. Event loop
    only.
    """

    def __init__(self, most_files: int, most_patches: int) -> None:
        """`most_patches`: bounds the pixels that wait for the model, decoded; a lone file may have more."""
        self._most_files = most_files
        self._most_patches = most_patches
        self._waiting: dict[Hashable, int] = {}
        self._running: dict[Hashable, int] = {}
        self._terms: dict[Hashable, Terms] = {}
        self._best_rate = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def patches(self) -> int:
        """Patches of all files in progress or queued; of a video, those of one chunk."""
        return sum(self._waiting.values()) + sum(self._running.values())

    def check(self, terms: Terms) -> None:
        """Raises Overloaded if a file on these terms must not enter now."""
        if len(self) >= self._most_files:
            raise Overloaded(
                f"{len(self)} images and videos are already being encoded or queued",
                self._seconds(terms.patches),
            )
        if len(self) and self.patches + terms.patches > self._most_patches:
            raise Overloaded(
                f"images of {self.patches} patches are being encoded or queued; with one of {terms.patches}"
                f" they would exceed {self._most_patches}",
                self._seconds(self.patches + terms.patches - self._most_patches),
            )
        if terms.tenant and not self._is_within_share(terms):
            raise Overloaded(
                f"this API key has its share of the {len(self)} images and videos that are being encoded or"
                " queued",
                self._seconds(terms.patches),
            )
        wait_s = self._seconds(self._due(terms))
        if self._waiting and terms.left_s is not None and wait_s > terms.left_s:
            raise Overloaded(
                f"{len(self._waiting)} images and videos are queued; this one would take {wait_s:.0f} s or"
                f" more, and the request has {terms.left_s:.0f} s left",
                wait_s - terms.left_s,
            )

    def enter(self, file: Hashable, terms: Terms, patches: int) -> None:
        """Adds a file, or corrects its patches once they are known."""
        self._waiting[file] = patches
        self._terms[file] = terms

    def begin(self, file: Hashable) -> None:
        """The model begins with a file, or with one chunk of it."""
        self._running[file] = self._waiting.pop(file, 0)

    def end(self, file: Hashable) -> None:
        """The model is done with a file, or with one chunk of it: it waits again, until it leaves."""
        self._waiting[file] = self._running.pop(file, 0)

    def took(self, patches: int, seconds: float) -> None:
        """Notes how long the model took for so many patches."""
        if seconds > 0:
            self._best_rate = max(self._best_rate, patches / seconds)

    def leave(self, file: Hashable) -> None:
        """Removes a file. Idempotent."""
        self._waiting.pop(file, None)
        self._running.pop(file, None)
        self._terms.pop(file, None)

    def _is_within_share(self, terms: Terms) -> bool:
        own = [file for file, other in self._terms.items() if other.tenant == terms.tenant]
        patches = sum(self._waiting.get(file, 0) + self._running.get(file, 0) for file in own)
        return within_share(len(own), terms.weight, self._most_files - len(self)) and (
            not own or within_share(patches, terms.weight, self._most_patches - self.patches)
        )

    def _due(self, terms: Terms) -> int:
        """Patches that the model takes until it has taken those of one more file: of the tenant's own all, of
        another one's what its weight gives it meanwhile.
        """
        others = Counter[tuple[int, int]]()
        own = terms.patches
        for file, patches in self._waiting.items():
            other = self._terms[file]
            if other.tenant == terms.tenant:
                own += patches
            else:
                others[other.tenant, other.weight] += patches
        waiting = ((weight, patches) for (_, weight), patches in others.items())
        return own + served_meanwhile(waiting, own, terms.weight)

    def _seconds(self, patches: int) -> float:
        """The least time for so many patches; 0 while no rate is known."""
        return patches / self._best_rate if self._best_rate else 0.0
