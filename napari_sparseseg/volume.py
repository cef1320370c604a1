"""Volumes: reading files into one orientation, and writing results back on the grid they came from.

In memory every volume is ``(C, Z, Y, X)`` in LPS order: z grows to superior, y to posterior and x to
the patient's left.  Files are turned to it by swapping and flipping axes only, never by resampling,
so that labels go back bit-exactly.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg import formats
from napari_sparseseg.atomic import atomic_path, check_folder
from napari_sparseseg.errors import InputError
from napari_sparseseg.formats import READABLE_SUFFIXES, WRITABLE_SUFFIXES, is_dicom
from napari_sparseseg.formats.grid import REVERSED, SourceGrid, check_affine, explain_difference, make_grid
from napari_sparseseg.formats.stored import StoredImage

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "SourceGrid",
    "Units",
    "Volume",
    "check_writable",
    "is_dicom",
    "is_readable",
    "load_labels",
    "load_volume",
    "placed_box",
    "same_grid",
    "save_labels",
    "save_map",
    "short_name",
    "volume_from_array",
    "voxel_box",
]

Units = Literal["mm", "voxel"]

_LABEL_TYPES = (np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True, eq=False)
class Volume:
    """Image data in the canonical orientation.

    Attributes
    ----------
    data
        ``(C, Z, Y, X)``, always finite.
    spacing
        mm between voxels along ``(Z, Y, X)``.
    affine
        ``(4, 4)`` index ``(z, y, x)`` -> patient mm ``(z, y, x)``: superior, posterior and left are
        positive.  It fits napari's ``affine`` as it is.
    grid
        How the source stores it; results are written back on it.
    name
        Short name for people.
    notes
        Sentences on what was noticed, mended or assumed in reading.
    """

    data: NDArray[np.float32]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    grid: SourceGrid
    name: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(Z, Y, X)``."""
        depth, height, width = self.data.shape[1:]
        return depth, height, width


_Path = str | os.PathLike[str]


def is_readable(path: _Path) -> bool:
    """Tell by its name, or by content where that says nothing, whether `load_volume` should be tried."""
    path = Path(path)
    if path.is_dir():
        return any(is_dicom(file) for file in path.rglob("*") if file.is_file())
    return bool(formats.known_suffix(path)) or (path.is_file() and is_dicom(path))


