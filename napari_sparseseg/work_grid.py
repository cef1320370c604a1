"""A box and what lies round it, and the same on a coarser grid where it has too many voxels."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.box_geometry import Box

Floats = NDArray[np.floating]
Spacing = tuple[float, float, float]
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Scene:
    """A box and what lies round it.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` finite intensities of the box and a margin.
    spacing
        mm ``(Z, Y, X)``.
    box
        The box in the voxels of `image`.
    others
        ``(Z, Y, X)``: True in other boxes, whose content says nothing about the background.
    """

    image: NDArray[np.float32]
    spacing: Spacing
    box: Box
    others: NDArray[np.bool_]


class WorkGrid:
    """The scene on a coarser grid where its box has too many voxels, and the way back.

    Parameters
    ----------
    scene
        On its own grid.
    most
        Voxels that its box may have on the coarser one; the axes with the finest spacing are coarsened first.

    Attributes
    ----------
    scene
        On the coarser grid; the one given where its box is small enough.
    """

    def __init__(self, scene: Scene, most: int) -> None:
        self._shape = scene.others.shape
        shape = list(self._shape)
        spacing = list(scene.spacing)
        share = scene.box.volume / max(1, scene.others.size)
        while np.prod(shape, dtype=float) * share > most:
            finest = min((a for a in range(3) if shape[a] > 2), key=lambda a: spacing[a])
            factor = min(2.0, max(1.05, (np.prod(shape, dtype=float) * share / most) ** 0.34))
            shorter = max(2, min(shape[finest] - 1, round(shape[finest] / factor)))
            spacing[finest] *= shape[finest] / shorter
            shape[finest] = shorter
        if tuple(shape) == self._shape:
            self.scene = scene
            return
        factors = [new / old for new, old in zip(shape, self._shape, strict=True)]
        image = np.stack([_shrink(channel, factors, shape) for channel in scene.image])
        others = ndimage.zoom(scene.others, factors, order=0, grid_mode=True, mode="nearest")
        start, stop = [], []
        for a, b, factor, length in zip(scene.box.start, scene.box.stop, factors, shape, strict=True):
            first = min(length - 1, round(a * factor))
            start.append(first)
            stop.append(min(length, max(first + 1, round(b * factor))))
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), scene.box.label)
        self.scene = Scene(image, (spacing[0], spacing[1], spacing[2]), box, others)

    def take(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(Z, Y, X)`` values of the scene on this grid."""
        shape = self.scene.others.shape
        if values.shape == shape:
            return values
        factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
        taken: NDArray[np.float32] = ndimage.zoom(values, factors, order=1, grid_mode=True, mode="nearest")
        return taken

    def bring_back(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(Z, Y, X)`` values on the scene's own grid."""
        if values.shape == self._shape:
            return values
        factors = [old / new for new, old in zip(values.shape, self._shape, strict=True)]
        back: NDArray[np.float32] = ndimage.zoom(values, factors, order=1, grid_mode=True, mode="nearest")
        return back


def _shrink(channel: Floats, factors: list[float], shape: list[int]) -> NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(channel, [0.35 / f if f < 1 else 0.0 for f in factors])
    small: NDArray[np.float32] = ndimage.zoom(smooth, factors, order=1, grid_mode=True, mode="nearest")
    assert small.shape == tuple(shape)
    return small


def run_to_end(work: Generator[Any, None, Result]) -> Result:
    """Return what a generator returns, whatever it yields."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        result: Result = end.value
        return result
