"""Counts the pictures of a video, and for how long it shows them, from its packets alone."""

from __future__ import annotations

from fractions import Fraction

from av.packet import Packet
from av.video.stream import VideoStream

_VP8_SHOWN = 0x10


class PictureCount:
    """Counts the pictures of one track, which is fed packet by packet in the file's order.

    Three kinds of packets show nothing: those the container marks as discarded; VP8's hidden references; and
    those behind the first one with an earlier time, as they stand where a film was cut at an open group of
    pictures: what they refer to is missing. A decoder that shows some of the last kind after all shows more
    pictures than were counted.
    """

    def __init__(self, codec: str, time_base: Fraction) -> None:
        """`time_base`: seconds per tick of the packets' times."""
        self._is_vp8 = codec == "vp8"
        self._tick_s = time_base
        self._untimed = 0
        self._times: set[int] = set()
        self._first: int | None = None

    @property
    def num_pictures(self) -> int:
        """So far."""
        return len(self._times) + self._untimed

    @property
    def seconds(self) -> float:
        """How long the pictures last, the last one as long as the others on average; 0.0 where the packets do
        not tell.
        """
        count = len(self._times)
        if count < 2:
            return 0.0
        return float((max(self._times) - min(self._times)) * self._tick_s * count / (count - 1))

    def add(self, packet: Packet[VideoStream]) -> None:
        """One more; an empty one, as a demuxer ends with, counts nothing."""
        if packet.size == 0:
            return
        time = packet.pts if packet.pts is not None else packet.dts
        if self._first is None:
            self._first = time
        if packet.is_discard or (self._is_vp8 and not memoryview(packet)[0] & _VP8_SHOWN):
            return
        if time is None:
            self._untimed += 1
        elif self._first is None or time >= self._first:
            self._times.add(time)
