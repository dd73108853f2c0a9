"""What the exchange may hold, in bytes, numbers and seconds."""

from __future__ import annotations

from dataclasses import dataclass

ID_BYTES = 16
MAX_HEADER_BYTES = 4096
MAX_ANSWER_BYTES = 256 << 20
"""Of an input or result on its way to a client; and of an input that is too large, until it is refused."""
MAX_FRAME_BYTES = 1 << 20
"""Of one frame of a stream, one report of measures or one announcement."""


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """Bounds of a hub, whatever its clients do.

    Of bytes: inputs that wait, one input, results that are kept, one result on its way, what all streams hold, and
    what is on its way in at any moment. Of seconds: how long results are kept, how long a client may stand still in
    the middle of a frame, and how long a door may leave unread what is sent to it. Of numbers: connections, streams,
    streams that one connection listens to, and salts that are remembered after their inputs.
    """

    input_bytes: int = 512 << 20
    one_input_bytes: int = 64 << 20
    result_bytes: int = 128 << 20
    one_result_bytes: int = 256 << 20
    stream_bytes: int = 256 << 20
    arriving_bytes: int = 512 << 20
    result_seconds: float = 3600.0
    stall_seconds: float = 5.0
    deaf_seconds: float = 30.0
    connections: int = 256
    streams: int = 65_536
    listening: int = 4096
    salts: int = 65_536
