"""Whether a record can be used: the one judge of pictures and captions for every reader."""

from __future__ import annotations

from dataclasses import dataclass

from tijepa.data.records import Record

__all__ = ["Checked", "Finding", "PictureFacts", "Sound", "check_record"]


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a picture that decodes. `width` and `height` are those after EXIF rotation.

    `difference_hash` is the 64-bit dHash (each bit: is a pixel of a 9 x 8 grey thumbnail brighter
    than its right neighbour), by which near duplicates are found.
    """

    width: int
    height: int
    format: str
    mode: str
    frames: int
    orientation: int
    difference_hash: int


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing about one item.

    `kind` is a short slug such as "image-truncated" or "caption-blank"; `set_aside` tells whether
    the item is not used because of it.
    """

    item: str
    reference: str
    kind: str
    reason: str
    set_aside: bool


@dataclass(frozen=True)
class Sound:
    """A record that can be used: at least a picture that decodes or a caption that is text.

    `captions` are the valid ones. `content_hash` is blake2b-128 (hex) of the picture's bytes, where
    there is none of the captions.
    """

    record: Record
    captions: tuple[str, ...]
    picture: PictureFacts | None
    content_hash: str


@dataclass(frozen=True)
class Checked:
    """The verdict on one record: `sound` is None where it is set aside; findings say why."""

    sound: Sound | None
    findings: tuple[Finding, ...]


def check_record(record: Record) -> Checked:
    """Judge one record. Never raises, whatever the bytes are."""
    raise NotImplementedError
