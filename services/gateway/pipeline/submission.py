"""The stages that ask workers: encode the images, choose the workers, submit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from perigee.v1 import decode_pb2, sampling_pb2
from services.gateway.pipeline.encoding import VisionStage
from services.gateway.pipeline.rendering import Prompt
from services.gateway.router import Router
from services.gateway.workers.token_stream import TokenStream

_MOST_MS = (1 << 32) - 1


@dataclass(frozen=True)
class Submission:
    """One request, ready to be sent, and sent again if its embeddings were lost: same id, same seed.

    `deadline`: time.monotonic() after which no worker may go on.
    """

    request_id: str
    prompt: Prompt
    sampling: sampling_pb2.SamplingParams
    cache_salt: str
    deadline: float

    async def send(self, router: Router, vision: VisionStage) -> TokenStream:
        """Encodes and submits. The caller closes the stream.

        Raises Unavailable naming the role of which no worker can serve, and what VisionStage.encode raises.
        """
        # Before the encoders are asked: where nobody could decode, they would work for nothing.
        router.decode()
        prefill = router.prefill()
        media = await vision.encode(self.prompt.images) if self.prompt.images else {}
        submit = decode_pb2.Submit(
            request_id=self.request_id,
            prompt_token_ids=self.prompt.token_ids,
            sampling=self.sampling,
            cache_salt=self.cache_salt,
            prefill_addresses=prefill,
            timeout_ms=self._timeout_ms(),
        )
        for image, offset in zip(self.prompt.images, self.prompt.image_offsets, strict=True):
            placed = submit.media.add()
            placed.CopyFrom(media[image.content_hash])
            placed.token_offset = offset
        worker = router.decode()
        submit.own_address = worker.link.address
        stream = worker.session.submit(submit)
        worker.link.note_sent()
        return stream

    def _timeout_ms(self) -> int:
        return max(1, min(_MOST_MS, int((self.deadline - time.monotonic()) * 1000)))
