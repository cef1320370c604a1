"""Files of bounding boxes: CSV and JSON tables, in patient mm or voxels, and 3D Slicer's regions of interest.

A CSV file has the columns ``class,value,x_min,y_min,z_min,x_max,y_max,z_max,units``.  Without `units` the
corners are patient mm in LPS (x to the left, y to posterior, z to superior), as in DICOM and ITK;
``voxel`` means the image file's own index ``i, j, k``, as nibabel and ITK count it, from the first
voxel to the one after the last.  Either `class` or `value` may be missing.  A JSON file holds the same::

    {"units": "mm", "boxes": [{"class": "liver", "value": 5, "min": [x, y, z], "max": [x, y, z]}]}

On an oblique grid, whose boxes lie askew in mm, the two corners are opposite corners of a box along the
axes of that grid.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.atomic import write_text
from napari_sparseseg.box_geometry import Box, Triple
from napari_sparseseg.csv_tables import as_number, read_table, read_text, shown
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Units, Volume, placed_box, voxel_box

__all__ = ["BOX_SUFFIXES", "NamedBox", "as_units", "load_boxes", "save_boxes"]

BOX_SUFFIXES = (".csv", ".json")

_LOWEST = ("x_min", "y_min", "z_min")
_HIGHEST = ("x_max", "y_max", "z_max")
_COLUMNS = ("class", "value", *_LOWEST, *_HIGHEST, "units")
_FARTHEST = 1e9  # mm or voxels; what lies farther away is a mistake, and may overflow
_LARGEST_VALUE = 2**31 - 1
_WHOLE = "a whole number from 1 on"
_ALIGNED_COSINE = float(np.cos(np.radians(1)))
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class NamedBox:
    """A box and the class of what is in it, as a file tells it.

    Attributes
    ----------
    start, stop
        First voxel and the one after the last, ``(Z, Y, X)``.
    name
        Name of the class; empty where only its value is known.
    value
        Value of the class in painted labels and masks; None where only its name is known.
    """

    start: Triple
    stop: Triple
    name: str
    value: int | None = None


@dataclass(frozen=True)
class _Entry:
    """One box of a file: where it stands in it, and what it says."""

    place: str
    name: str
    value: int | None
    corners: NDArray[np.float64]
    units: Units


def load_boxes(path: _Path, volume: Volume) -> list[NamedBox]:
    """Read the boxes of a volume.

    Parameters
    ----------
    path
        A CSV or JSON file as the module describes it, or a file of regions of interest of 3D Slicer
        (``.mrk.json``) that are turned by at most 1° from the grid of the volume.
    volume
        The volume that they belong to.

    Returns
    -------
    The boxes in the order of the file.  Corners are put in order, and rounded to the nearest border
    between voxels; what reaches out of the volume is cut off.

    Raises
    ------
    InputError
        If the file is missing, damaged, incomplete or empty, or a box holds no voxel of the volume.
    """
    path = Path(path).expanduser()
    _check_suffix(path)
    entries = _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path, volume)
    boxes = [_to_voxels(entry, volume) for entry in entries]
    if not boxes:
        raise InputError(f"{path} holds no boxes; add at least one.")
    return boxes


def save_boxes(path: _Path, boxes: Iterable[NamedBox], volume: Volume, units: Units = "mm") -> None:
    """Write the boxes of a volume, atomically.

    Parameters
    ----------
    path
        File to write; its suffix, ``.csv`` or ``.json``, chooses the format.
    boxes
        Boxes with a name, a value, or both.
    volume
        The volume that they belong to.
    units
        ``mm``: patient mm, LPS; ``voxel``: index of the image file as it is stored.

    Raises
    ------
    InputError
        If the suffix or the units are others, a box has neither name nor value, or the file cannot be
        written.
    """
    path = Path(path).expanduser()
    _check_suffix(path)
    units = as_units(units, f"{path}")
    rows = []
    for number, box in enumerate(boxes, 1):
        _check_class(f"box {number}", box.name, box.value)
        low, high = placed_box(volume, box.start, box.stop, units)
        value = None if box.value is None else int(box.value)
        rows.append((box.name, value, _plain(low, units), _plain(high, units)))
    write_text(path, _as_csv(rows, units) if path.suffix.lower() == ".csv" else _as_json(rows, units))


_Row = tuple[str, int | None, list[float], list[float]]


def _as_csv(rows: Sequence[_Row], units: Units) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(
        (name, "" if value is None else value, *low, *high, units) for name, value, low, high in rows
    )
    return text.getvalue()


def _as_json(rows: Sequence[_Row], units: Units) -> str:
    lines = []
    for name, value, low, high in rows:
        entry: dict[str, Any] = {"class": name} if name else {}
        entry |= {} if value is None else {"value": value}
        lines.append(json.dumps(entry | {"min": low, "max": high}, ensure_ascii=False))
    boxes = ",\n".join(f"    {line}" for line in lines)
    return f'{{\n  "units": "{units}",\n  "boxes": [\n{boxes}\n  ]\n}}\n'


def _plain(corner: NDArray[np.float64], units: Units) -> list[float]:
    """Return numbers that are short to read and yet far more precise than a voxel."""
    if units == "voxel":
        return [round(number) for number in corner.tolist()]
    return [float(f"{number:.10g}") + 0.0 for number in corner.tolist()]  # + 0.0 turns -0.0 to 0.0


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in BOX_SUFFIXES:
        raise InputError(
            f"{path} is not a file of boxes by its suffix; choose one that ends in .csv or .json."
        )


def _read_csv(path: Path) -> Iterator[_Entry]:
    numbers = (*_LOWEST, *_HIGHEST)
    required = (("class", "value"), *((name,) for name in numbers))
    for place, cells in read_table(path, (*_COLUMNS, "unit"), "boxes", required, ("value", *numbers)):
        corners = [
            np.array([as_number(place, cells[name], name, _FARTHEST) for name in names])
            for names in (_LOWEST, _HIGHEST)
        ]
        value = None
        if cells["value"]:
            value = as_number(place, cells["value"], "value", _LARGEST_VALUE, _WHOLE)
        yield _make_entry(place, cells["class"], value, corners, cells["units"] or cells["unit"])


def _read_json(path: Path, volume: Volume) -> Iterator[_Entry]:
    text = read_text(path, "boxes")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); export it again.") from error
    if isinstance(content, dict) and isinstance(content.get("markups"), list):
        yield from _read_slicer(path, content["markups"], volume)
        return
    if not isinstance(content, dict) or not isinstance(content.get("boxes"), list):
        raise InputError(f'{path} holds no list "boxes"; write {{"units": "mm", "boxes": [...]}}.')
    for number, entry in enumerate(content["boxes"], 1):
        place = f"box {number} of {path}"
        if not isinstance(entry, dict):
            raise InputError(f'{place} is {shown(entry)}; write {{"class": ..., "min": ..., "max": ...}}.')
        corners = [_as_corner(place, entry.get(key), (key,) * 3) for key in ("min", "max")]
        units = next(
            (part[key] for part in (entry, content) for key in ("units", "unit") if key in part), None
        )
        yield _make_entry(place, entry.get("class"), entry.get("value"), corners, units)


def _read_slicer(path: Path, markups: list[Any], volume: Volume) -> Iterator[_Entry]:
    """Yield the boxes of a markups file of 3D Slicer, which names its one region by the file's name."""
    stem = path.name[: -len(path.suffix)].removesuffix(".mrk")
    regions = [m for m in markups if isinstance(m, dict) and m.get("type") == "ROI"]
    if not regions:
        raise InputError(f"{path} holds markups but no region of interest (ROI); draw one in 3D Slicer.")
    for number, region in enumerate(regions, 1):
        place = f"region {number} of {path}"
        name = region.get("name") or stem
        yield _make_entry(place, name, None, _slicer_corners(place, region, volume), "mm")


