"""The grid of a source file: its orientation, its way to the canonical one, and whether two grids agree."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import StoredImage

GRID_TOLERANCE = 0.05
"""Share of the smallest voxel side by which corners of two grids may differ and still be the same grid."""

SHEAR_TOLERANCE = 0.01
"""Largest cosine between two axes that still counts as a right angle."""

REVERSED = np.eye(4)[[2, 1, 0, 3]]
"""Swaps x and z of a homogeneous place; its own inverse."""


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """How the file that a volume came from stores it.

    Attributes
    ----------
    format
        Name of the format.
    shape
        Voxels along the file's own axes ``(I, J, K)``.
    affine
        ``(4, 4)`` file index ``(i, j, k)`` -> patient mm ``(x, y, z)``, LPS.
    axes
        The file's axis that became z, y and x.
    flipped
        Whether z, y and x run against that axis.
    has_geometry
        Whether the file says where it lies in space.
    nifti_header
        The file's NIfTI header block, if it has one.
    slices
        File and frame, counted from 0, of each slice along K, if it is a DICOM series.
    """

    format: str
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    has_geometry: bool
    nifti_header: bytes | None = field(default=None, repr=False)
    slices: tuple[tuple[Path, int], ...] = field(default=(), repr=False)

    def to_canonical(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return a view ``(…, Z, Y, X)`` of `data` ``(…, I, J, K)``."""
        lead = data.ndim - 3
        turned = data.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.flip(turned, self._flipped_axes(lead))

    def to_file(self, data: NDArray[Any]) -> NDArray[Any]:
        """Return a view ``(…, I, J, K)`` of `data` ``(…, Z, Y, X)``."""
        lead = data.ndim - 3
        return np.flip(data, self._flipped_axes(lead)).transpose(
            *range(lead), *(lead + self.axes.index(axis) for axis in range(3))
        )

    def _flipped_axes(self, lead: int) -> tuple[int, ...]:
        return tuple(lead + place for place, flip in enumerate(self.flipped) if flip)

    def canonical_affine(self) -> NDArray[np.float64]:
        """Return ``(4, 4)`` canonical index ``(z, y, x)`` -> patient mm ``(z, y, x)``, LPS."""
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for place, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            turn[axis, place] = -1 if flip else 1
            turn[axis, 3] = self.shape[axis] - 1 if flip else 0
        return REVERSED @ self.affine @ turn + 0.0  # + 0.0 turns -0.0 to 0.0


def make_grid(
    path: Path,
    stored: StoredImage,
    affine: NDArray[np.float64],
    towards: NDArray[np.float64] | None = None,
) -> SourceGrid:
    """Find the axes and flips that bring a file closest to the canonical axes, or to those of `towards`."""
    check_affine(path, affine)
    target = np.eye(3) if towards is None else towards[:3, :3] / np.linalg.norm(towards[:3, :3], axis=0)
    columns = (REVERSED @ affine)[:3, :3]
    cosines = np.round(target.T @ (columns / np.linalg.norm(columns, axis=0)), 6)
    axes = max(itertools.permutations(range(3)), key=lambda order: sum(abs(cosines[range(3), order])))
    flipped = tuple(bool(cosines[place, axis] < 0) for place, axis in enumerate(axes))
    return SourceGrid(
        stored.format,
        stored.data.shape[1:],
        affine,
        axes,  # type: ignore[arg-type]
        flipped,  # type: ignore[arg-type]
        stored.has_geometry,
        stored.nifti_header,
        stored.slices,
    )


def check_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Refuse zero spacing, an affine that is not finite, and sheared axes."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.any(spacing == 0):
        raise InputError(f"{path} has a voxel size of zero or an impossible affine; correct its header.")
    cosines = affine[:3, :3].T @ affine[:3, :3] / np.outer(spacing, spacing)
    if np.abs(cosines - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise InputError(
            f"{path} has sheared axes (not at right angles), which cannot be shown or trained on without "
            "resampling; resample it to a straight grid first."
        )


def border_matrix(affine: NDArray[np.float64], file: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return ``(4, 4)`` borders between voxels ``(z, y, x)``, counted from 0 -> mm ``(x, y, z)``.

    `affine` is that of `Volume`; with `file`, that of `SourceGrid`, it leads to the file's ``(i, j, k)``.
    """
    half = np.array([(1, 0, 0, 0.5), (0, 1, 0, 0.5), (0, 0, 1, 0.5), (0, 0, 0, 1)])
    to_mm: NDArray[np.float64] = REVERSED @ affine @ np.linalg.inv(half)
    return to_mm if file is None else half @ np.linalg.inv(file) @ to_mm


PlacedShape = tuple[tuple[int, ...], NDArray[np.float64]]
"""Voxels along, and affine of, the canonical axes."""


def explain_difference(first: PlacedShape, second: PlacedShape) -> str | None:
    """Return None if two grids have the same voxels in space, else how `first` differs from `second`."""
    if first[0] == second[0]:
        corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * [*first[0], 1]
        distance = float(np.linalg.norm((corners @ (first[1] - second[1]).T)[:, :3], axis=1).max())
        smallest = np.linalg.norm(second[1][:3, :3], axis=0).min()
        if distance <= GRID_TOLERANCE * smallest:
            return None
        return f"it lies up to {distance:.3g} mm away ({_describe_grid(first)}, not {_describe_grid(second)})"
    return f"it has {_describe_grid(first)}, not {_describe_grid(second)}"


def _describe_grid(grid: PlacedShape) -> str:
    shape, affine = grid
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sizes = " × ".join(f"{size:.4g}" for size in spacing)
    origin = ", ".join(f"{place:.4g}" for place in affine[:3, 3])
    return f"{'×'.join(map(str, shape))} voxels of {sizes} mm from ({origin}) mm in z, y, x"
