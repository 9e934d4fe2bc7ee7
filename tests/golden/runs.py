"""The golden runs: their settings, how the command line makes them, what is read of them.

Nothing here knows more of tijepa than its command line and the files of a run folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tijepa.cli import main

Figures = dict[str, float | None]

_BASE = """
    data.image_size=32 data.max_tokens=16 data.eval_items=32 data.test_items=64
    model.embed_dim=8 model.head.hidden=16
    optim.steps=8 optim.batch_size=8
    log.every=1 log.eval_every=8 log.save_every=8 log.tensorboard=false
    compute.device=cpu compute.precision=float32 compute.threads=1 seed=3
"""
BASE = _BASE.split()
OWN_IMAGE = [f"model.image.{p}" for p in ("patch_size=8", "width=16", "depth=1", "heads=2")]
OWN = [*OWN_IMAGE, *(f"model.text.{pair}" for pair in ("width=16", "depth=1", "heads=2"))]
MLP = ["model.pooled_predictor.hidden=16"]
PREDICTOR = [f"model.token_predictor.{pair}" for pair in ("width=8", "depth=1")]
NO_REGULARIZER = [f"objective.regularize_{side}.name=none" for side in ("image", "text")]
TOKENS = [f"objective.tasks.{task}.tokens=0.5" for task in ("text_to_image", "image_to_text")]
INFILL = ["objective.tasks.image_infill=1", "objective.tasks.text_infill=0.5"]
ALONE = ["objective.tasks.image_only=1", "objective.tasks.text_only=0.5"]
NO_POOLED = [f"objective.tasks.{task}.pooled=0" for task in ("text_to_image", "image_to_text")]

# name: where the pairs come from ("scenes", or a store of the fixture `places`) and the settings;
# {image} and {text} are the folders of the pretrained encoders
RUNS: dict[str, tuple[str, list[str]]] = {
    "tijepa_on_scenes": ("scenes", [*OWN, *MLP]),
    "scenes_and_a_pretrained_text_encoder": (
        "scenes",
        [*OWN_IMAGE, *MLP, "model.text.backbone={text}", "model.text.train=full"],
    ),
    "tijepa": ("paired", [*OWN, *MLP]),
    "cross_modal_tokens": ("paired", [*OWN, *MLP, *PREDICTOR, *TOKENS]),
    "infill": ("paired", [*OWN, *MLP, *PREDICTOR, *INFILL]),
    "each_modality_alone": ("paired", [*OWN, *MLP, *PREDICTOR, *ALONE]),
    "ema_targets": (
        "paired",
        [*OWN, *MLP, "objective.pooled_targets=ema", "optim.ema_momentum=[0.8,1]"],
    ),
    "accumulation": (
        "paired",
        [
            *OWN,
            *MLP,
            *PREDICTOR,
            *TOKENS,
            *INFILL,
            "optim.accumulate=2",
            "data.crop_scale=[0.5,1]",
            "data.flip=true",
        ],
    ),
    "other_regularizers_and_energy": (
        "paired",
        [
            *OWN,
            *MLP,
            "objective.energy=smooth_l1",
            "objective.pooled_target_norm=standardise",
            "objective.regularize_image.name=visreg",
            "objective.regularize_text.name=vicreg",
        ],
    ),
    "covariance_on_frozen_features": (
        "paired",
        [
            "model.image.backbone={image}",
            "model.text.backbone={text}",
            *NO_REGULARIZER,
            "model.pooled_predictor.kind=covariance",
            "model.pooled_predictor.memory=16",
            "model.image.pool=class_mean",
            "model.image.views=corners",
            "model.head.skip=true",
        ],
    ),
    "tuned_backbones": (
        "paired",
        [
            "model.image.backbone={image}",
            "model.text.backbone={text}",
            *MLP,
            "model.image.train=last_k",
            "model.image.last_k=1",
            "model.image.lr_scale=0.5",
            "model.text.train=lora",
            "model.text.lora_rank=2",
        ],
    ),
    "clip": ("paired", [*OWN, "objective.name=clip"]),
    "siglip": ("paired", [*OWN, "objective.name=siglip"]),
    "vicreg": ("paired", [*OWN, "objective.name=vicreg"]),
    "ijepa": ("paired", [*OWN, *PREDICTOR, "objective.name=ijepa"]),
    "levljepa": (
        "paired",
        [*OWN, "objective.name=levljepa", "optim.steps=3", "log.eval_every=3", "log.save_every=3"],
    ),
    "fusion_infill": (
        "paired",
        [
            "model.image.backbone={image}",
            "model.text.backbone={text}",
            *NO_REGULARIZER,
            *NO_POOLED,
            *PREDICTOR,
            "objective.tasks.fusion_infill=1",
            "data.crop_scale=[0.3,1]",
            "model.fusion={{width: 8, depth: 1, heads: 2}}",
            "optim.ema_momentum=[0.9,1]",
        ],
    ),
    "unpaired_items": ("unpaired", [*OWN, *MLP, *PREDICTOR, *TOKENS, *INFILL, *ALONE]),
}
SLOW = frozenset({"tijepa_on_scenes"})  # it learns a vocabulary from 100,000 captions
FIXED_ELSEWHERE = {"levljepa": ["model.head.hidden"]}  # settings of BASE that an objective fixes


def arguments(name: str, places: dict[str, Path], out: Path) -> list[str]:
    """The command line that makes run `name`; `places` are stores and pretrained encoders."""
    source, settings = RUNS[name]
    fixed = FIXED_ELSEWHERE.get(name, [])
    base = [pair for pair in BASE if pair.partition("=")[0] not in fixed]
    given = merged(base, [pair.format(**places) for pair in settings])
    data = source if source == "scenes" else str(places[source])
    return ["train", *given, "--data", data, "--out", str(out)]


def merged(base: list[str], more: list[str]) -> list[str]:
    """Settings KEY=VALUE of both; `more` prevails."""
    given = dict(pair.split("=", 1) for pair in [*base, *more])
    return [f"{key}={value}" for key, value in given.items()]


def succeed(*arguments: str) -> str:
    """Run one command in this process and return what it printed."""
    with one_thread(), contextlib.redirect_stdout(io.StringIO()) as told:
        code = main(arguments)
    assert code == 0, f"tijepa {' '.join(arguments)} ended with {code}: {told.getvalue()}"
    return told.getvalue()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch inside, as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Interrupter(io.StringIO):
    """Standard output that sends SIGINT once, when the run has recorded `steps` steps."""

    def __init__(self, run: Path, steps: int) -> None:
        super().__init__()
        self._metrics, self._steps, self._sent = run / "metrics.jsonl", steps, False

    def write(self, text: str) -> int:
        written = super().write(text)
        if not self._sent and len(step_records(self._metrics)) >= self._steps:
            self._sent = True
            signal.raise_signal(signal.SIGINT)
        return written


def interrupt(arguments: list[str], run: Path, *, after: int) -> None:
    """Train, and press Ctrl-C when `after` steps are recorded; the run must stop by that."""
    told = _Interrupter(run, after)
    with one_thread(), contextlib.redirect_stdout(told):
        code = main(arguments)
    assert code == 130, f"the run was not interrupted but ended with {code}: {told.getvalue()}"
    steps = len(step_records(run / "metrics.jsonl"))
    assert after <= steps, f"{steps} steps recorded"


def step_records(path: Path) -> list[dict[str, Any]]:
    """The records of training steps in `metrics.jsonl`; none where there is no such file."""
    if not path.exists():
        return []
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [record for record in records if record["kind"] == "train"]


def read_run(run: Path) -> dict[str, Any]:
    """What is compared of a finished run."""
    steps = step_records(run / "metrics.jsonl")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {
        "steps": [record["step"] for record in steps],
        "loss": [record["loss"] for record in steps],
        "grad_norm": [record["grad_norm"] for record in steps],
        "figures": figures(results),
        **weight_hashes(run / "model"),
    }


def figures(results: dict[str, Any]) -> Figures:
    """The main numbers of `results.json` by their dotted path.

    If results are renamed on purpose, this is the place that maps them back to the names recorded.
    """
    kept = {
        key: results[key]
        for key in ("retrieval", "energies", "collapse", "match_probability", "tasks")
        if key in results
    }
    if results.get("health"):
        kept["health"] = results["health"]["readings"]
    return dict(_leaves(kept))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, float | None]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "bins":
                yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield path, value


def weight_hashes(model: Path) -> dict[str, str]:
    """SHA-256 of the saved tensors, those of the calibration apart from the others.

    `weights` depends on their names, `weights_by_value` does not: if only the former differs, a
    parameter was renamed.
    """
    hashes = {}
    weights: dict[str, str] = {}
    calibration: dict[str, str] = {}
    for path in sorted(model.glob("*.safetensors")):
        of = calibration if path.name.startswith("calibration") else weights
        tensors = load_file(path).items()
        # the fine energy is fitted beside what was recorded
        of |= {name: _hash(value) for name, value in tensors if not name.startswith("fine.")}
    assert weights, f"{model} holds no weights"
    for name, of in (("weights", weights), ("calibration", calibration)):
        named = "\n".join(f"{key} {of[key]}" for key in sorted(of))
        hashes[name] = hashlib.sha256(named.encode()).hexdigest()
        values = "\n".join(sorted(of.values()))
        hashes[f"{name}_by_value"] = hashlib.sha256(values.encode()).hexdigest()
    return hashes


def _hash(tensor: torch.Tensor) -> str:
    described = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    content = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(described + content).hexdigest()
