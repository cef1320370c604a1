"""Building a volume from DICOM planes: their order, their affine, and the reasons to refuse them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import choose_frame

_ORIENTATION_TOLERANCE = 1e-3
_STEP_TOLERANCE = 0.05
"""Share of the distance between slices by which a slice may be off its place."""
_TILT_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice: frame number `index` of `file`, with its place in the patient (mm, LPS).

    Attributes
    ----------
    position
        ``(3,)`` centre of the first voxel.
    orientation
        ``(2, 3)`` direction in which columns, then rows, are counted.
    pixel_spacing
        mm between rows, between columns.
    size
        Rows, columns.
    thickness
        mm, if the file gives one.
    order
        Sorts planes at the same place in time.
    """

    file: Path
    index: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    pixel_spacing: tuple[float, float]
    size: tuple[int, int]
    thickness: float | None
    order: tuple[float, ...]


def stack_planes(
    planes: list[Plane], name: Path, frame: int | None
) -> tuple[list[Plane], NDArray[np.float64], list[str]]:
    """Put planes in order of place.

    Parameters
    ----------
    planes
        All planes of a series, in any order.
    name
        What to call the series in messages.
    frame
        Time point, for a series with several.

    Returns
    -------
    planes
        Those of one time point, ordered along the normal.
    affine
        ``(4, 4)`` index (column, row, slice) -> mm (x, y, z), LPS.
    notes
        Sentences on what was assumed.

    Raises
    ------
    InputError
        If the planes are not an even, straight stack.
    """
    _check_alike(planes, name)
    normal = np.cross(*planes[0].orientation)
    planes = _choose_time(planes, normal, name, frame)
    notes: list[str] = []
    if len(planes) == 1:
        thickness = planes[0].thickness
        step = normal * (thickness or 1.0)
        notes.append(f"{name.name} is a single slice, taken as {thickness or 1.0:g} mm thick.")
    else:
        step = _check_steps(np.array([plane.position for plane in planes]), normal, name)
    across_rows, across_columns = planes[0].pixel_spacing
    affine = np.eye(4)
    affine[:3, 0] = planes[0].orientation[0] * across_columns
    affine[:3, 1] = planes[0].orientation[1] * across_rows
    affine[:3, 2] = step
    affine[:3, 3] = planes[0].position
    return planes, affine, notes


def _check_alike(planes: list[Plane], name: Path) -> None:
    first = planes[0]
    sizes = sorted({plane.size for plane in planes})
    if len(sizes) > 1:
        listed = ", ".join(f"{rows}×{columns}" for rows, columns in sizes[:4])
        raise InputError(f"{name} mixes slices of different sizes ({listed}); keep one series to a folder.")
    if any(np.abs(p.orientation - first.orientation).max() > _ORIENTATION_TOLERANCE for p in planes):
        raise InputError(
            f"{name} mixes slices of different orientations, as a localizer does; "
            "keep the slices of one orientation."
        )
    if any(not np.allclose(p.pixel_spacing, first.pixel_spacing, rtol=1e-3) for p in planes):
        raise InputError(f"{name} mixes slices of different pixel spacing; keep one series to a folder.")
    if min(first.pixel_spacing) <= 0:
        raise InputError(f"{name} has a pixel spacing of {first.pixel_spacing} mm; export it again.")
    if np.abs(first.orientation @ first.orientation.T - np.eye(2)).max() > _TILT_TOLERANCE:
        raise InputError(f"{name} has rows and columns that are not at right angles; export it again.")


def _choose_time(
    planes: list[Plane], normal: NDArray[np.float64], name: Path, frame: int | None
) -> list[Plane]:
    """Sort by place; where every place occurs equally often, keep one time point."""
    places: list[list[Plane]] = []
    for plane in sorted(planes, key=lambda p: float(p.position @ normal)):
        if places and np.linalg.norm(plane.position - places[-1][0].position) < 1e-3:
            places[-1].append(plane)
        else:
            places.append([plane])
    counts = {len(place) for place in places}
    if len(counts) > 1:
        raise InputError(
            f"{name} has more slices at some places than at others; keep the slices of one acquisition."
        )
    chosen = choose_frame(name, counts.pop(), frame)
    return [sorted(place, key=lambda p: p.order)[chosen] for place in places]


def _check_steps(
    positions: NDArray[np.float64], normal: NDArray[np.float64], name: Path
) -> NDArray[np.float64]:
    """Return the mm from slice to slice as a vector, after checking that all are the same."""
    if len(positions) == 2:
        raise InputError(
            f"{name} has too few slices: of only 2 it cannot be told whether one between them is missing; "
            "give the whole series."
        )
    distances = np.diff(positions @ normal)
    usual = float(np.median(distances))
    worst = int(np.abs(distances - usual).argmax())
    if abs(distances[worst] - usual) > _STEP_TOLERANCE * usual:
        raise InputError(
            f"{name} has uneven distances between slices ({usual:.4g} mm mostly, {distances[worst]:.4g} mm "
            f"after slice {worst + 1}): a slice is missing or too many; give the whole series."
        )
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
    sideways = step - (step @ normal) * normal
    if np.linalg.norm(sideways) > _TILT_TOLERANCE * np.linalg.norm(step):
        angle = np.degrees(np.arctan2(np.linalg.norm(sideways), abs(step @ normal)))
        raise InputError(
            f"{name} was acquired with a gantry tilt of {angle:.1f}°, so that its slices are sheared; "
            "correct the tilt first (for example with dcm2niix)."
        )
    straight = positions[0] + np.arange(len(positions))[:, np.newaxis] * step
    if np.linalg.norm(positions - straight, axis=1).max() > max(0.5 * usual, 0.5):
        raise InputError(f"{name} has slices that are shifted against each other; export the series again.")
    return step
