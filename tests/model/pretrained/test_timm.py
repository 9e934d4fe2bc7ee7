"""The plain ViT gives what timm gives. Timm does not import without torchvision, so it is given one
that is empty, in a process of its own; without timm itself the test is skipped."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"
SCRIPT = """
import enum, importlib.abc, importlib.machinery, sys, types
import torch

MODES = enum.Enum("Modes", "NEAREST BILINEAR BICUBIC BOX HAMMING LANCZOS NEAREST_EXACT")

def anything(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return MODES if name == "InterpolationMode" else type(name, (torch.nn.Module,), {})

class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__, module.__getattr__ = [], anything
        return module

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Empty())
import timm
from timm.layers import resample_abs_pos_embed
from tijepa.model.pretrained.vit import TimmNet
from tijepa.model.pretrained.vit import PretrainedViT, architecture_of, from_timm

theirs = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=3).eval()
for parameter in theirs.parameters():
    if parameter.dim() > 1:
        torch.nn.init.normal_(parameter, std=0.1)
weights = theirs.state_dict()
arguments = architecture_of({name: tuple(w.shape) for name, w in weights.items()})
ours = PretrainedViT(**arguments).eval()
ours.load_state_dict(from_timm(weights, 14))
pixels = torch.randn(2, 3, 224, 224)
with torch.no_grad():
    expected, seen = theirs.forward_features(pixels), ours(pixels)
torch.testing.assert_close(seen.tokens, expected[:, 1:], atol=1e-5, rtol=0)
torch.testing.assert_close(seen.pooled, expected[:, 0], atol=1e-5, rtol=0)
resized = resample_abs_pos_embed(weights["pos_embed"], (8, 8), num_prefix_tokens=1)
torch.testing.assert_close(from_timm(weights, 8)["pos_embed"], resized, atol=1e-5, rtol=0)

for name, width, grid, summary in (
    ("resnet18", 512, 7, False),
    ("vit_tiny_patch16_224", 192, 14, True),
    ("swin_tiny_patch4_window7_224", 768, 7, False),
):
    net = TimmNet({"config": {"architecture": name}}, 224)
    assert (net.width, net.grid, net.has_summary) == (width, grid, summary), name
"""


@pytest.mark.slow
def test_the_plain_vit_and_other_networks_are_timms() -> None:
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, env={**os.environ, "PYTHONPATH": path}
    )
