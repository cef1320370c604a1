"""Files of points: a CSV table of clicks, each inside an object (Bearman et al. 2016) or in the background.

Its columns are ``volume,class,value,x,y,z,units``:

- `volume`: name or path of the image file; left out or empty in a file for one volume.
- `class`, `value`: either may be missing.  The class `background`, and the value 0, mean background.
- `x,y,z`: patient mm in LPS (x to the left, y to posterior, z to superior), as in DICOM and ITK; where
  `units` is ``voxel``, the image file's own index ``i, j, k`` from 0, as nibabel and ITK count it.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from napari_sparseseg.box_files import NamedBox, as_units
from napari_sparseseg.csv_tables import as_number, read_table
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_label_files import names_volume
from napari_sparseseg.volume import Units, Volume, voxel_box

__all__ = ["WrittenPoint", "find_points", "find_voxel", "load_points", "place_points"]

_PLACE = ("x", "y", "z")
_LARGEST_VALUE = 2**31 - 1
_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class WrittenPoint:
    """A row of a file, whose place waits for the volume that it is of.

    Attributes
    ----------
    name
        Name of the class; empty where only its value is known.
    value
        Value of the class in painted labels and masks; None where only its name is known.
    xyz
        The place as written.
    units
        Of the place.
    volume
        Name or path of the volume; empty for the only one.
    place
        Where it stands in the file, to tell people.
    """

    name: str
    value: int | None
    xyz: tuple[float, float, float]
    units: Units
    volume: str
    place: str


def load_points(path: _Path) -> tuple[WrittenPoint, ...]:
    """Read the points of any number of volumes from a CSV table, as the module describes it.

    Raises
    ------
    InputError
        If the file is missing, damaged, incomplete or empty, or holds more than 100,000 rows.
    """
    columns = ("volume", "class", "value", *_PLACE, "units", "unit")
    required = (("class", "value"), *((name,) for name in _PLACE))
    rows = read_table(path, columns, "points", required, ("value", *_PLACE))
    points = []
    for place, cells in rows:
        x, y, z = (as_number(place, cells[name], name) for name in _PLACE)
        name, value = cells["class"], None
        if cells["value"]:
            number = as_number(place, cells["value"], "value", _LARGEST_VALUE, "a whole number from 0 on")
            if number < 0 or number != int(number):
                raise InputError(f"{place} has the value {number:g}; give a whole number from 0 on.")
            value = int(number)
        elif not name:
            raise InputError(f"{place} has neither a class nor a value; say what is at the point.")
        units = as_units(cells["units"] or cells["unit"], place)
        points.append(WrittenPoint(name, value, (x, y, z), units, cells["volume"], place))
    return tuple(points)


def find_points(points: Sequence[WrittenPoint], source: _Path) -> tuple[WrittenPoint, ...]:
    """Return the points that are of one volume, by its path, the end of it, or its file name.

    Raises
    ------
    InputError
        If none is.
    """
    found = tuple(point for point in points if names_volume(point.volume, source))
    if not found:
        others = sorted({point.volume for point in points})
        names = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise InputError(
            f"there is no point of {source}, only of {names}; write its file name in the column volume."
        )
    return found


def place_points(points: Iterable[WrittenPoint], volume: Volume) -> list[NamedBox]:
    """Find the voxels that points lie in.

    Parameters
    ----------
    points
        All of this volume.
    volume
        The volume.

    Returns
    -------
    Each as a box of one voxel, the form in which classes are matched.

    Raises
    ------
    InputError
        If one lies outside the volume.
    """
    placed = []
    for point in points:
        voxel = find_voxel(point.xyz, point.units, volume)
        if voxel is None:
            where = ", ".join(f"{number:.6g}" for number in point.xyz)
            raise InputError(
                f"{point.place} has a point ({where}) {'mm in LPS' if point.units == 'mm' else 'voxel'}, "
                f"which lies outside {volume.name}; correct it, its units or its volume."
            )
        z, y, x = voxel
        placed.append(NamedBox(voxel, (z + 1, y + 1, x + 1), point.name, point.value))
    return placed


def find_voxel(xyz: ArrayLike, units: Units, volume: Volume) -> tuple[int, int, int] | None:
    """Return the voxel ``(z, y, x)`` that a place lies in; None outside the volume.

    Parameters
    ----------
    xyz
        Patient mm, LPS, as in DICOM and ITK; or the file's own ``i, j, k`` from 0, as nibabel and ITK count.
    """
    numbers = np.asarray(xyz, np.float64)
    if not (np.abs(numbers) <= 1e9).all():  # also where one is not a number (NaN)
        return None
    if units == "voxel":
        index = np.rint(numbers)
        place = voxel_box(volume, [index, index + 1], "voxel")[0]
    else:
        x, y, z = numbers
        place = np.rint(np.linalg.solve(volume.affine, [z, y, x, 1])[:3]).astype(np.int64)
    if not ((place >= 0).all() and (place < volume.shape).all()):
        return None
    depth, height, width = (int(number) for number in place)
    return depth, height, width
