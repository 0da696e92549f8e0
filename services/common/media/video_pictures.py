"""Counts a video's pictures and their duration from its packets, without decoding."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

_VP8_SHOWN = 0x10


class PictureCount:
    """Counts the pictures of one track from its packets, added in file order.

    Three kinds of packets show no picture: those that the container marks as discarded; VP8's hidden
    reference frames; and packets after the first one with an earlier time. The last kind appears where a film
    was cut at an open group of pictures, so that their reference frames are missing. A decoder that shows
    some of them anyway shows more pictures than counted.
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
        """Number of pictures so far."""
        return len(self._times) + self._untimed

    @property
    def seconds(self) -> float:
        """Duration of the pictures, in which the last lasts as long as the others on average; 0.0 if the
        packets have no times.
        """
        count = len(self._times)
        if count < 2:
            return 0.0
        return float((max(self._times) - min(self._times)) * self._tick_s * count / (count - 1))

    def add(self, packet: Packet[VideoStream]) -> None:
        """Adds a packet. Empty packets, with which a demuxer ends, are ignored."""
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