def _slicer_corners(place: str, region: Mapping[str, Any], volume: Volume) -> list[NDArray[np.float64]]:
    """Return two opposite corners, LPS mm, along the axes of the volume."""
    system = region.get("coordinateSystem", "LPS")
    unit = region.get("coordinateUnits", "mm")
    kind = region.get("roiType", "Box")
    if system not in ("LPS", "RAS") or (unit[:1] if isinstance(unit, list) else [unit]) != ["mm"]:
        raise InputError(f"{place} is in {shown(system)} and {shown(unit)}; save it in LPS or RAS and in mm.")
    if kind not in ("Box", "BoundingBox"):
        raise InputError(f"{place} has the shape {shown(kind)}; draw a box.")
    center, size = (_as_corner(place, region.get(key), (key,) * 3) for key in ("center", "size"))
    turn = region.get("orientation", [1, 0, 0, 0, 1, 0, 0, 0, 1])
    if not isinstance(turn, list) or len(turn) != 9:
        raise InputError(f"{place} has no orientation of nine numbers; save it again.")
    axes = np.array([_as_corner(place, turn[n : n + 3], ("orientation",) * 3) for n in (0, 3, 6)])  # columns
    if system == "RAS":
        center, axes = center * _RAS_TO_LPS, axes * _RAS_TO_LPS[:, None]
    sides = np.concatenate([np.diff(placed_box(volume, (0, 0, 0), step), axis=0) for step in np.eye(3)])
    sides /= np.linalg.norm(sides, axis=1, keepdims=True)
    cosines = np.abs(sides @ axes)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 0.01 or cosines.max(axis=1).min() < _ALIGNED_COSINE:
        raise InputError(
            f"{place} is turned against the grid of {volume.name} by more than 1°; draw it again along the "
            "axes of the image."
        )
    reach = (size[cosines.argmax(axis=1)] / 2) @ sides
    return [center - reach, center + reach]


