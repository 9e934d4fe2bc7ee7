"""Shapes in annotations are checked at run time, and the machine's cores are not all taken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

assert "tijepa" not in sys.modules, "the import hook must come before tijepa"
install_import_hook("tijepa", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder whose `data/flickr8k` and `data/mvsa_single` hold real photos with captions."""
    value = os.environ.get("TIJEPA_REAL_DATA")
    if not value:
        pytest.skip("TIJEPA_REAL_DATA is not set: tests on real photos need that folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"TIJEPA_REAL_DATA={value} is not a folder: mend or unset it")
    return folder
