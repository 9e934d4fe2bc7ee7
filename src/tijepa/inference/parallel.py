"""Work in parts on all cores: each part on a core of its own, from bytes to embeddings.

On a CPU this beats one part after the other on all cores: nobody waits for the slowest thread of
every layer, and a core that decodes images does so while another multiplies matrices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError
from tijepa.inference.backend import Backend, TorchBackend
from tijepa.inference.embeddings import Embedded
from tijepa.inference.inputs import ImageLike, image_input
from tijepa.model.saving import ModelCard

__all__ = [
    "encode_images",
    "encode_inputs",
    "encode_pairs",
    "encode_texts",
    "parallel_map",
    "read_ahead",
]

P = TypeVar("P")
R = TypeVar("R")


def parallel_map(work: Callable[[P], R], parts: Sequence[P], workers: int) -> Iterator[R]:
    """The results of all parts in their order, at most a few of them ahead of who reads them.

    With one worker or one part it runs here, on all threads of torch; else on `workers` threads
    with one thread of torch each. An error of a part is raised in its place, and parts that have
    not begun are dropped. Grad mode and autocast belong to a thread: `work` enters them itself.
    """
    if workers < 2 or len(parts) < 2:
        yield from map(work, parts)
        return

    def alone(part: P) -> R:
        torch.set_num_threads(1)
        return work(part)

    before = torch.get_num_threads()
    pool = _pool(workers)
    begun: deque[Future[R]] = deque()
    try:
        for part in parts:
            begun.append(pool.submit(alone, part))
            if len(begun) > 2 * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
        for future in begun:
            if not future.cancelled():
                future.exception()  # waits, raises nothing
        torch.set_num_threads(before)  # the last who sets it decides for all of MKL


def read_ahead(read: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
    """The results of all parts in their order, the next one being read while this one is used.

    `read` runs on a thread of its own; its errors are raised in their place.
    """
    with ThreadPoolExecutor(1, "tijepa-read") as reader:
        coming = reader.submit(read, parts[0]) if parts else None
        for number in range(len(parts)):
            assert coming is not None
            found = coming.result()
            if number + 1 < len(parts):
                coming = reader.submit(read, parts[number + 1])
            yield found


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "tijepa-encode")


# Many images or texts through an engine, in parts, on all cores.


_PIXELS = 8 * 224**2  # of the images that one core encodes at once; more gains nothing there
_MOST = 64  # images or texts that one core encodes at once
_FEEDERS = 4  # threads that prepare inputs for a device that is not the CPU


def encode_images(
    engine: Backend,
    card: ModelCard,
    images: Sequence[ImageLike],
    batch_size: int,
    progress: bool = False,
) -> Embedded:
    """Embed whatever counts as an image, at most `batch_size` at once; `DataError`."""

    def work(part: slice) -> Embedded:
        inputs = [image_input(i, card.image_size, card.mean, card.std) for i in images[part]]
        return engine.images(torch.stack(inputs))

    size = _part_size(engine, len(images), batch_size, _PIXELS // card.image_size**2)
    parts = _slices(len(images), size)
    return _joined(engine, work, parts, "images" if progress else None) or engine.no_image


def encode_inputs(engine: Backend, inputs: Float[Tensor, "i 3 s s"], batch_size: int) -> Embedded:
    """Embed images that are cropped and normalised already."""
    size = _part_size(engine, len(inputs), batch_size, _PIXELS // inputs.shape[-1] ** 2)
    parts = _slices(len(inputs), size)
    return _joined(engine, lambda part: engine.images(inputs[part]), parts) or engine.no_image


def encode_texts(
    engine: Backend,
    card: ModelCard,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    batch_size: int,
    progress: bool = False,
) -> Embedded:
    """Embed texts; those beyond `max_tokens` are cut."""
    # of similar length together, so that little is spent on padding
    order = sorted(range(len(texts)), key=lambda k: len(texts[k]))

    def work(part: slice) -> Embedded:
        tokens = tokenizer.encode([texts[k] for k in order[part]], card.max_tokens)
        return engine.texts(tokens.ids, tokens.mask)

    size = _part_size(engine, len(texts), batch_size, _MOST)
    found = _joined(engine, work, _slices(len(texts), size), "texts" if progress else None)
    if found is None:
        return engine.no_text
    place = torch.empty(len(texts), dtype=torch.long)
    place[torch.tensor(order, dtype=torch.long)] = torch.arange(len(texts))
    return found.part(place)


def encode_pairs(
    engine: TorchBackend,
    card: ModelCard,
    tokenizer: Tokenizer,
    images: Sequence[ImageLike],
    texts: Sequence[str],
    batch_size: int,
) -> Float[Tensor, "n f"]:
    """Fused features of n pairs, image k with text k, of a model that has a fusion."""

    def work(part: slice) -> Tensor:
        inputs = [image_input(i, card.image_size, card.mean, card.std) for i in images[part]]
        tokens = tokenizer.encode(list(texts[part]), card.max_tokens)
        return engine.pairs(torch.stack(inputs), tokens.ids, tokens.mask)

    size = _part_size(engine, len(images), batch_size, _PIXELS // card.image_size**2)
    fusion = engine.model.context.fusion
    assert fusion is not None
    found = parallel_map(work, _slices(len(images), size), _workers(engine))
    return torch.cat([torch.zeros(0, fusion.width), *found])


def _part_size(engine: Backend, items: int, batch_size: int, fitting: int) -> int:
    """How many items make a part; on a CPU so few that every core gets one, if there are enough."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")
    if engine.device.type != "cpu":
        return batch_size
    share = -(-items // torch.get_num_threads())
    return max(1, min(batch_size, fitting, _MOST, share))


def _workers(engine: Backend) -> int:
    return torch.get_num_threads() if engine.device.type == "cpu" else _FEEDERS


def _slices(items: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, items)) for start in range(0, items, size)]


def _joined(
    engine: Backend,
    work: Callable[[slice], Embedded],
    parts: Sequence[slice],
    shown: str | None = None,
) -> Embedded | None:
    """The embeddings of all parts, in order, None without any; what is `shown` gets a bar."""
    found = []
    with _counted(shown, parts[-1].stop if parts else 0) as advance:
        for part, e in zip(parts, parallel_map(work, parts, _workers(engine)), strict=True):
            found.append(e)
            advance(part.stop - part.start)
    if len(found) <= 1:
        return found[0] if found else None
    own = torch.cat([e.own for e in found])
    same = all(e.own is e.predicted for e in found)
    pooled = [e.pooled for e in found if e.pooled is not None]
    return Embedded(
        own,
        own if same else torch.cat([e.predicted for e in found]),
        torch.cat(pooled) if pooled else None,
    )


@contextmanager
def _counted(what: str | None, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, or nothing."""
    if what is None:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("encoding {task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
