"""To the Hugging Face hub and back, by `huggingface_hub`, which the extra `hf` brings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tijepa.data.tokenizer import Tokenizer
from tijepa.errors import CheckpointError, ConfigError, MissingExtraError
from tijepa.inference.calibration import Calibration
from tijepa.inference.hub.model_card import PROVENANCE, Provenance, page
from tijepa.io.files import writing
from tijepa.model.saving import FROZEN, ModelCard, save_model, save_tensors, write_json
from tijepa.model.text_image_model import TextImageModel

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO_ID = re.compile(rf"{_PART}/{_PART}")
_WANTED = ("*.json", "*.safetensors", "*.onnx", "README.md")


def is_repo_id(text: str) -> bool:
    """Whether `text` has the form "owner/name"."""
    return _REPO_ID.fullmatch(text) is not None and "--" not in text and ".." not in text


def check_repo_id(repo_id: str) -> None:
    """Raise `ConfigError` where `repo_id` is no "owner/name"."""
    if not is_repo_id(repo_id):
        raise ConfigError(
            f"repo_id '{repo_id}' is no name of the hub: give 'owner/name' of letters, digits, '-',"
            " '_' and '.'"
        )


def download(repo_id: str, revision: str | None) -> Path:
    """The folder of the hub's cache that holds a model: safetensors, JSON and graphs, nothing else.

    Raises `CheckpointError` where there is no such model or the hub cannot be reached.
    """
    hub = _hub(f"{repo_id} is not a folder here, and models of the hub need huggingface_hub, which")
    try:
        folder = hub.snapshot_download(repo_id, revision=revision, allow_patterns=list(_WANTED))
    except Exception as error:  # noqa: BLE001 (the hub, its HTTP client and its cache raise anything)
        at = f" at revision '{revision}'" if revision else ""
        raise CheckpointError(
            f"{repo_id} is not a folder; give a run folder such as runs/demo. As a model on the hub"
            f"{at} it cannot be had: {_reason(error)}"
        ) from None
    return Path(folder)


def upload(
    save: Callable[[Path], Path],
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    message: str,
) -> str:
    """Put on the hub what `save` writes into a folder; gives the address of its page.

    Raises `ConfigError` for a name that the hub does not allow, `CheckpointError`.
    """
    check_repo_id(repo_id)
    hub = _hub("push_to_hub needs huggingface_hub, which")
    with TemporaryDirectory() as folder:
        saved = save(Path(folder) / repo_id.partition("/")[2])
        api = hub.HfApi(token=token)
        try:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=saved, commit_message=message)
        except Exception as error:  # noqa: BLE001 (the hub and its HTTP client raise anything)
            raise CheckpointError(
                f"{repo_id} cannot be written on the hub: {_reason(error)}; log in with"
                " hf auth login, or give token="
            ) from None
    return str(url)


def _hub(who: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError(who, "hf") from None
    return huggingface_hub


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__


# A saved model: weights, tokenizer, calibration, provenance and page in one folder.


def write_model(
    folder: Path,
    model: TextImageModel,
    card: ModelCard,
    tokenizer: Tokenizer,
    calibration: Calibration | None,
    provenance: Provenance,
) -> Path:
    """Write all of it into `folder`, which is made where it is not there; gives the folder.

    A saved model that stands there is replaced: `provenance.json`, by which it is known, comes
    first, and `model.json`, without which nothing can be loaded, last. Raises `ConfigError` where
    the folder holds anything else, `CheckpointError` where it cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PROVENANCE).is_file():
        raise ConfigError(
            f"{folder} holds files that are no saved model: name a new or an empty folder"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(provenance.to_json(), folder / PROVENANCE)
    with writing(folder):
        for leftover in ("model.json", "calibration.safetensors", FROZEN):
            (folder / leftover).unlink(missing_ok=True)
        tokenizer.save(folder / "tokenizer.json")
        text = page(folder.resolve().name, card, provenance)
        (folder / "README.md").write_text(text, encoding="utf-8")
    if calibration is not None:
        save_tensors(calibration.state(), folder / "calibration.safetensors")
    save_model(model, card, folder)
    return folder
