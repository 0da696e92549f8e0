"""The stages that ask workers: encode the media, choose the workers, submit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from perigee.v1 import decode_pb2, sampling_pb2, vision_pb2
from services.gateway.pipeline.prompt.encoding import VisionStage
from services.gateway.pipeline.prompt.rendering import TokenizedPrompt
from services.gateway.request_record import RequestRecord
from services.gateway.workers.router import NOBODY, PromptPages, Router
from services.gateway.workers.token_stream import StreamInbox, TokenStream

_MOST_MS = (1 << 32) - 1


@dataclass(frozen=True)
class Part:
    """Choices of a request that one worker decodes: all of them, or one that continues `outputs`.
    `is_cut`: as in the deltas of its last worker.
    """

    choices: range
    outputs: Sequence[int] = ()
    is_cut: bool = False


@dataclass(frozen=True)
class Submission:
    """One request, ready to be sent, and sent again in parts if a worker fails: same id, same seed.

    `deadline`: seconds of `clock` after which no worker may go on; `record`: where workers and times go.
    """

    request_id: str
    prompt: TokenizedPrompt
    pages: PromptPages
    sampling: sampling_pb2.SamplingParams
    cache_salt: str
    priority: int
    deadline: float
    constraint: decode_pb2.Constraint | None = None
    record: RequestRecord = field(default_factory=RequestRecord)
    clock: Callable[[], float] = time.monotonic

    async def send(
        self,
        parts: Sequence[Part],
        router: Router,
        vision: VisionStage,
        inbox: StreamInbox,
        avoid: Mapping[str, int] = NOBODY,
    ) -> dict[TokenStream, Part]:
        """Encodes and submits, if possible to no worker in `avoid`; the workers' deltas go into `inbox`.

        The caller must close the streams. Raises Unavailable naming a role that no worker serves, and the
        errors of VisionStage.encode; nothing is left running then.
        """
        # Checked before encoding, which would be wasted if no worker could decode.
        router.require(images=bool(self.prompt.media))
        media = await self._encode(vision)
        streams: dict[TokenStream, Part] = {}
        try:
            for part in parts:
                streams[self._submit(part, media, router, inbox, avoid)] = part
        except BaseException:
            for stream in streams:
                stream.close()
            raise
        return streams

    def _submit(
        self,
        part: Part,
        media: Sequence[vision_pb2.MediaRef],
        router: Router,
        inbox: StreamInbox,
        avoid: Mapping[str, int],
    ) -> TokenStream:
        pages = PromptPages(self.pages.num_tokens + len(part.outputs), self.pages.names)
        worker = router.decode(pages, avoid)
        self.record.served_by("decode", worker.link.address)
        submit = decode_pb2.Submit(
            request_id=self.request_id,
            prompt_token_ids=self.prompt.token_ids,
            output_token_ids=part.outputs,
            output_is_cut=part.is_cut,
            sampling=self.sampling,
            first_choice=part.choices.start,
            media=media,
            cache_salt=self.cache_salt,
            priority=self.priority,
            prefill_addresses=router.prefill(pages, worker),
            timeout_ms=self._timeout_ms(),
            own_address=worker.link.address,
            constraint=self.constraint,
        )
        submit.sampling.n = len(part.choices)
        return worker.session.submit(submit, inbox)

    async def _encode(self, vision: VisionStage) -> list[vision_pb2.MediaRef]:
        """Returns the address of each medium's embedding, with its place in the prompt."""
        if not self.prompt.media:
            return []
        with self.record.stage("encode"):
            encoded = await vision.encode(self.prompt.media)
        for ref in encoded.values():
            self.record.served_by("vision", ref.address)
        placed = []
        for medium, offset in zip(self.prompt.media, self.prompt.media_offsets, strict=True):
            ref = vision_pb2.MediaRef()
            ref.CopyFrom(encoded[medium.content_hash])
            ref.token_offset = offset
            placed.append(ref)
        return placed

    def _timeout_ms(self) -> int:
        return max(1, min(_MOST_MS, int((self.deadline - self.clock()) * 1000)))
