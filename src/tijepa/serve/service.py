"""What the endpoints share: the model behind its batcher, threads that decode, the catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.inference.embedder import Embedder
from tijepa.inference.embeddings import Embeddings
from tijepa.serve.images import Received, read_image
from tijepa.serve.indexed_store import IndexedStore
from tijepa.serve.metrics import Metrics
from tijepa.serve.middleware import Limits

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
        catalogue: IndexedStore | None = None,
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
        """Decode images, one after the other, so that one request holds one thread."""
        card, most = self.embedder.card, self.limits.pixels
        return [await self.in_thread(read_image, one, card, most) for one in data]

    async def embeddings(
        self, inputs: Sequence[Float[Tensor, "3 s s"]], texts: Sequence[str]
    ) -> Embeddings:
        """Embeddings of some images and texts, batched with those of other requests."""
        size = self.embedder.card.image_size
        stacked = torch.stack(list(inputs)) if inputs else torch.zeros(0, 3, size, size)
        return await self.batcher.embeddings(stacked, texts)


# Dynamic batching: what several requests ask of the model becomes one forward pass.
#
# One thread runs the model. While it works, requests gather; a batch starts once it holds `items`
# images and texts, or `wait` seconds after its first. Embeddings of an item do not depend on the
# others of its batch, so nobody can tell with whom he travelled.

Encode = Callable[[Tensor, Sequence[str]], Embeddings]


@dataclass(frozen=True)
class _Job:
    inputs: Tensor
    texts: Sequence[str]
    done: asyncio.Future[Embeddings]

    @property
    def items(self) -> int:
        return len(self.inputs) + len(self.texts)


class Batcher:
    """Gathers jobs of one event loop and runs `encode` on them in a thread of its own.

    `seen` is told the items of every batch. Start it inside the loop; `stop` waits for what runs.
    """

    def __init__(
        self, encode: Encode, *, wait: float, items: int, seen: Callable[[int], None]
    ) -> None:
        self._encode = encode
        self._wait = wait
        self._items = items
        self._seen = seen
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    def start(self) -> None:
        """Begin to take jobs."""
        self._some, self._full = asyncio.Event(), asyncio.Event()
        self._turns = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Finish the batch that runs; jobs that wait are cancelled."""
        self._turns.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._turns
        for job in self._jobs:
            job.done.cancel()
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Images and texts that no batch has taken yet."""
        return sum(job.items for job in self._jobs)

    async def embeddings(
        self, inputs: Float[Tensor, "i 3 s s"], texts: Sequence[str]
    ) -> Embeddings:
        """Embeddings of normalised images and of texts, beside those of other requests."""
        job = _Job(inputs, texts, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._some.set()
        if self.waiting >= self._items:
            self._full.set()
        return await job.done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            if self._wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._wait)
            jobs = self._take()
            run = loop.run_in_executor(self._thread, self._run, jobs)
            try:
                parts = await asyncio.shield(run)
            except asyncio.CancelledError:
                self._deliver(jobs, await run)
                raise
            except Exception as error:  # noqa: BLE001  those who wait for the batch raise it
                for job in jobs:
                    if not job.done.done():
                        job.done.set_exception(error)
            else:
                self._deliver(jobs, parts)

    def _take(self) -> list[_Job]:
        """Jobs from the front until the batch is full, at least one."""
        taken: list[_Job] = []
        size = 0
        while self._jobs and (not taken or size + self._jobs[0].items <= self._items):
            taken.append(self._jobs.popleft())
            size += taken[-1].items
        if not self._jobs:
            self._some.clear()
        if self.waiting < self._items:
            self._full.clear()
        self._seen(size)
        return taken

    def _run(self, jobs: Sequence[_Job]) -> list[Embeddings]:
        """In the model's thread: all jobs at once, then each its own rows."""
        inputs = torch.cat([job.inputs for job in jobs])
        everything = self._encode(inputs, [text for job in jobs for text in job.texts])
        parts, image, text = [], 0, 0
        for job in jobs:
            i, t = slice(image, image + len(job.inputs)), slice(text, text + len(job.texts))
            parts.append(everything.images(i).texts(t))
            image, text = i.stop, t.stop
        return parts

    @staticmethod
    def _deliver(jobs: Sequence[_Job], parts: Sequence[Embeddings]) -> None:
        for job, part in zip(jobs, parts, strict=True):
            if not job.done.done():  # its request may have been cancelled
                job.done.set_result(part)
