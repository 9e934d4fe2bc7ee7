"""Every kind of finding in words: what it is, what it means, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from tijepa.data.check import MAX_CAPTION
from tijepa.data.images import MAX_PIXELS

__all__ = ["DUPLICATES", "Kind", "kind_of"]

_AGAIN = "Export or download the file again; the item is not used until then."
_NOTHING = "Nothing needs to be done."


@dataclass(frozen=True)
class Kind:
    """`title` heads a list, `meaning` says what it does to training, `remedy` what helps."""

    title: str
    meaning: str
    remedy: str


_KINDS = {
    "row-unusable": Kind(
        "Rows that give no item",
        "The reader could not make an item of the row: see its reason.",
        "Mend the row in the source.",
    ),
    "item-empty": Kind(
        "Items with neither picture nor caption",
        "There is nothing to learn from.",
        "Remove the row, or fill it in.",
    ),
    "image-empty": Kind("Pictures without bytes", "The file is empty.", _AGAIN),
    "image-unknown-format": Kind(
        "Files that are no picture",
        "The bytes are of no known picture format, whatever the file is called.",
        "Convert them to JPEG, PNG or WebP.",
    ),
    "image-header-damaged": Kind(
        "Pictures with a damaged header", "Size and format cannot be read.", _AGAIN
    ),
    "image-truncated": Kind("Truncated pictures", "The file ends before the picture does.", _AGAIN),
    "image-damaged": Kind(
        "Damaged pictures", "The header is sound, but the pixels cannot be decoded.", _AGAIN
    ),
    "image-too-large": Kind(
        "Pictures above the pixel bound",
        f"More than {MAX_PIXELS:,} pixels by their header: a large scan, or a decompression bomb.",
        "Scale them down.",
    ),
    "image-float": Kind(
        "Pictures of floating-point pixels",
        "It is not known which value is white.",
        "Save them with 8 bits a channel.",
    ),
    "captions-all-invalid": Kind(
        "Items that lost all captions",
        "None of their captions is usable text, and a pair must not silently become a picture"
        " alone.",
        "Mend the captions, or leave them out to use the picture alone.",
    ),
    "caption-not-text": Kind(
        "Captions that are no text",
        "A number, list or the like stands in the caption's place; that caption is dropped.",
        "Mend the column, or name another with --caption-column.",
    ),
    "caption-blank": Kind(
        "Blank captions", "Nothing but white space; that caption is dropped.", _NOTHING
    ),
    "caption-too-long": Kind(
        "Very long captions",
        f"More than {MAX_CAPTION:,} characters: rather a document; that caption is dropped.",
        "Shorten them, or name another column with --caption-column.",
    ),
    "caption-invalid-unicode": Kind(
        "Captions of invalid Unicode",
        "Half of a surrogate pair, from a broken export; that caption is dropped.",
        "Export the captions as UTF-8.",
    ),
    "image-animated": Kind(
        "Animated or multi-page pictures", "Only the first frame or page is used.", _NOTHING
    ),
    "image-rotated": Kind(
        "Pictures rotated by EXIF", "They are turned upright whenever they are read.", _NOTHING
    ),
    "image-cmyk": Kind(
        "CMYK pictures",
        "Colours for print, converted to RGB without a colour profile: they may look too bright.",
        "Convert them to sRGB if colours matter.",
    ),
    "image-16-bit": Kind(
        "Pictures of 16 bits a channel", "The high 8 bits are used; dark detail may go.", _NOTHING
    ),
    "image-alpha": Kind(
        "Transparent pictures",
        "They are put on white: white drawings on transparent ground vanish.",
        "Put those on a darker ground.",
    ),
    "image-palette": Kind(
        "Palette pictures", "They are converted to RGB when they are read.", _NOTHING
    ),
    "image-tiny": Kind(
        "Tiny pictures",
        "A side is below 16 pixels: enlarged, they show hardly anything.",
        "Remove them if they are icons or placeholders.",
    ),
    "image-extreme-aspect": Kind(
        "Very wide or tall pictures",
        "A side is more than 8 times the other: a square crop shows little of them.",
        "Cut them into parts if they matter.",
    ),
    "duplicate-set-aside": Kind(
        "Copies set aside",
        "Another item with the same picture stays, as --duplicates set-aside asks for.",
        _NOTHING,
    ),
    "duplicate-item": Kind(
        "Items that stand more than once in a split",
        "The same picture with the same captions (or the same text alone) is trained on more often,"
        " or counted more often in an evaluation.",
        "Prepare with --duplicates set-aside: the first of each group stays.",
    ),
    "duplicate-picture": Kind(
        "Pictures that stand more than once in a split",
        "The same file has several items with different captions. In retrieval only one of them"
        " counts as right.",
        "Merge their captions into one item.",
    ),
    "picture-in-two-splits": Kind(
        "Pictures that stand in two splits",
        "What is measured on them was seen in training: figures come out too good.",
        "Prepare with --duplicates set-aside: the copy in test stays before that in validation,"
        " that before train.",
    ),
    "near-duplicate": Kind(
        "Pictures that look alike",
        "Different files of nearly the same look: other sizes, other compression, or the same scene"
        " a moment later. Found by a coarse hash, so some groups may only resemble each other.",
        "Look at them; remove copies in the source.",
    ),
    "near-in-two-splits": Kind(
        "Pictures that look alike in two splits",
        "A near copy of what is measured may have been seen in training. Found by a coarse hash.",
        "Look at them; move or remove copies in the source.",
    ),
}

DUPLICATES = (
    "picture-in-two-splits",
    "near-in-two-splits",
    "duplicate-item",
    "duplicate-picture",
    "near-duplicate",
)


def kind_of(slug: str) -> Kind:
    """The words for a kind; its slug as title where it is a new one."""
    return _KINDS.get(slug, Kind(slug.replace("-", " ").capitalize(), "", ""))
