"""The stages that ask workers: encode the media, choose the workers, submit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perigee.v1 import decode_pb2, vision_pb2
from services.gateway.media.request_media import PromptMedium
from services.gateway.pipeline.prompt.encoding import VisionStage
from services.gateway.request_record import RequestRecord
from services.gateway.workers.router import NOBODY, PromptPages, Router
from services.gateway.workers.stream.prompt_scores import PromptScores
from services.gateway.workers.stream.token_stream import StreamInbox, TokenStream

_MOST_MS = (1 << 32) - 1


@dataclass(frozen=True)
class Part:
    """Choices of a request that one worker decodes: all of them, or one that continues `outputs`.
    `is_cut`: as in the deltas of its last worker.
    """

    choices: range
    outputs: Sequence[int] = ()
    is_cut: bool = False


class Submission:
    """Sends a request to workers, and again in parts if one fails: same id, same seed."""

    def __init__(
        self,
        submit: decode_pb2.Submit,
        media: Sequence[PromptMedium],
        pages: PromptPages,
        deadline: float,
        record: RequestRecord,
        clock: Callable[[], float] = time.monotonic,
        scores: PromptScores | None = None,
    ) -> None:
        """`submit`: all that is the same for every worker. `media`: the files of `submit.media`, in order.
        `deadline`: seconds of `clock` after which no worker may go on; `record`: where workers and times go;
        `scores`: where those of the prompt go, which are asked for until they are complete. `sent_at`: when
        it was last sent to a worker, 0 before that.
        """
        self.sent_at = 0.0
        self.submit = submit
        self._media = media
        self._pages = pages
        self._deadline = deadline
        self._record = record
        self._scores = scores
        self._clock = clock

    @property
    def deadline(self) -> float:
        """Seconds of the clock after which no worker may go on."""
        return self._deadline

    @property
    def has_media(self) -> bool:
        """Whether `send` waits for encoders."""
        return bool(self._media)

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
        router.require(images=bool(self._media))
        encoded = await self._encode(vision)
        streams: dict[TokenStream, Part] = {}
        try:
            for part in parts:
                streams[self._send_part(part, encoded, router, inbox, avoid)] = part
        except BaseException:
            for stream in streams:
                stream.close()
            raise
        return streams

    def _send_part(
        self,
        part: Part,
        encoded: Mapping[bytes, vision_pb2.MediaRef],
        router: Router,
        inbox: StreamInbox,
        avoid: Mapping[str, int],
    ) -> TokenStream:
        pages = PromptPages(self._pages.num_tokens + len(part.outputs), self._pages.names)
        worker = router.decode(pages, avoid)
        self._record.served_by("decode", worker.link.address)
        submit = decode_pb2.Submit()
        submit.CopyFrom(self.submit)
        submit.sampling.n = len(part.choices)
        submit.first_choice = part.choices.start
        submit.output_token_ids.extend(part.outputs)
        submit.output_is_cut = part.is_cut
        submit.prefill_addresses.extend(router.prefill(pages, worker))
        submit.timeout_ms = self._timeout_ms()
        submit.own_address = worker.link.address
        for ref in submit.media:
            ref.MergeFrom(encoded[ref.content_hash])
        self.sent_at = self._clock()
        if self._scores is None:
            return worker.session.submit(submit, inbox)
        if self._scores.complete:
            submit.ClearField("scoring")
        stream = worker.session.submit(submit, inbox)
        stream.scores = self._scores
        return stream

    async def _encode(self, vision: VisionStage) -> Mapping[bytes, vision_pb2.MediaRef]:
        """Returns the address of each medium's embedding, by content hash."""
        if not self._media:
            return {}
        with self._record.stage("encode"):
            encoded = await vision.encode(
                self._media,
                self._deadline,
                (self.submit.tenant, self.submit.tenant_weight),
                self.submit.traceparent,
            )
        for ref in encoded.values():
            self._record.served_by("vision", ref.address)
        return encoded

    def _timeout_ms(self) -> int:
        return max(1, min(_MOST_MS, int((self._deadline - self._clock()) * 1000)))
