"""What the endpoints share: the model behind its batcher, threads that decode, the catalogue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.embedder import Embedder
from tijepa.objectives.embeddings import Embeddings
from tijepa.serve.batching import Batcher
from tijepa.serve.catalogue import Catalogue
from tijepa.serve.limits import Limits
from tijepa.serve.metrics import Metrics
from tijepa.serve.pictures import Received, read_picture

__all__ = ["Service"]

DECODERS = 2  # threads; decoding is short, and the model wants the cores
WAIT = 0.002
ITEMS = 64

Result = TypeVar("Result")


class Service:
    """One model, at most one catalogue, and what is counted of them.

    `run` is the run folder, for its record; `catalogue` is None where no store is served.
    """

    def __init__(
        self,
        embedder: Embedder,
        run: Path,
        catalogue: Catalogue | None = None,
        *,
        limits: Limits | None = None,
        wait: float = WAIT,
        items: int = ITEMS,
    ) -> None:
        self.embedder = embedder
        self.run = run
        self.catalogue = catalogue
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.started = time.monotonic()
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self.batcher = Batcher(
            embedder.embeddings_of_inputs, wait=wait, items=items, seen=self.metrics.batch
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work inside the running event loop; at the end wait for what runs."""
        self.batcher.start()
        try:
            yield
        finally:
            await self.batcher.stop()
            self._threads.shutdown()

    async def in_thread(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run what would hold up the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *arguments))

    async def receive(self, data: Sequence[bytes]) -> list[Received]:
        """Decode pictures, one after the other, so that one request holds one thread."""
        card, most = self.embedder.card, self.limits.pixels
        return [await self.in_thread(read_picture, one, card, most) for one in data]

    async def embeddings(
        self, inputs: Sequence[Float[Tensor, "3 s s"]], texts: Sequence[str]
    ) -> Embeddings:
        """Embeddings of some pictures and texts, batched with those of other requests."""
        size = self.embedder.card.image_size
        stacked = torch.stack(list(inputs)) if inputs else torch.zeros(0, 3, size, size)
        return await self.batcher.embeddings(stacked, texts)
