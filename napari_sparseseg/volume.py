"""Volumes: reading files into one orientation, and writing results back on the grid they came from.

In memory every volume is ``(C, Z, Y, X)`` in LPS order: z grows to superior, y to posterior and x to
the patient's left.  Files are turned to it by swapping and flipping axes only, never by resampling,
so that labels go back bit-exactly.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg import formats
from napari_sparseseg.atomic import atomic_path, check_folder
from napari_sparseseg.errors import InputError
from napari_sparseseg.formats import (
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    check_segmentation_writer,
    is_dicom,
    is_readable,
    list_series,
    series_name,
    short_name,
    source_files,
)
from napari_sparseseg.formats.grid import (
    REVERSED,
    SourceGrid,
    border_matrix,
    check_affine,
    explain_difference,
    make_grid,
)
from napari_sparseseg.formats.stored import StoredImage
from napari_sparseseg.formats.values import check_labels, narrow_labels, read_values, read_whole_numbers

if TYPE_CHECKING:
    from napari_sparseseg.annotation import ClassTable

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "SourceGrid",
    "Units",
    "Volume",
    "check_segmentation_writer",
    "check_writable",
    "is_dicom",
    "is_readable",
    "list_series",
    "load_labels",
    "load_volume",
    "placed_box",
    "same_grid",
    "save_labels",
    "save_map",
    "save_segmentation",
    "series_name",
    "short_name",
    "source_files",
    "volume_from_array",
    "voxel_box",
]

Units = Literal["mm", "voxel"]


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
    data, value_notes = read_values(path, stored, grid)
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
    data, notes = read_values(Path(name), stored, grid)
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
    return np.ascontiguousarray(grid.to_canonical(read_whole_numbers(path, stored)))


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
    labels = check_labels(labels, like.shape, like.name)
    _save(Path(path).expanduser(), narrow_labels(labels), like)


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


def save_segmentation(
    path: _Path,
    labels: NDArray[np.integer[Any]],
    table: "ClassTable",
    like: Volume,
    *,
    model: str = "",
    identity: str = "",
) -> tuple[str, ...]:
    """Write labels as a DICOM segmentation (SEG) of the series that `like` was read from.

    Patient, study, place and date are those of the series; equal arguments give equal bytes.

    Parameters
    ----------
    path
        File to write, atomically; ``.dcm``.
    labels
        ``(Z, Y, X)`` values as a mask file has them: 0 is background, others are `LabelClass.value`.
    table
        The classes; each becomes a segment, with its name and color.
    like
        The volume that they belong to.
    model
        Name and version of what made the labels, for people.
    identity
        What else sets it apart from others of the series, as a hash of the network and its settings.

    Returns
    -------
    Sentences on what the series lacks and had to be made up.

    Raises
    ------
    InputError
        If `like` is not DICOM, its files are gone or cannot be referred to, a value is not in the table,
        highdicom is not installed, or the file cannot be written.
    """
    path = Path(path).expanduser()
    labels = check_labels(labels, like.shape, like.name)
    formats.check_segmentation(path, like.grid, like.name)
    rows = [(each.value, each.name, each.color) for each in table.classes[1:]]
    with atomic_path(path) as temporary:
        return formats.write_segmentation(
            temporary, like.grid.to_file(labels), like.grid, rows, model, identity
        )


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
    matrix = border_matrix(volume.affine, None if units == "mm" else volume.grid.affine)
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
    matrix = np.linalg.inv(border_matrix(volume.affine, None if units == "mm" else volume.grid.affine))
    low, high = np.sort(np.asarray(corners, np.float64) @ matrix[:3, :3].T + matrix[:3, 3], axis=0)
    start, stop = np.ceil(low - 0.501), np.floor(high + 0.501)  # corners in files are rounded
    return np.array([start, np.where(high - low < 0.002, start, stop)], np.int64)


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
