"""Several prompts of one call, generated side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, TypeVar

from perigee.v1 import sampling_pb2
from services.gateway.admission import Admission, Ticket
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.answer import Answer
from services.gateway.pipeline.output.events import ChoiceDelta
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.prompt.scoring import check_count
from services.gateway.pipeline.request import GenerationRequest

Result = TypeVar("Result")

# The index of a prompt with its next delta; at the end, with the task that read its deltas.
_Item: TypeAlias = tuple[int, "ChoiceDelta | asyncio.Task[None]"]


class Batch:
    """One or more generations, by index of the prompt. Use either `answers` or `deltas`, once."""

    def __init__(self, generations: Sequence[Generation]) -> None:
        self.generations = generations

    @property
    def usage(self) -> sampling_pb2.Usage:
        """Token accounting of all generations together, so far."""
        total = sampling_pb2.Usage()
        for generation in self.generations:
            for field, count in generation.usage.ListFields():
                setattr(total, field.name, getattr(total, field.name) + count)
        return total

    @property
    def first_running(self) -> int:
        """The first prompt with a choice that has not ended; 0 if all have."""
        return next((i for i, generation in enumerate(self.generations) if not generation.all_ended), 0)

    @property
    def all_ended(self) -> bool:
        """Whether no choice of any prompt is running."""
        return all(generation.all_ended for generation in self.generations)

    async def accepted(self, within_s: float) -> None:
        """As Generation.accepted, for all of them. The first failure is raised."""
        await _together(generation.accepted(within_s) for generation in self.generations)

    async def answers(self) -> list[Answer]:
        """Returns all answers, whole. The first failure cancels the others and is raised."""
        return await _together(generation.answer() for generation in self.generations)

    async def deltas(self) -> AsyncGenerator[tuple[int, ChoiceDelta], None]:
        """Yields the index of a prompt and its next delta, as they come; raises the first failure.

        Several prompts are read by tasks: a caller that may leave the iteration early must use `aclosing`.
        """
        if len(self.generations) == 1:
            async for delta in self.generations[0]:
                yield 0, delta
            return
        items: asyncio.Queue[_Item] = asyncio.Queue()
        tasks = []
        for index, generation in enumerate(self.generations):
            task = asyncio.create_task(_pump(index, generation, items))
            task.add_done_callback(lambda done, index=index: items.put_nowait((index, done)))  # type: ignore[misc]
            tasks.append(task)
        try:
            running = len(tasks)
            while running:
                index, item = await items.get()
                if isinstance(item, ChoiceDelta):
                    yield index, item
                else:
                    item.result()
                    running -= 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Runs all at once. The first failure cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _pump(index: int, generation: Generation, items: asyncio.Queue[_Item]) -> None:
    async for delta in generation:
        items.put_nowait((index, delta))


class BatchPipeline:
    """Opens batches. Each prompt beyond the first is admitted as a request of its own."""

    def __init__(self, pipeline: Pipeline, admission: Admission, door: str) -> None:
        self._pipeline = pipeline
        self._admission = admission
        self._door = door

    @asynccontextmanager
    async def open(self, requests: Sequence[GenerationRequest], ticket: Ticket) -> AsyncIterator[Batch]:
        """Like Pipeline.open; also raises Overloaded unless all requests fit in, and InvalidRequest if they
        never could, or want too many log-probabilities of their prompts together.

        Every request is checked before the first is submitted.
        """
        self._admission.check_batch(len(requests), ticket.tenant, requests[0].prompt_param.partition("[")[0])
        for request in requests:
            self._pipeline.check(request)
        async with AsyncExitStack() as stack:
            others = [
                stack.enter_context(self._admission.enter(self._door, ticket.record, ticket.tenant))
                for _ in requests[1:]
            ]
            generations = [
                await stack.enter_async_context(self._pipeline.open(request, own))
                for request, own in zip(requests, [ticket, *others], strict=True)
            ]
            for wanted in (request.prompt_logprobs for request in requests):
                if wanted is not None:
                    count = sum(generation.num_prompt_logprobs for generation in generations)
                    check_count(count, wanted.param)
                    break
            yield Batch(generations)
