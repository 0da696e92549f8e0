"""A decode worker's engine without the worker: no gRPC, no NIXL, stepped by its caller."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from services.decode.constraint.mask_threads import MaskThreads
from services.decode.engine import DecodeEngine
from services.decode.limits import DecodeLimits
from services.decode.prompts.prompt_queue import EngineIO
from services.decode.request import Delta, Request, Session
from services.decode.token_stepper import SingleTokenStepper
from services.engine.kv_cache.page_manager import PageManager
from services.engine.runner import BatchRunner
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec

_PATIENCE_S = 600.0


class EngineAlone:
    """An engine over the first `num_pages` pages of a runner. `overlaps`: as in SingleTokenStepper."""

    def __init__(
        self,
        runner: BatchRunner,
        sampler: Sampler,
        num_pages: int,
        limits: DecodeLimits,
        io: EngineIO,
        take: Callable[[list[Delta]], object],
        *,
        overlaps: bool,
    ) -> None:
        """`take` is given what the requests' callers would be sent."""
        masks = MaskThreads()
        self.engine = DecodeEngine(
            SingleTokenStepper(runner, sampler, masks, overlaps=overlaps),
            PageManager(num_pages, runner),
            masks,
            limits,
            io,
            lambda serving: None,
        )
        self._session = Session(take)
        self._handles = 0

    def submit(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        spec: SamplingSpec,
        *,
        choices: int = 1,
        prefill: Sequence[str] = (),
    ) -> int:
        """Submits a request; returns its handle. `prefill`: addresses of prefill workers."""
        self._handles += 1
        self.engine.submit(
            Request(
                session=self._session,
                handle=self._handles,
                request_id=f"alone-{self._handles}",
                prompt_ids=list(prompt),
                output_ids=[],
                spec=spec,
                seed=self._handles,
                choices=range(choices),
                max_tokens=max_tokens,
                media=(),
                cache_salt="",
                prefill_addresses=tuple(prefill),
                own_address="",
                deadline=time.monotonic() + _PATIENCE_S,
            )
        )
        return self._handles

    def run(self) -> None:
        """Steps until there is nothing to do."""
        while self.engine.step():
            pass


class Answers(defaultdict[int, defaultdict[int, list[int]]]):
    """The tokens of every choice, by the request's handle."""

    def __init__(self) -> None:
        super().__init__(lambda: defaultdict(list))

    def take(self, deltas: list[Delta]) -> None:
        """See EngineAlone. Raises the error of a request that fails."""
        for delta in deltas:
            if delta.error is not None:
                raise delta.error
            self[delta.handle][delta.choice] += [token.token_id for token in delta.tokens]
