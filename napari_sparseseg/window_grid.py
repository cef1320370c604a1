"""Where the windows lie in which a network sees a volume, and how they are cut out and blended."""

import itertools
import math
from dataclasses import dataclass

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple

_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class WindowLayer:
    """The windows that begin at the same slice.

    Attributes
    ----------
    first
        Their first slice; below 0 where the volume is thinner than a window.
    corners
        The first voxel of each, ``(Z, Y, X)``.
    ready
        How many slices, from the layer's first one inside the volume on, no later layer touches.
    """

    first: int
    corners: tuple[Triple, ...]
    ready: int


def plan_windows(shape: Triple, patch: Triple, overlap: float) -> list[WindowLayer]:
    """Lay windows of `patch` voxels over a volume: as few as overlap by the share `overlap`, evenly.

    Along an axis on which the volume is no longer than a window, one is laid round its middle.
    """
    starts = [_window_starts(length, size, overlap) for length, size in zip(shape, patch, strict=True)]
    layers = []
    for z, following in itertools.zip_longest(starts[0], starts[0][1:], fillvalue=shape[0]):
        corners = tuple((z, y, x) for y in starts[1] for x in starts[2])
        layers.append(WindowLayer(z, corners, following - max(z, 0)))
    return layers


def _window_starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [length // 2 - size // 2]
    number = math.ceil((length - size) / max(1, size * (1 - overlap))) + 1
    return [round(i * (length - size) / (number - 1)) for i in range(number)]


def shared_part(corner: Triple, patch: Triple, shape: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a window that lies inside the volume, in window and in volume coordinates."""
    inner, outer = [], []
    for start, size, length in zip(corner, patch, shape, strict=True):
        first, last = max(start, 0), min(start + size, length)
        inner.append(slice(first - start, last - start))
        outer.append(slice(first, last))
    return tuple(inner), tuple(outer)


def read_window(image: Tensor, corner: Triple, patch: Triple) -> Tensor:
    """Cut float32 ``(C, *patch)`` out of ``(C, Z, Y, X)``; beyond the border the edge is continued."""
    inner, outer = shared_part(corner, patch, to_triple(image.shape[1:]))
    window = image[(slice(None), *outer)].float()
    pads = [
        edge
        for part, size in reversed(list(zip(inner, patch, strict=True)))
        for edge in (part.start, size - part.stop)
    ]
    if any(pads):
        window = torch.nn.functional.pad(window[None], pads, mode="replicate")[0]
    return window


def weigh_window(patch: Triple, device: torch.device) -> Tensor:
    """Return the weight ``patch`` of each voxel of a window: Gaussian, nowhere 0 (Isensee et al. 2021)."""
    weight: Tensor = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, device="cpu")
    return weight.clamp_min(_LEAST_WEIGHT).to(device)
