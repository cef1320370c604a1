"""Bringing volumes from one voxel size to another, and results back."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple

SPACING_TOLERANCE = 0.05
"""A spacing within this share of the wanted one is left as it is."""

_SLAB_VOXELS = 4_000_000


def shape_at(shape: Triple, spacing: tuple[float, ...], wanted: tuple[float, ...]) -> Triple:
    """Return the shape of the same box in voxels of `wanted` mm; unchanged within the tolerance."""
    return to_triple(
        length if abs(have / want - 1) <= SPACING_TOLERANCE else max(1, round(length * have / want))
        for length, have, want in zip(shape, spacing, wanted, strict=True)
    )


def resample_image(image: NDArray[np.floating[Any]], shape: Triple) -> NDArray[np.float32]:
    """Resample ``(C, Z, Y, X)`` to `shape`: linearly, and by averaging where it shrinks twofold or more."""
    tensor = torch.from_numpy(np.asarray(image, np.float32))[None]
    smaller = [
        min(have, want) if have >= 2 * want else have
        for have, want in zip(image.shape[1:], shape, strict=True)
    ]
    if tensor.shape[2:] != torch.Size(smaller):
        tensor = torch.nn.functional.interpolate(tensor, smaller, mode="area")
    if tensor.shape[2:] != shape:
        tensor = torch.nn.functional.interpolate(tensor, shape, mode="trilinear", align_corners=False)
    return tensor[0].numpy()


def resample_labels(labels: NDArray[Any], shape: Triple) -> NDArray[Any]:
    """Bring a sparse ``(Z, Y, X)`` array to `shape` so that no label gets lost.

    Where voxels grow, each takes the largest value that falls into it (a class before background,
    background before unlabelled); where they shrink, the nearest voxel's value.
    """
    for axis, (have, want) in enumerate(zip(labels.shape, shape, strict=True)):
        if want > have:
            index = ((np.arange(want) + 0.5) * have / want).astype(np.int64)
            labels = labels.take(index, axis)
        elif want < have:
            starts = np.ceil(np.arange(want) * have / want).astype(np.int64)
            labels = np.maximum.reduceat(labels, starts, axis)
    return labels


def resample_slabs(probabilities: Tensor, shape: Triple) -> Iterator[tuple[int, Tensor]]:
    """Resample ``(K, z, y, x)`` linearly to `shape`, a few slices at a time.

    Yields
    ------
    The first slice and the ``(K, n, Y, X)`` float32 values of each slab.
    """
    depth = probabilities.shape[1]
    step = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for first in range(0, shape[0], step):
        centres = (torch.arange(first, min(first + step, shape[0])) + 0.5) * depth / shape[0] - 0.5
        centres = centres.clamp(0, depth - 1)
        below = centres.floor().long()
        share = (centres - below)[None, :, None, None]
        slices = probabilities[:, below].float() * (1 - share)
        slices += probabilities[:, (below + 1).clamp(max=depth - 1)].float() * share
        plane = (shape[1], shape[2])
        yield (
            first,
            torch.nn.functional.interpolate(slices, plane, mode="bilinear", align_corners=False),
        )