def _as_corner(place: str, numbers: Any, names: Sequence[str]) -> NDArray[np.float64]:
    """Return three numbers, refusing anything else."""
    if not isinstance(numbers, list) or len(numbers) != 3:
        raise InputError(f"{place} has no {names[0]} of three numbers; give x, y, z.")
    for name, number in zip(names, numbers, strict=True):
        plain = isinstance(number, int | float) and not isinstance(number, bool)
        if not plain or not abs(number) <= _FARTHEST:  # also where it is not a number (NaN)
            raise InputError(f"{place} has {shown(number)} as {name}; give a finite number.")
    return np.array(numbers, np.float64)


def _make_entry(place: str, name: Any, value: Any, corners: list[NDArray[np.float64]], units: Any) -> _Entry:
    name = "" if name is None else name
    if not isinstance(name, str):
        raise InputError(f"{place} has the class {shown(name)}, which is no text; give its name.")
    name = name.strip()
    _check_class(place, name, value)
    whole = None if value is None else int(value)
    return _Entry(place, name, whole, np.array(corners), as_units(units, place))


def _check_class(place: str, name: str, value: Any) -> None:
    if value is None:
        if not name:
            raise InputError(f"{place} has neither a class nor a value; say what is in the box.")
        return
    plain = isinstance(value, int | float | np.integer) and not isinstance(value, bool)
    if not plain or not 1 <= value <= _LARGEST_VALUE or value != int(value):
        raise InputError(f"{place} has the value {shown(value)}; give {_WHOLE}.")


def as_units(units: Any, place: str) -> Units:
    """Return what a file gives as units, mm for nothing; refuse what is neither mm nor voxel."""
    name = units.strip().lower() if isinstance(units, str) else units
    if name in ("", None):
        return "mm"
    name = "voxel" if name == "voxels" else name
    if name not in get_args(Units):
        raise InputError(f"{place} has the units {shown(units)}; give mm or voxel.")
    return cast(Units, name)


def _to_voxels(entry: _Entry, volume: Volume) -> NamedBox:
    """Return the part of a box that lies in the volume, refusing one that holds no voxel of it."""
    box = _box_between(entry.corners, entry.units, volume)
    span = _span(entry.corners, entry.units)
    if not box.volume:
        raise InputError(
            f"{entry.place} has a box {span}, which is of zero size or so thin that it holds the centre of "
            "no voxel; make it larger."
        )
    box = box.clipped(volume.shape)
    if not box.volume:
        hint = "check that they belong together"
        if entry.units == "mm":
            mirrored = _box_between(entry.corners * _RAS_TO_LPS, "mm", volume)
            if mirrored.clipped(volume.shape).volume:
                hint = "if its x and y are in RAS, turn their signs"
        whole = _span(placed_box(volume, (0, 0, 0), volume.shape, entry.units), entry.units)
        raise InputError(
            f"{entry.place} has a box {span}, which lies outside {volume.name}, whose voxels lie {whole}; "
            f"{hint}."
        )
    return NamedBox(box.start, box.stop, entry.name, entry.value)


def _box_between(corners: NDArray[np.float64], units: Units, volume: Volume) -> Box:
    (z0, y0, x0), (z1, y1, x1) = voxel_box(volume, corners, units).tolist()
    return Box((z0, y0, x0), (z1, y1, x1), 0)


def _span(corners: NDArray[np.float64], units: Units) -> str:
    low, high = (", ".join(f"{number:.6g}" for number in corner) for corner in corners.tolist())
    return f"from ({low}) to ({high}) {'mm in LPS' if units == 'mm' else 'in voxels of the file'}"
