"""Work in parts on all cores: each part on a core of its own, from bytes to embeddings.

On a CPU this beats one part after the other on all cores: nobody waits for the slowest thread of
every layer, and a core that decodes images does so while another multiplies matrices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tijepa.data.features import Modality
from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import ConfigError
from tijepa.inference.backend import Backend, TorchBackend
from tijepa.inference.embeddings import Embedded
from tijepa.inference.inputs import ImageLike, image_inputs
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import ModelCard

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


# Many images or texts through a backend, in parts, on all cores.

_PIXELS = 8 * 224**2  # of the images that one core encodes at once; more gains nothing there
_MOST = 64  # images or texts that one core encodes at once
_FEEDERS = 4  # threads that prepare inputs for a device that is not the CPU


def encode_images(
    backend: Backend,
    card: ModelCard,
    images: Sequence[ImageLike] | Float[Tensor, "i 3 s s"],
    batch_size: int,
    reporter: Reporter = SILENT,
) -> Embedded:
    """Embed whatever counts as an image, at most `batch_size` at once; `DataError`.

    A tensor holds images that are cropped and normalised already.
    """

    def work(part: slice) -> Embedded:
        return backend.encode("image", image_inputs(images, part, card))

    parts = _parts(backend, len(images), batch_size, _PIXELS // card.image_size**2)
    return _joined(backend, "image", work, parts, reporter)


def encode_texts(
    backend: Backend,
    card: ModelCard,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    batch_size: int,
    reporter: Reporter = SILENT,
) -> Embedded:
    """Embed texts; those beyond `max_tokens` are cut."""
    # of similar length together, so that little is spent on padding
    order = sorted(range(len(texts)), key=lambda k: len(texts[k]))

    def work(part: slice) -> Embedded:
        tokens = tokenizer.encode([texts[k] for k in order[part]], card.max_tokens)
        return backend.encode("text", tokens.ids, tokens.mask)

    parts = _parts(backend, len(texts), batch_size, _MOST)
    found = _joined(backend, "text", work, parts, reporter)
    return found.part(torch.tensor(order, dtype=torch.long).argsort())


def encode_pairs(
    backend: TorchBackend,
    card: ModelCard,
    tokenizer: Tokenizer,
    images: Sequence[ImageLike],
    texts: Sequence[str],
    batch_size: int,
) -> Float[Tensor, "n f"]:
    """Fused features of n pairs, image k with text k, of a model that has a fusion."""

    def work(part: slice) -> Tensor:
        tokens = tokenizer.encode(list(texts[part]), card.max_tokens)
        return backend.pairs(image_inputs(images, part, card), tokens.ids, tokens.mask)

    parts = _parts(backend, len(images), batch_size, _PIXELS // card.image_size**2)
    fusion = backend.model.context.fusion
    assert fusion is not None
    found = parallel_map(work, parts, _workers(backend))
    return torch.cat([torch.zeros(0, fusion.width), *found])


def _parts(backend: Backend, items: int, batch_size: int, fitting: int) -> list[slice]:
    """Parts of all items; on a CPU so small that every core gets one, if there are enough."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")
    size = batch_size
    if backend.device.type == "cpu":
        share = -(-items // torch.get_num_threads())
        size = max(1, min(batch_size, fitting, _MOST, share))
    return [slice(start, min(start + size, items)) for start in range(0, items, size)]


def _workers(backend: Backend) -> int:
    return torch.get_num_threads() if backend.device.type == "cpu" else _FEEDERS


def _joined(
    backend: Backend,
    modality: Modality,
    work: Callable[[slice], Embedded],
    parts: Sequence[slice],
    reporter: Reporter,
) -> Embedded:
    """The embeddings of all parts, in order."""
    if not parts:
        return backend.none(modality)
    found = []
    with reporter.bar(f"encoding {modality}s", parts[-1].stop) as advance:
        for part, e in zip(parts, parallel_map(work, parts, _workers(backend)), strict=True):
            found.append(e)
            advance(part.stop - part.start)
    return Embedded.joined(found)
