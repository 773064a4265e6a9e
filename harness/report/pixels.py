"""Images of a data set as parts of a page: small files in data URIs, and masks drawn over images."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

TARGET, DISTRACTOR = (0, 114, 178), (213, 94, 0)
"""Colours (RGB) of what is segmented and of what is masked out, which readers of any colour vision tell apart."""

_QUALITY = 88
"""Of WebP, for images in colour, which take a third of the room of PNG then."""

_OPACITY = 0.55


def data_uri(pixels: np.ndarray, most: int = 112) -> str:
    """An image, uint8 [C, H, W] with one or three channels, as a data URI; its sides have at most `most` pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    if max(image.size) > most:
        image.thumbnail((most, most), Image.Resampling.BOX)
    kind = "png" if image.mode == "L" else "webp"
    file = io.BytesIO()
    image.save(file, kind, **({"optimize": True} if kind == "png" else {"quality": _QUALITY}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def painted(pixels: np.ndarray, *layers: tuple[np.ndarray, tuple[int, int, int]]) -> np.ndarray:
    """The image, uint8 [C, H, W], in grey, with masks, bool [H, W], in their colours over it: uint8 [3, H, W]."""
    grey = pixels.astype(np.float32).mean(0)
    found = np.repeat(grey[None], 3, 0)
    for mask, colour in layers:
        over = np.asarray(colour, np.float32)[:, None]
        found[:, mask] = (1 - _OPACITY) * found[:, mask] + _OPACITY * over
    return found.round().astype(np.uint8)
