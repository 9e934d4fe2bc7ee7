"""How many images and texts are encoded a second, beside transformers' CLIP of the same shape.

    python benchmarks/encode.py [--quick] [--threads 2] [--out FILE]

Both sides have random weights, towers of the same width, depth, heads, patches, image size and
context length, and get the same decoded images of 500 x 375 pixels and the same captions in one
batch; each prepares them its own way (transformers with its own processor and tokenizer). Variants
take turns. `ratio_to_transformers` compares pairs a second, from images and strings to
embeddings, of our int8 graphs with the better of transformers' float32 and bfloat16; the record
holds every other ratio, also at equal precision and of the models alone, and how far each of ours
is from its float32. Both tokenizers learn their words from the same captions, and `mean_tokens`
says that neither side has longer texts; theirs are padded to the longest of the batch.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from encoding.ours import exported, loaded, saved, work
from encoding.peer import Peer, tokenizer
from encoding.shape import Shape, captions, photos
from record import RESULTS, write_record
from tijepa import Embedder

HEADLINE = "tijepa, onnx int8"
PARTS = ("image", "text")
PEERS = {"transformers, float32": torch.float32, "transformers, bfloat16": torch.bfloat16}


def race(
    variants: dict[str, dict[str, Callable[[], Any]]], rounds: int
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Wall and processor seconds of every piece of work of every variant, in turns."""
    taken: dict[str, dict[str, dict[str, list[float]]]] = {
        name: {piece: {"wall": [], "processor": []} for piece in pieces}
        for name, pieces in variants.items()
    }
    for number in range(rounds + 1):  # the first warms up
        for name, pieces in variants.items():
            for piece, run in pieces.items():
                wall, processor = time.perf_counter(), time.process_time()
                run()
                if number:
                    taken[name][piece]["processor"].append(time.process_time() - processor)
                    taken[name][piece]["wall"].append(time.perf_counter() - wall)
    return taken


def rates(taken: dict[str, dict[str, dict[str, list[float]]]], items: int, clock: str) -> Any:
    """Items a second by the median round, and pairs a second from both."""
    found = {}
    for name, pieces in taken.items():
        seconds = {piece: median(by[clock]) for piece, by in pieces.items()}
        own = {piece: items / s for piece, s in seconds.items()}
        own["pair"] = items / (seconds["image"] + seconds["text"])
        own["pair, model alone"] = items / sum(seconds[f"{part}, model alone"] for part in PARTS)
        found[name] = own
    return found


def ratios(rate: Any) -> Any:
    """Every variant of ours to either precision of transformers, and to the better of the two."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, own in rate.items():
        if name in PEERS:
            continue
        to = {peer: {piece: own[piece] / rate[peer][piece] for piece in own} for peer in PEERS}
        to["the better one"] = {piece: min(to[p][piece] for p in PEERS) for piece in own}
        found[name] = to
    return found


def parity(embedders: dict[str, Embedder], images: Any, texts: list[str]) -> Any:
    """Mean cosine of each variant's joint embeddings with those in float32."""

    def rows(embedder: Embedder) -> torch.Tensor:
        how: Any = {"form": "cosine"}
        return torch.cat([embedder.encode_image(images, **how), embedder.encode_text(texts, **how)])

    exact = rows(embedders["tijepa, float32"])
    return {
        name: {
            "mean_cosine": float((rows(one) * exact).sum(dim=1).mean()),
            "max_abs_difference": float((rows(one) - exact).abs().max()),
        }
        for name, one in embedders.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shallow towers, few rounds")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/encode.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = Shape(width=64, depth=1, heads=1, size=64) if options.quick else Shape()
    items, rounds = (8, 2) if options.quick else (64, 9)
    images, texts = photos(items), captions("test", items)
    with TemporaryDirectory() as folder:
        model = saved(shape, Path(folder) / "model")
        embedders = loaded(model, exported(model, Path(folder) / "graphs"))
    theirs = tokenizer()
    variants = {name: Peer(shape, kind, theirs).work(images, texts) for name, kind in PEERS.items()}
    variants |= {name: work(embedder, images, texts) for name, embedder in embedders.items()}
    taken = race(variants, rounds)
    wall, processor = rates(taken, items, "wall"), rates(taken, items, "processor")
    by_wall = ratios(wall)
    best = by_wall[HEADLINE]["the better one"]
    payload = {
        "seeds": [0],
        "threads": options.threads,
        "shape": shape.__dict__,
        "batch": items,
        "rounds": rounds,
        "headline": HEADLINE,
        "ratio_to_transformers": best["pair"],
        "ratio_to_transformers_image": best["image"],
        "ratio_to_transformers_text": best["text"],
        "ratio_to_transformers_model_alone": best["pair, model alone"],
        "ratio_at_equal_precision": {
            kind: by_wall[f"tijepa, {kind}"][f"transformers, {kind}"]["pair"]
            for kind in ("float32", "bfloat16")
        },
        "mean_tokens": {
            "tijepa": mean_tokens(embedders[HEADLINE], texts),
            "transformers": float(
                theirs(texts, padding=True, return_tensors="pt")["attention_mask"]
                .sum(dim=1)
                .double()
                .mean()
            ),
        },
        "parity": parity(embedders, images, texts),
        "per_second": wall,
        "per_processor_second": processor,
        "ratios": {"wall": by_wall, "processor": ratios(processor)},
        "raw": {"seconds": taken},
    }
    for name, own in wall.items():
        print(
            f"{name:<24} {own['image']:7.1f} images/s {own['text']:7.1f} texts/s"
            f" {own['pair']:7.1f} pairs/s (models alone {own['pair, model alone']:.1f})"
        )
    print(f"{HEADLINE}: {best['pair']:.2f} x the better of transformers' two")
    out = options.out or (RESULTS / "encode.quick.json" if options.quick else None)
    print(f"written to {write_record('encode', payload, out)}")


def mean_tokens(embedder: Embedder, texts: list[str]) -> float:
    tokens = embedder.tokenizer.encode(texts, embedder.card.max_tokens)
    return float(tokens.mask.sum(dim=1).double().mean())


if __name__ == "__main__":
    main()
