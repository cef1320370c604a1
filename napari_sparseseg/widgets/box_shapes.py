"""The Shapes layer that boxes are drawn on: napari's, true to what is visible, with boxes as its shapes."""

import math
from functools import cached_property
from typing import Any

import napari.layers
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.box_geometry import Triple
from napari_sparseseg.widgets.placement import Placement

_NUMBER = "number"  # name of the feature that says which box a shape belongs to
_THIN = 1e-5  # coordinates per voxel across the slice


class Shapes(napari.layers.Shapes):
    """A Shapes layer whose shapes lie where the user points, on oblique and on coarse images too.

    Its name is that of its base, since napari finds icons, menus and controls by it.

    Along the visible axes its unit is the same length on the screen, so that edges and handles are as wide as
    they are high.  Across them all slices are one for napari, so that shapes stay while it goes through them.

    Parameters
    ----------
    placement
        Where the voxels lie.
    arguments
        As of `napari.layers.Shapes`, without ``ndim``, ``features``, ``affine`` and ``scale``.
    """

    def __init__(self, placement: Placement, **arguments: Any) -> None:
        self.placement = placement
        self.slice_axis: int | None = None
        """Axis across which the visible slice lies; None where there is none (2D images, 3D display)."""
        features = {_NUMBER: np.zeros(0, int)}
        super().__init__(ndim=placement.ndim, features=features, **self._transform(), **arguments)

    @cached_property
    def extent(self) -> Any:
        """Extent of the layer, as napari makes its sliders by: boxes add nothing to that of their image."""
        nowhere = np.full((2, self.ndim), np.nan)
        return super().extent._replace(world=nowhere, step=self.placement.spacing)

    @property
    def unit(self) -> float:
        """Length in the world of one coordinate along the visible axes."""
        return float(self.placement.spacing.min())

    @property
    def units_per_voxel(self) -> NDArray[np.float64]:
        """``(N,)`` coordinates of this layer in one voxel."""
        units = self.placement.spacing / self.unit
        if self.slice_axis is not None:
            units[self.slice_axis] = _THIN
        return units

    @property
    def numbers(self) -> list[int]:
        """Number of the box that each shape belongs to; 0 for what the user has added."""
        known = np.nan_to_num(np.asarray(self.features[_NUMBER], float)).astype(int).tolist()
        return [*known, *[0] * self.nshapes][: self.nshapes]

    @numbers.setter
    def numbers(self, numbers: list[int]) -> None:
        self.features = {_NUMBER: np.array(numbers, int)}
        self.feature_defaults = {_NUMBER: 0}

    def place(self, placement: Placement, slice_axis: int | None) -> None:
        """Lie elsewhere, or lie ready for slices across another axis."""
        self.placement, self.slice_axis = placement, slice_axis
        now = {"scale": self.scale, "affine": self.affine.affine_matrix}
        for name, value in self._transform().items():
            if not np.allclose(now[name], value):  # napari slices anew each time
                setattr(self, name, value)

    def get_value(self, position: ArrayLike, **arguments: Any) -> Any:
        """Return shape and vertex at a position; napari itself misses shapes beside a whole number."""
        value = super().get_value(position, **arguments)
        if value != (None, None) or self.slice_axis is None or self.mode not in ("select", "direct"):
            return value
        place = np.asarray(self.world_to_data(position) if arguments.get("world") else position)
        shown = [axis for axis in range(3) if axis != self.slice_axis]
        for shape in reversed(range(self.nshapes)):
            vertices = np.asarray(self.data[shape])[:, shown]
            if (vertices.min(axis=0) <= place[shown]).all() and (place[shown] <= vertices.max(axis=0)).all():
                return shape, None
        return value

    def frame_slice(self, start: Triple, stop: Triple, axis: int) -> NDArray[np.float64]:
        """Return the rectangle ``(4, N)`` round the voxels of a box in a slice across `axis`."""
        rows, columns = (other for other in range(3) if other != axis)
        low, high = np.array(start) - 0.5, np.array(stop) - 0.5
        corners = np.zeros((4, 3))
        corners[:, rows] = low[rows], low[rows], high[rows], high[rows]
        corners[:, columns] = low[columns], high[columns], high[columns], low[columns]
        return corners[:, -self.ndim :] * self.units_per_voxel

    def find_edges(self, start: Triple, stop: Triple) -> list[NDArray[np.float64]]:
        """Return the edges of a box, 12 in 3D and 4 in 2D, each as its two ends ``(2, N)``."""
        sides = np.stack([np.array(start) - 0.5, np.array(stop) - 0.5], axis=-1)[-self.ndim :]
        corners = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1) * self.units_per_voxel
        edges: list[NDArray[np.float64]] = []
        for axis in range(self.ndim):
            edges.extend(np.moveaxis(corners, axis, -2).reshape(-1, 2, self.ndim))
        return edges

    def find_sides(self, vertices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the bounds of a shape ``(M, N)`` in voxels: lowest and highest place ``(Z, Y, X)``."""
        low, high = np.full(3, -0.5), np.full(3, 0.5)
        low[-self.ndim :] = vertices.min(axis=0) / self.units_per_voxel
        high[-self.ndim :] = vertices.max(axis=0) / self.units_per_voxel
        return low, high

    def _transform(self) -> dict[str, Any]:
        affine = self.placement.affine.copy()
        if self.slice_axis is not None:  # what napari draws: without the part that leads out of the slice
            affine[self.slice_axis, :-1] = affine[:-1, self.slice_axis] = 0
            affine[self.slice_axis, self.slice_axis] = self.placement.spacing[self.slice_axis]
        affine[:-1, :-1] /= self.units_per_voxel * self.unit
        return {"scale": (self.unit,) * self.placement.ndim, "affine": affine}


def snap_side(low: float, high: float, length: int) -> tuple[int, int]:
    """Return the voxels between two places: to the nearest borders inside the volume, one voxel at least."""
    start, stop = (min(max(math.floor(place + 1), 0), length) for place in (low, high))
    if stop > start:
        return start, stop
    middle = min(max(round((float(low) + float(high)) / 2), 0), length - 1)
    return middle, middle + 1
