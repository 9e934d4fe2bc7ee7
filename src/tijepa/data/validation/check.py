"""Whether a record can be used: the one judge of images and captions for every reader.

An image that cannot be decoded sets its item aside, whose captions would otherwise silently
become a text without image. Invalid captions are dropped singly; an item that had captions and
lost all of them is skipped.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tijepa.data.pairs import Rejected
from tijepa.data.records import Record
from tijepa.data.validation.image_check import ImageFacts, look_at_image, peculiarities
from tijepa.errors import ImageError

MAX_CAPTION = 10_000  # characters
_PLACEHOLDERS = frozenset(
    ("nan", "NaN", "NAN", "None", "none", "null", "NULL", "<NA>", "N/A", "n/a", "#N/A", "undefined")
)
COPY = "duplicate-skipped"  # the kind of finding on a sound item that is skipped on request


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing about one item.

    `kind` is a short slug such as "image-truncated" or "caption-blank"; `rejected` tells whether
    the item is not used because of it.
    """

    item: str
    reference: str
    kind: str
    reason: str
    rejected: bool

    @property
    def of_caption(self) -> bool:
        """Whether it is about one caption, which was dropped."""
        return self.kind.startswith("caption-")


@dataclass(frozen=True)
class Sound:
    """A record that can be used: at least an image that decodes or a caption that is text.

    `captions` are the valid ones. `content_hash` is blake2b-128 (hex) of the image's bytes, where
    there is none of the captions.
    """

    record: Record
    captions: tuple[str, ...]
    image: ImageFacts | None
    content_hash: str


@dataclass(frozen=True)
class Checked:
    """The verdict on one record: `sound` is None where it is skipped; findings say why.

    The first finding that sets the item aside is the one to show. `record` is what was judged.
    """

    sound: Sound | None
    findings: tuple[Finding, ...]
    record: Record

    @property
    def is_copy(self) -> bool:
        """Whether it is skipped only because another item like it stays."""
        return self.sound is None and self.findings[-1].kind == COPY

    def reject(self, kind: str, reason: str) -> Checked:
        """The same record, not used for a further reason."""
        finding = Finding(self.record.id, self.record.reference, kind, reason, rejected=True)
        return Checked(None, (*self.findings, finding), self.record)


def check_record(record: Record) -> Checked:
    """Judge one record. Never raises, whatever the bytes are."""
    findings: list[tuple[str, str, bool]] = []  # kind, reason, whether the item is skipped
    image = None
    if record.image is not None:
        try:
            image = look_at_image(record.image)
        except ImageError as error:
            findings.append((error.kind, str(error), True))
        else:
            findings += [(kind, reason, False) for kind, reason in peculiarities(image)]
    captions = []
    total = len(record.captions)
    for number, caption in enumerate(record.captions, start=1):
        problem = _caption_problem(caption)
        if problem is None:
            captions.append(caption)
        else:
            findings.append((problem[0], f"caption {number} of {total} {problem[1]}", False))
    if total and not captions:
        first = findings[-total][1]
        reason = f"none of its {total} captions can be used; {first}"
        findings.append(("captions-all-invalid", reason, True))
    if record.image is None and not total:
        findings.append(("item-empty", "neither an image nor a caption", True))
    found = tuple(Finding(record.id, record.reference, *finding) for finding in findings)
    if any(finding.rejected for finding in found):
        return Checked(None, found, record)
    valid = tuple(captions)
    return Checked(Sound(record, valid, image, _content_hash(record, valid)), found, record)


def content_of(record: Record) -> tuple[tuple[str, ...], str]:
    """The captions that can be used and the hash, as in `Sound`, whatever the image is worth."""
    valid = tuple(c for c in record.captions if _caption_problem(c) is None)
    return valid, _content_hash(record, valid)


def _caption_problem(caption: Any) -> tuple[str, str] | None:
    """Kind and reason why `caption` cannot be used."""
    if not isinstance(caption, str):
        return "caption-not-text", f"is of type {type(caption).__name__}, not text"
    if not caption or caption.isspace():
        return "caption-blank", "is blank"
    if caption.strip() in _PLACEHOLDERS:
        return "caption-placeholder", f"is {caption.strip()!r}, what stands for no value"
    if len(caption) > MAX_CAPTION:
        return "caption-too-long", f"has {len(caption):,} characters, more than {MAX_CAPTION:,}"
    if not caption.isascii():
        try:
            caption.encode("utf-8")
        except UnicodeEncodeError as error:
            return "caption-invalid-unicode", f"is not valid Unicode at character {error.start + 1}"
    return None


def _content_hash(record: Record, valid: Sequence[str]) -> str:
    if record.image is None:
        return text_hash(valid)
    return hashlib.blake2b(record.image, digest_size=16).hexdigest()


def text_hash(captions: Sequence[str]) -> str:
    """blake2b-128 (hex) of texts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for caption in captions:
        data = caption.encode("utf-8")
        digest.update(len(data).to_bytes(4, "big"))  # so that ("a", "b") is not ("ab",)
        digest.update(data)
    return digest.hexdigest()


_CHUNK_RECORDS = 64
_CHUNK_BYTES = 4 * 2**20  # of images; a single larger image is a chunk of its own


def validate_parallel(
    items: Iterable[Record | Rejected], *, threads: int
) -> Generator[Checked | Rejected, None, None]:
    """Check the records of `items` and pass on the rest, in the order of `items`.

    `threads` workers check chunks of at most 64 records or about 4 MiB of images, at most
    2 * threads + 2 chunks at once: with 2 threads about 24 MiB of image bytes, whatever the
    source, plus one decoded image for each thread. 0 checks in the calling thread. If `items`
    raises, what came before it is yielded first. No thread remains when the iterator is closed.
    """
    if threads < 1:
        for item in items:
            yield _judge(item)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tijepa-check")
    waiting: deque[Future[list[Checked | Rejected]]] = deque()
    try:
        failure: Exception | None = None
        for chunk in _chunks(items):
            if isinstance(chunk, Exception):
                failure = chunk
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


def _chunks(items: Iterable[Record | Rejected]) -> Iterator[list[Record | Rejected] | Exception]:
    """Lists of bounded size; what `items` raises comes last, after all that came before it."""
    chunk: list[Record | Rejected] = []
    size = 0
    failure: Exception | None = None
    try:
        for item in items:
            chunk.append(item)
            size += len(item.image or b"") if isinstance(item, Record) else 0
            if len(chunk) >= _CHUNK_RECORDS or size >= _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    except Exception as error:  # noqa: BLE001 (raised by who asked, after what came before)
        failure = error
    if chunk:
        yield chunk
    if failure is not None:
        yield failure


def _judge_all(items: list[Record | Rejected]) -> list[Checked | Rejected]:
    return [_judge(item) for item in items]


def _judge(item: Record | Rejected) -> Checked | Rejected:
    return check_record(item) if isinstance(item, Record) else item
