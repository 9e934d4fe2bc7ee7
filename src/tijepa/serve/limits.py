"""What one request may bring, and how many may run at once."""

from __future__ import annotations

from dataclasses import dataclass

from tijepa.data.images import MAX_PIXELS
from tijepa.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of requests; what exceeds one is answered by 4xx before it costs anything.

    `upload_bytes` counts a whole request, `pixels` those of one picture as its header states them,
    `text_length` the characters of one text. `concurrency` counts requests that the model works for
    or that wait for it; `seconds` is the time that a request's body may take to arrive. Raises
    `ConfigError` for a bound of 0 or less, or above what the decoder takes.
    """

    upload_bytes: int = 20 * 2**20
    pixels: int = 50_000_000
    text_length: int = 2000
    pictures: int = 16
    texts: int = 64
    concurrency: int = 32
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"the limit {name} is {value}: it must be above 0")
        if self.pixels > MAX_PIXELS:
            raise ConfigError(
                f"the limit pixels is {self.pixels:,}: no picture above {MAX_PIXELS:,} is decoded"
            )

    @property
    def form_bytes(self) -> int:
        """Bytes of a request without pictures: all its texts, at up to 12 bytes a character."""
        return 12 * self.text_length * self.texts + 65536  # %F0%9F%98%80 is one character

    @property
    def part_bytes(self) -> int:
        """Bytes of one text in a form with pictures: 4 a character at most."""
        return 4 * self.text_length + 1024
