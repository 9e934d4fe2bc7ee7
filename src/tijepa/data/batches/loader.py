"""Batches of a split, endless, shuffled, the same however they are produced.

What stands at stream position p (item, caption, crop, mirroring) is a function of (seed, p) alone,
so neither the number of threads nor of processes nor a resume changes a batch.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from tijepa.data.batches.batch_builder import BatchBuilder, BrokenItems, LoaderSpec, Uncropped
from tijepa.data.batches.order import Order
from tijepa.data.features import SplitFeatures
from tijepa.data.pairs import Batch, PairSource, Rejected
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError

_AHEAD = 2  # batches in the making beside the one handed out
_PORTION = 8  # rows that a thread takes at a time (docs/decisions/0006-threads-decode.md)
_HALF = (0.5, 0.5, 0.5)


class Loader:
    """Endless iterator maker over the shuffled pairs of `source`.

    The global batch at cursor c is stream positions [c, c + batch_size); rank r of `world` holds
    its r-th contiguous part. `Loader(..., cursor=batch.cursor)` continues after `batch` with
    exactly the batches that would have followed, whatever `threads`, and whatever `world` that
    divides `batch_size`.

    Each time an item comes up, one of its captions is drawn. With `crop_scale` (1, 1) an image
    shows its largest centred square; otherwise a random crop whose area is that share of the
    largest square, of aspect between 3:4 and 4:3. Values in [0, 1] become (value - mean) / std, by
    channel. With `augment="device"` the host only decodes and resizes images to one size, and
    they are cropped, mirrored and normalised on `device`, the same regions by the same draws. On a
    CUDA device batches come from pinned memory and are copied while the host goes on.

    `threads` workers share the rows of each batch, so the next one is soon ready however many
    there are; 0 works in the calling thread. Memory is bounded whatever the number of threads: two
    batches are made ahead, so at most four exist (two in the making, one handed over, one still
    held by the caller), of 12 x image_size^2 bytes a row and the encoded bytes of its image,
    plus one decoded image for each thread.

    Where `features` hold a modality, they are read instead of images, or beside the captions,
    for the same items and captions; crop and mirroring must then be off.

    An item whose image raises `DataError` is listed once in `rejected` and replaced by a rule
    that depends on (seed, position) alone. Iterating raises `DataError` if 16 replacements for one
    position are broken too. Any other error in a worker, one that would end its thread too, is
    raised by the iterator with a note that names the item. Close the loader, use it as a context
    manager or drop its iterators: no thread remains.
    """

    def __init__(
        self,
        source: PairSource,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        image_size: int,
        max_tokens: int,
        seed: int,
        crop_scale: tuple[float, float] = (1.0, 1.0),
        flip: bool = False,
        mean: tuple[float, float, float] = _HALF,
        std: tuple[float, float, float] = _HALF,
        augment: Literal["host", "device"] = "host",
        device: torch.device | str = "cpu",
        threads: int = 1,
        rank: int = 0,
        world: int = 1,
        cursor: int = 0,
        features: SplitFeatures | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise ConfigError(
                f"batch_size is {batch_size}: it must be a positive multiple of the number of "
                f"processes, {world}"
            )
        if not 0 <= rank < world:
            raise ConfigError(f"rank is {rank}: it must lie in [0, {world})")
        if cursor < 0 or threads < 0 or seed < 0:
            raise ConfigError(
                f"cursor {cursor}, threads {threads} and seed {seed} must not be negative"
            )
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ConfigError(
                f"crop_scale is {crop_scale}: it must satisfy 0 < first <= second <= 1"
            )
        self._device = torch.device(device)
        self._spec = LoaderSpec(
            source=source,
            tokenizer=tokenizer,
            order=Order(len(source), seed),
            seed=seed,
            image_size=image_size,
            max_tokens=max_tokens,
            crop_scale=crop_scale,
            flip=flip,
            mean=mean,
            std=std,
            augment=augment,
            pin=self._device.type == "cuda",
            features=features or SplitFeatures(),
        )
        self._broken = BrokenItems()
        self._batch_size = batch_size
        self._threads = threads
        self._local = batch_size // world
        self._first = rank * self._local
        self._cursor = cursor
        self._iterators: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()

    @property
    def rejected(self) -> list[Rejected]:
        """Broken items met so far, in no particular order."""
        return self._broken.listed

    def __iter__(self) -> Iterator[Batch]:
        """Batches from `cursor` on, anew at each call."""
        iterator = self._ahead() if self._threads else self._one_by_one()
        self._iterators.add(iterator)
        return iterator

    def seek(self, cursor: int) -> None:
        """End all iterators; those to come begin at `cursor`."""
        self.close()
        self._cursor = cursor

    def close(self) -> None:
        """End all iterators of this loader and wait for their threads."""
        for iterator in list(self._iterators):
            iterator.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _one_by_one(self) -> Generator[Batch, None, None]:
        cursor = self._cursor
        while True:
            builder = self._open(cursor)
            cursor += self._batch_size
            builder.fill(range(len(builder)))
            yield self._deliver(builder.finish(cursor))

    def _ahead(self) -> Generator[Batch, None, None]:
        cursor = self._cursor
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="tijepa-loader")
        waiting: deque[Future[Batch | Uncropped]] = deque()
        try:
            while True:
                while len(waiting) <= _AHEAD:
                    waiting.append(_Shared(pool, self._open, cursor, self._batch_size).done)
                    cursor += self._batch_size
                yield self._deliver(waiting.popleft().result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _deliver(self, made: Batch | Uncropped) -> Batch:
        """The batch on the device.

        One that is there already is not even asked to move: each of torch's calls lets the other
        threads go first, which took 2 % of the demo's step (docs/log.md).
        """
        if isinstance(made, Batch) and made.images.device == self._device:
            return made
        return made.to(self._device)

    def _open(self, cursor: int) -> BatchBuilder:
        return BatchBuilder(self._spec, cursor + self._first, self._local, self._broken)


class _Shared:
    """A batch that the threads of a pool make together; `done` holds it, or what went wrong.

    No task waits for another one, so the threads cannot block each other, and whatever a task
    raises ends up in `done`, so the thread that waits there is always woken.
    """

    def __init__(
        self, pool: Executor, open_: Callable[[int], BatchBuilder], cursor: int, batch_size: int
    ) -> None:
        self.done: Future[Batch | Uncropped] = Future()
        self._pool = pool
        self._next = cursor + batch_size
        self._lock = threading.Lock()
        self._left = 0
        pool.submit(self._guarded, lambda: self._begin(open_(cursor)))

    def _begin(self, builder: BatchBuilder) -> None:
        portions = [
            range(start, min(start + _PORTION, len(builder)))
            for start in range(0, len(builder), _PORTION)
        ]
        self._left = len(portions)
        for portion in portions:
            self._pool.submit(self._guarded, partial(self._fill, builder, portion))

    def _fill(self, builder: BatchBuilder, rows: range) -> None:
        builder.fill(rows)
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self.done.set_result(builder.finish(self._next))

    def _guarded(self, work: Callable[[], None]) -> None:
        if self.done.done():
            return
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (it is raised where `done` is waited for)
            with self._lock:
                if not self.done.done():
                    self.done.set_exception(error)


@contextmanager
def switch_interval(seconds: float = 5e-4) -> Iterator[None]:
    """Let threads take turns after half a millisecond instead of Python's five.

    A loader thread that makes items in Python (the scenes) otherwise keeps the lock for five
    milliseconds whenever the training thread asks for the next batch, which lies ready: 2.5 % of
    the demo's step, and 0.7 to 1.0 % with short turns (docs/log.md).
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
