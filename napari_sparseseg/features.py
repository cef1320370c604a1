"""What a voxel looks like: its grey value at several scales, and its position.

The features are those of ilastik (Sommer et al. 2011): value, gradient magnitude and Hessian
eigenvalues at several scales in mm.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.networks import to_triple

Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]

_SCALES = (0.7, 1.6, 3.5)  # in units of the finest voxel edge
_CONTEXT_SCALE = 8.0
_SLAB_VOXELS = 1_000_000


def compute_features(image: Floats, spacing: Spacing) -> Floats:
    """Describe each voxel by its surroundings at several scales.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` normalised intensities.
    spacing
        Voxel size in mm ``(Z, Y, X)``; the scales are the same in mm along every axis.

    Returns
    -------
    ``(Z, Y, X, F)`` features, without position.
    """
    edge = min(spacing)
    features = []
    for channel in image:
        features.append(channel)
        for scale in _SCALES:
            sigmas = [scale * edge / step for step in spacing]
            smooth = ndimage.gaussian_filter(channel, sigmas, mode="nearest", truncate=3.0)
            features += [smooth, *_derivative_features(smooth, spacing, scale * edge)]
        sigmas = [_CONTEXT_SCALE * edge / step for step in spacing]
        features.append(ndimage.gaussian_filter(channel, sigmas, mode="nearest", truncate=2.5))
    return np.stack(features, axis=-1)


def _derivative_features(smooth: Floats, spacing: Spacing, sigma: float) -> list[Floats]:
    """Gradient magnitude and the three Hessian eigenvalues, scale-normalised by `sigma` in mm."""
    first = [_difference(smooth, axis, spacing[axis]) * sigma for axis in range(3)]
    magnitude = np.sqrt(first[0] ** 2 + first[1] ** 2 + first[2] ** 2)
    second = {(a, b): _difference(first[a], b, spacing[b]) * sigma for a in range(3) for b in range(a, 3)}
    return [magnitude, *_symmetric_eigenvalues(second)]


def _difference(array: Floats, axis: int, step: float) -> Floats:
    if array.shape[axis] < 2:
        return np.zeros_like(array)
    return np.gradient(array, step, axis=axis).astype(np.float32, copy=False)


def _symmetric_eigenvalues(h: dict[tuple[int, int], Floats]) -> list[Floats]:
    """Eigenvalues of symmetric 3×3 matrices in closed form, largest first (Smith 1961)."""
    mean = (h[0, 0] + h[1, 1] + h[2, 2]) / 3
    diagonal = [h[axis, axis] - mean for axis in range(3)]
    off = h[0, 1] ** 2 + h[0, 2] ** 2 + h[1, 2] ** 2
    size = np.sqrt((diagonal[0] ** 2 + diagonal[1] ** 2 + diagonal[2] ** 2 + 2 * off) / 6) + 1e-12
    determinant = (
        diagonal[0] * (diagonal[1] * diagonal[2] - h[1, 2] ** 2)
        - h[0, 1] * (h[0, 1] * diagonal[2] - h[1, 2] * h[0, 2])
        + h[0, 2] * (h[0, 1] * h[1, 2] - diagonal[1] * h[0, 2])
    )
    angle = np.arccos((determinant / (2 * size**3)).clip(-1, 1)) / 3
    largest = np.asarray(mean + 2 * size * np.cos(angle), np.float32)
    smallest = np.asarray(mean + 2 * size * np.cos(angle + 2 * np.pi / 3), np.float32)
    return [largest, np.asarray(3 * mean - largest - smallest, np.float32), smallest]


class FeatureVolume:
    """The features of one volume, computed slab by slab and kept while they fit in memory.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` normalised intensities.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    keep
        Keep the features of every slab; None: where there are at most four.
    """

    def __init__(self, image: Floats, spacing: Spacing, keep: bool | None = None) -> None:
        self.shape = to_triple(image.shape[1:])
        self.image = image
        self.spacing = spacing
        slices = max(1, _SLAB_VOXELS // (self.shape[1] * self.shape[2]))
        self._slabs = [(z, min(z + slices, self.shape[0])) for z in range(0, self.shape[0], slices)]
        self._keep = len(self._slabs) <= 4 if keep is None else keep
        self._kept: dict[int, Floats] = {}

    def slabs(self) -> list[tuple[int, int]]:
        """Return the first and last-plus-one slice of each slab."""
        return self._slabs

    def compute(self, slab: tuple[int, int]) -> Floats:
        """Return the ``(N, F)`` features of a slab's voxels, their position in the last three columns."""
        first, last = slab
        if first in self._kept:
            return self._kept[first]
        halo = int(np.ceil(3 * _CONTEXT_SCALE * min(self.spacing) / self.spacing[0]))
        start = max(0, first - halo)
        part = compute_features(self.image[:, start : last + halo], self.spacing)
        part = part[first - start : last - start]
        position = [np.arange(n, dtype=np.float32) / max(n - 1, 1) for n in self.shape]
        grid = np.meshgrid(position[0][first:last], position[1], position[2], indexing="ij")
        features = np.concatenate([part, np.stack(grid, axis=-1)], axis=-1).reshape(-1, part.shape[-1] + 3)
        if self._keep:
            self._kept[first] = features
        return features

    def at(self, voxels: NDArray[np.int64]) -> Floats:
        """Return the ``(N, F)`` features at flat indices `voxels`, in their order."""
        plane = self.shape[1] * self.shape[2]
        rows: Floats | None = None
        for first, last in self._slabs:
            inside = np.flatnonzero((voxels >= first * plane) & (voxels < last * plane))
            if len(inside):
                features = self.compute((first, last))
                if rows is None:
                    rows = np.empty((len(voxels), features.shape[1]), np.float32)
                rows[inside] = features[voxels[inside] - first * plane]
        if rows is None:
            raise ValueError("features were asked for at no voxel")
        return rows