def load_volume(
    path: _Path | Sequence[_Path],
    *,
    frame: int | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> Volume:
    """Read a volume.

    Parameters
    ----------
    path
        A file, a DICOM folder or one of its files, ``file.h5:/dataset``, or several of these: the
        channels of one volume on one grid.
    frame
        Which volume of a time series, counted from 0.
    spacing
        mm ``(Z, Y, X)``, for files that do not have their own place in space (TIFF, HDF5, numpy).

    Raises
    ------
    InputError
        If a file is missing, damaged, incomplete, or cannot be trusted: the message says why.
    """
    if not isinstance(path, str | os.PathLike):
        return _join_channels([load_volume(each, frame=frame, spacing=spacing) for each in path])
    path = Path(path).expanduser()
    stored = formats.read_stored(path, frame)
    notes = [*stored.notes]
    affine = stored.affine
    if spacing is not None:
        if stored.has_geometry:
            raise InputError(f"{path} has its own voxel size; do not give one.")
        affine = np.diag([*reversed(spacing), 1.0])
    elif not stored.has_spacing:
        notes.append(f"{path.name} does not say how large a voxel is; 1 mm was assumed.")
    grid = make_grid(path, stored, affine)
    data, value_notes = _read_values(path, stored, grid)
    return _make_volume(data, grid, short_name(path), (*notes, *value_notes))


def volume_from_array(
    array: ArrayLike,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    affine: ArrayLike | None = None,
    name: str = "array",
) -> Volume:
    """Make a volume of an array, which keeps its axes.

    Parameters
    ----------
    array
        ``(Z, Y, X)`` or ``(C, Z, Y, X)``; values that are not finite are replaced as in `load_volume`.
    spacing
        mm ``(Z, Y, X)``; not used when `affine` is given.
    affine
        ``(4, 4)`` index ``(z, y, x)`` -> patient mm ``(z, y, x)``, as in `Volume`.
    name
        Short name for people.

    Raises
    ------
    InputError
        If the array has another number of axes, or the affine is sheared or has zero spacing.
    """
    values = np.asarray(array)
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise InputError(f"{name} has the shape {values.shape}; give an array (Z, Y, X) or (C, Z, Y, X).")
    file_affine = np.diag([*reversed(spacing), 1.0])
    if affine is not None:
        file_affine = REVERSED @ np.asarray(affine, np.float64) @ REVERSED
    stored = StoredImage(
        data=values.reshape((-1, *values.shape[-3:])).transpose(0, 3, 2, 1),
        affine=file_affine,
        format="array",
        has_geometry=affine is not None,
    )
    check_affine(Path(name), stored.affine)
    shape = (values.shape[-1], values.shape[-2], values.shape[-3])
    grid = SourceGrid("array", shape, stored.affine, (2, 1, 0), (False,) * 3, stored.has_geometry)
    data, notes = _read_values(Path(name), stored, grid)
    return _make_volume(data, grid, name, notes)


def load_labels(path: _Path, like: Volume) -> NDArray[np.int32]:
    """Read the labels of a volume.

    Parameters
    ----------
    path
        A label file; any orientation will do as long as its voxels are those of `like`.  A file
        without geometry (TIFF, HDF5, numpy) only has to have the shape of `like`.
    like
        The volume that was labelled.

    Returns
    -------
    ``(Z, Y, X)`` values as the file holds them, in the orientation of `like`.

    Raises
    ------
    InputError
        If the file cannot be read, lies on another grid, or holds anything but whole numbers.
    """
    path = Path(path).expanduser()
    stored = formats.read_stored(path, None)
    if len(stored.data) != 1:
        raise InputError(f"{path} has {len(stored.data)} channels; labels have one value for each voxel.")
    placed = stored.has_geometry and like.grid.has_geometry
    grid = make_grid(path, stored, stored.affine, like.affine if placed else None)
    shape = tuple(grid.shape[axis] for axis in grid.axes)
    affine = grid.canonical_affine() if placed else like.affine
    if reason := explain_difference((shape, affine), (like.shape, like.affine)):
        raise InputError(
            f"{path} is not on the grid of {like.name}: {reason}; resample it to the image's grid first."
        )
    return np.ascontiguousarray(grid.to_canonical(_read_whole_numbers(path, stored)))


def save_labels(path: _Path, labels: NDArray[np.integer[Any]], like: Volume) -> None:
    """Write labels on the grid, in the orientation and with the header of the file that `like` came from.

    Parameters
    ----------
    path
        File to write, atomically; the suffix is one of `WRITABLE_SUFFIXES`.
    labels
        ``(Z, Y, X)`` whole numbers; the smallest sufficient integer type is used.
    like
        The volume that they belong to.

    Raises
    ------
    InputError
        If the shape is not that of `like`, a value does not fit in 32 bits, or the file cannot be written.
    """
    labels = np.asarray(labels)
    if labels.shape != like.shape:
        raise InputError(f"the labels have the shape {labels.shape}, but {like.name} has {like.shape}.")
    if labels.dtype.kind not in "biu":
        raise InputError(f"labels are whole numbers, not {labels.dtype}; convert them first.")
    low, high = int(labels.min()), int(labels.max())
    for dtype in _LABEL_TYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return _save(Path(path).expanduser(), labels.astype(dtype), like)
    raise InputError(f"the labels run from {low} to {high}, which does not fit in 32 bits; renumber them.")


def save_map(path: _Path, values: NDArray[np.floating[Any]], like: Volume) -> None:
    """Write a map of numbers, such as probabilities or an uncertainty, where `save_labels` writes labels.

    Parameters
    ----------
    path
        File to write, atomically; the suffix is one of `WRITABLE_SUFFIXES`.
    values
        ``(Z, Y, X)`` or ``(C, Z, Y, X)``; written as float32.
    like
        The volume that they belong to.

    Raises
    ------
    InputError
        If the shape is not that of `like`, or the file cannot be written.
    """
    values = np.asarray(values, np.float32)
    if values.ndim not in (3, 4) or values.shape[-3:] != like.shape:
        raise InputError(f"the map has the shape {values.shape}, but {like.name} has {like.shape}.")
    _save(Path(path).expanduser(), values, like)


def check_writable(path: _Path) -> None:
    """Raise `InputError` where `path` has no suffix that can be written, or its folder refuses files.

    Called before long work, so that its result is not lost for a wrong name.
    """
    path = Path(path)
    formats.check_writable(path)
    check_folder(path.absolute().parent)


def same_grid(first: Volume, second: Volume) -> str | None:
    """Return None if two volumes have the same voxels in space, else a sentence that says how they differ."""
    if not (first.grid.has_geometry and second.grid.has_geometry):
        return explain_difference((first.shape, first.affine), (second.shape, first.affine))
    return explain_difference((first.shape, first.affine), (second.shape, second.affine))


def placed_box(volume: Volume, start: ArrayLike, stop: ArrayLike, units: Units = "mm") -> NDArray[np.float64]:
    """Return two opposite outer corners of a box of voxels as other programs give them.

    Parameters
    ----------
    start, stop
        First voxel and the one after the last, ``(Z, Y, X)``.
    units
        ``mm``: patient ``(x, y, z)``, LPS, as in DICOM and ITK; ``voxel``: the file's own ``(i, j, k)``,
        as nibabel and ITK count it, half-open.

    Returns
    -------
    ``(2, 3)``: the corner nearest the low end of each axis and the one opposite.  On an oblique grid the
    box lies askew in mm, and a coordinate of the first corner may exceed that of the second.
    """
    matrix = _border_matrix(volume, units)
    backward = matrix[np.abs(matrix[:3, :3]).argmax(axis=0), range(3)] < 0
    ends = np.array([start, stop], np.float64)
    return np.where(backward, ends[::-1], ends) @ matrix[:3, :3].T + matrix[:3, 3]


def voxel_box(volume: Volume, corners: ArrayLike, units: Units = "mm") -> NDArray[np.int64]:
    """Return the voxels whose centre lies between two opposite corners; undoes `placed_box`.

    Parameters
    ----------
    corners
        ``(2, 3)``: any two opposite corners on the volume's grid, in either order along each axis.
    units
        As in `placed_box`.

    Returns
    -------
    ``(2, 3)``: first voxel and the one after the last, ``(Z, Y, X)``, maybe outside the volume; equal
    along an axis where no centre is inside.
    """
    matrix = np.linalg.inv(_border_matrix(volume, units))
    low, high = np.sort(np.asarray(corners, np.float64) @ matrix[:3, :3].T + matrix[:3, 3], axis=0)
    start, stop = np.ceil(low - 0.501), np.floor(high + 0.501)  # corners in files are rounded
    return np.array([start, np.where(high - low < 0.002, start, stop)], np.int64)


def _border_matrix(volume: Volume, units: Units) -> NDArray[np.float64]:
    """Return ``(4, 4)`` borders between voxels ``(z, y, x)``, counted from 0 -> places in `units`."""
    half = np.array([(1, 0, 0, 0.5), (0, 1, 0, 0.5), (0, 0, 1, 0.5), (0, 0, 0, 1)])
    to_mm: NDArray[np.float64] = REVERSED @ volume.affine @ np.linalg.inv(half)
    return to_mm if units == "mm" else half @ np.linalg.inv(volume.grid.affine) @ to_mm


def _make_volume(data: NDArray[np.float32], grid: SourceGrid, name: str, notes: tuple[str, ...]) -> Volume:
    affine = grid.canonical_affine()
    depth, height, width = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(data, (depth, height, width), affine, grid, name, notes)


def _join_channels(volumes: list[Volume]) -> Volume:
    if not volumes:
        raise InputError("no file was given; give at least one.")
    first = volumes[0]
    for other in volumes[1:]:
        if reason := same_grid(first, other):
            raise InputError(f"{other.name} cannot be a channel of {first.name}: {reason}; resample it.")
    notes = tuple(note for volume in volumes for note in volume.notes)
    data = np.concatenate([volume.data for volume in volumes])
    return Volume(data, first.spacing, first.affine, first.grid, first.name, notes)


def short_name(path: Path) -> str:
    """Return the name of a file without the suffix of its format, or the name of a folder."""
    suffix = formats.known_suffix(path)
    return path.name[: -len(suffix)] if suffix and not path.is_dir() else path.name


def _read_values(
    path: Path, stored: StoredImage, grid: SourceGrid
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return finite ``(C, Z, Y, X)`` and the notes on what was replaced."""
    if stored.data.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers; save their magnitude or phase instead.")
    shape = (grid.shape[grid.axes[0]], grid.shape[grid.axes[1]], grid.shape[grid.axes[2]])
    data = np.empty((len(stored.data), *shape), np.float32)
    target = grid.to_file(data)
    scaled = (stored.slope, stored.intercept) != (1.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 is infinite, and counted below
        for k in range(grid.shape[2]):  # slice by slice, so that scaling needs no second volume
            values = stored.data[..., k]
            target[..., k] = values * np.float64(stored.slope) + stored.intercept if scaled else values
    notes = [note for channel in data if (note := _make_finite(path, channel))]
    return data, tuple(notes)


def _make_finite(path: Path, channel: NDArray[np.float32]) -> str:
    """Replace what is not finite, in place; return a note, empty when nothing was."""
    bad = ~np.isfinite(channel)
    if not bad.any():
        return ""
    if bad.all():
        raise InputError(f"{path} holds no finite value at all; export it again.")
    finite = channel[~bad]
    low, high = finite.min(), finite.max()
    missing = int(np.isnan(channel).sum())
    channel[channel == np.inf] = high
    channel[~np.isfinite(channel)] = low
    return (
        f"{path.name} holds {missing} NaN and {int(bad.sum()) - missing} infinite voxels; they were replaced "
        f"by the smallest finite value, {low:g}, and +infinity by the largest, {high:g}."
    )


def _read_whole_numbers(path: Path, stored: StoredImage) -> NDArray[np.int32]:
    values = stored.data[0]
    if values.dtype.kind not in "biuf":
        raise InputError(f"{path} holds {values.dtype} values; labels are whole numbers.")
    if (stored.slope, stored.intercept) != (1.0, 0.0):
        values = values * np.float64(stored.slope) + stored.intercept
    if values.dtype.kind == "f" and not (
        np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    ):
        raise InputError(f"{path} holds values that are not whole numbers, so it is not a label file.")
    limits = np.iinfo(np.int32)
    if values.min() < limits.min or values.max() > limits.max:
        raise InputError(f"{path} holds labels that do not fit in 32 bits; renumber them.")
    whole: NDArray[np.int32] = values.astype(np.int32)
    return whole


def _save(path: Path, data: NDArray[Any], like: Volume) -> None:
    formats.check_writable(path)
    grid = like.grid
    if formats.is_array_format(path):
        ordered = np.swapaxes(data, -1, -3)
        affine = REVERSED @ like.affine @ REVERSED
    else:
        ordered, affine = grid.to_file(data), grid.affine
    with atomic_path(path) as temporary:
        formats.write_stored(temporary, ordered, affine, grid.nifti_header, grid.has_geometry)
        formats.move_companion(temporary, path)
