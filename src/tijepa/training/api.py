"""`tijepa.train`: one call from data to a trained model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tijepa.config import RunConfig, resumed_config
from tijepa.data.readers.datasets import remember
from tijepa.errors import CheckpointError, ConfigError
from tijepa.inference.embedder import Embedder
from tijepa.inference.loading import load
from tijepa.inference.results import RunResults
from tijepa.io.progress import SILENT, Reporter
from tijepa.model.saving import read_json
from tijepa.training import run
from tijepa.training.callbacks import Callback, ProgressLine
from tijepa.training.choose import configured

Data = str | os.PathLike[str] | Iterable[Mapping[str, Any]] | Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished run and its folder."""

    path: Path

    @cached_property
    def model(self) -> Embedder:
        """The trained model, loaded when it is first asked for."""
        return load(self.path)

    @cached_property
    def results(self) -> RunResults:
        """What was measured at the end, the content of `results.json`.

        Raises `CheckpointError` where the run was not evaluated.
        """
        file = self.path / "results.json"
        if (self.path / "config.yaml").is_file() and not file.exists():
            raise CheckpointError(
                f"run {self.path} has no results, for it was not evaluated;"
                f" tijepa.evaluate({str(self.path)!r}) evaluates its model"
            )
        return RunResults.from_json(read_json(file))

    @property
    def report(self) -> Path:
        """One page about the run, `report.html`."""
        return self.path / "report.html"


def train(
    data: Data | None = None,
    *,
    preset: str | None = None,
    out: str | os.PathLike[str] | None = None,
    config: RunConfig | str | os.PathLike[str] | None = None,
    resume: bool = False,
    reporter: Reporter = SILENT,
    progress: bool = False,
    callbacks: Sequence[Callback] = (),
    **overrides: Any,
) -> Run:
    """Train a model, evaluate it, write a report, and return the run.

    `data` is whatever `tijepa prepare` reads (a folder, a file, "scenes", "hub:NAME"), a store, a
    `Dataset` or `DatasetDict` of the `datasets` library, or items `{"image": ..., "captions": ...}`
    in any sequence or iterable, or several such by the name of their split
    (`data.readers.datasets.remember` says what an item may hold). None leaves `data.source` as the
    configuration has it.

    Without `preset` and `config` the run is chosen by how many pairs there are and what is
    installed (`training.choose.configured`); `reporter` is told. Settings come from `preset`, then
    `config` (a file, or built already), then `overrides`: their dotted names with two underscores
    for the dot, `optim__lr=1e-3` for `optim.lr`. `out` is the run's folder, `runs/NAME-TIME` if it
    is not given. With `resume` the run in `out` goes on, with the same data and settings, as if it
    had never stopped.

    `progress` shows a line on stderr; `reporter` and `callbacks` are told of everything. Raises
    `ConfigError`, `DataError` and the other errors of tijepa, `CollapseError` among them; then the
    run is whole all the same, and `Run(out)` is it.
    """
    settings = {name.replace("__", "."): value for name, value in overrides.items()}
    if data is not None:
        named = isinstance(data, str | os.PathLike)
        settings["data.source"] = os.fspath(data) if named else remember(data)  # type: ignore[arg-type]
    if resume and out is None:
        raise ConfigError("resume needs `out`, the folder of the run to continue")
    resumed = Path(out) if resume and out else None
    chosen = _configured(preset, config, settings, resumed, reporter)
    if out is None:
        name = Path(config).stem if isinstance(config, str | os.PathLike) else preset or "train"
        out = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    shown = [ProgressLine(), *callbacks] if progress else callbacks
    return Run(run.train(chosen, Path(out), resume=resume, reporter=reporter, callbacks=shown))


def _configured(
    preset: str | None,
    config: RunConfig | str | os.PathLike[str] | None,
    settings: dict[str, Any],
    resumed: Path | None,
    reporter: Reporter,
) -> RunConfig:
    if isinstance(config, RunConfig):
        source = settings.pop("data.source", config.data.source)
        if preset is not None or settings:
            other = ", ".join(["`preset`"] * (preset is not None) + list(settings))
            raise ConfigError(f"a `config` that is built is whole: leave out {other}")
        return config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
    file = None if config is None else Path(config)
    told = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    if resumed is not None:
        return resumed_config(resumed, preset, file, told)
    return configured(preset, file, told, reporter)
