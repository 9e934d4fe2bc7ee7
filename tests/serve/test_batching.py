from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tijepa.inference.embeddings import Embeddings
from tijepa.serve.service import Batcher


def encode(inputs: Tensor, texts: Sequence[str]) -> Embeddings:
    """Images become their first pixel, texts their length, so that rows can be told apart."""
    image = inputs[:, 0, 0, :1]
    text = torch.tensor([[float(len(one))] for one in texts]).reshape(len(texts), 1)
    return Embeddings(image, image, text, text)


def images(*values: float) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def run(
    work: Callable[[Batcher], Coroutine[Any, Any, Any]],
    own: Callable[[Tensor, Sequence[str]], Embeddings] = encode,
    *,
    wait: float = 0.0,
    items: int = 8,
) -> tuple[Any, list[int]]:
    """The result of `work`, and the sizes of the batches."""
    sizes: list[int] = []

    async def main() -> Any:
        batcher = Batcher(own, wait=wait, items=items, seen=sizes.append)
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await batcher.stop()

    return asyncio.run(main()), sizes


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_everybody_gets_his_own_rows(jobs: list[tuple[int, int]], items: int) -> None:
    """Job k asks for images of value k and texts of length k."""

    async def work(batcher: Batcher) -> list[Embeddings]:
        return await asyncio.gather(
            *(
                batcher.embeddings(images(*[float(k)] * i), ["x" * k] * t)
                for k, (i, t) in enumerate(jobs)
            )
        )

    answers, sizes = run(work, items=items)
    for k, ((i, t), e) in enumerate(zip(jobs, answers, strict=True)):
        assert e.image.flatten().tolist() == [float(k)] * i
        assert e.text.flatten().tolist() == [float(k)] * t
    assert sum(sizes) == sum(i + t for i, t in jobs)
    largest = max(i + t for i, t in jobs)
    assert max(sizes) <= max(items, largest)


def test_what_comes_while_the_model_works_becomes_one_batch() -> None:
    """The first job goes alone; the seven that arrive meanwhile are 8 and 6 items: two each."""
    entered, release = threading.Event(), threading.Event()

    def slow(inputs: Tensor, texts: Sequence[str]) -> Embeddings:
        entered.set()
        assert release.wait(10)
        return encode(inputs, texts)

    async def work(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.embeddings(images(1.0), []))
        await asyncio.to_thread(entered.wait, 10)
        others = [asyncio.create_task(batcher.embeddings(images(1.0), ["a"])) for _ in range(7)]
        await asyncio.sleep(0)
        assert batcher.waiting == 14
        release.set()
        await asyncio.gather(first, *others)

    _, sizes = run(work, slow, items=8)
    assert sizes == [1, 8, 6]


def test_a_batch_waits_for_company_but_not_once_it_is_full() -> None:
    """With ten seconds to wait, eight items are answered at once."""

    async def work(batcher: Batcher) -> None:
        jobs = [batcher.embeddings(images(1.0), ["a"]) for _ in range(4)]
        await asyncio.wait_for(asyncio.gather(*jobs), 5)

    _, sizes = run(work, wait=10.0, items=8)
    assert sizes == [8]


def test_what_the_model_raises_reaches_those_who_asked_and_nobody_else() -> None:
    def picky(inputs: Tensor, texts: Sequence[str]) -> Embeddings:
        if "bad" in texts:
            raise RuntimeError("cannot read it")
        return encode(inputs, texts)

    async def work(batcher: Batcher) -> Embeddings:
        with pytest.raises(RuntimeError, match="cannot read it"):
            await batcher.embeddings(images(), ["bad"])
        return await batcher.embeddings(images(), ["good"])

    answer, _ = run(work, picky)
    assert answer.text.tolist() == [[4.0]]


def test_a_request_that_was_given_up_does_not_disturb_its_batch() -> None:
    async def work(batcher: Batcher) -> Embeddings:
        lost = asyncio.create_task(batcher.embeddings(images(), ["lost"]))
        kept = asyncio.create_task(batcher.embeddings(images(), ["kept one"]))
        await asyncio.sleep(0)
        lost.cancel()
        return await kept

    answer, _ = run(work)
    assert answer.text.tolist() == [[8.0]]
