"""Records through the check on several threads, in order, with a bounded number in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tijepa.data.check import Checked, check_record
from tijepa.data.pairs import SetAside
from tijepa.data.records import Record

__all__ = ["examine"]

_CHUNK_RECORDS = 64
_CHUNK_BYTES = 4 * 2**20  # of pictures; a single larger picture is a chunk of its own

_Judged = Checked | SetAside


def examine(items: Iterable[Record | SetAside], *, threads: int) -> Iterator[_Judged]:
    """Check the records of `items` and pass on the rest, in the order of `items`.

    `threads` workers check chunks of at most 64 records or about 4 MiB of pictures, at most
    2 * threads + 2 chunks at once: with 2 threads about 24 MiB of picture bytes, whatever the
    source, plus one decoded picture for each thread. 0 checks in the calling thread. If `items`
    raises, what came before it is yielded first. No thread remains when the iterator is closed.
    """
    if threads < 1:
        for item in items:
            yield _judge(item)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tijepa-check")
    waiting: deque[Future[list[_Judged]]] = deque()
    try:
        failure: Exception | None = None
        chunks = _chunks(items)
        while True:
            try:
                chunk = next(chunks, None)
            except Exception as error:  # noqa: BLE001 (raised again below, after what came before)
                failure = error
                break
            if chunk is None:
                break
            waiting.append(pool.submit(_judge_all, chunk))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _chunks(items: Iterable[Record | SetAside]) -> Iterator[list[Record | SetAside]]:
    chunk: list[Record | SetAside] = []
    size = 0
    failure: Exception | None = None
    iterator = iter(items)
    while True:
        try:
            item = next(iterator, None)
        except Exception as error:  # noqa: BLE001 (raised again below, after what came before)
            failure = error
            break
        if item is None:
            break
        chunk.append(item)
        size += len(item.image or b"") if isinstance(item, Record) else 0
        if len(chunk) >= _CHUNK_RECORDS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
    if failure is not None:
        raise failure


def _judge_all(items: list[Record | SetAside]) -> list[_Judged]:
    return [_judge(item) for item in items]


def _judge(item: Record | SetAside) -> _Judged:
    return check_record(item) if isinstance(item, Record) else item
