"""What training code around Pillow does with an image: crop, resize, tensor, normalise.

The steps of the usual random resized crop (bicubic), scaling to [0, 1] and normalisation by
channel, as open_clip trains with (its `image_transform` for training, crop scale 0.9 to 1.0).
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["MEAN", "STD", "preprocess"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
SIZE, SCALE, ASPECT = 224, (0.9, 1.0), (3 / 4, 4 / 3)

_MEAN, _STD = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))


def preprocess(image: Image.Image) -> Tensor:
    """A float32 tensor (3, 224, 224)."""
    cut = image.crop(_box(*image.size)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    planes = torch.from_numpy(np.array(cut)).permute(2, 0, 1).contiguous()
    return planes.to(torch.float32).div_(255).sub_(_MEAN).div_(_STD)


def _box(width: int, height: int) -> tuple[int, int, int, int]:
    """A random region of an area in `SCALE` of the largest square; the centre where ten tries miss.

    The peers take a share of the whole image. A share of the square, as in our loader, gives them
    the same number of pixels to resize, a quarter fewer than they are used to.
    """
    for _ in range(10):
        area = min(width, height) ** 2 * random.uniform(*SCALE)
        aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    if width > ASPECT[1] * height:
        w, h = round(ASPECT[1] * height), height
    elif width < ASPECT[0] * height:
        w, h = width, round(width / ASPECT[0])
    else:
        w, h = width, height
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
