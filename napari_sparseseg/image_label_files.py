"""Files of image-level labels: a CSV table that says in which volumes and slices a class occurs.

Its columns are ``volume,class,value,present,axis`` and either ``first_mm,last_mm`` or ``first,last``:

- `volume`: name or path of the image file; left out or empty in a file for one volume.
- `class`, `value`: either may be missing.
- `present`: yes or no (also true, false, present, absent, 1, 0); for a range of slices, in each of them.
- `axis`: axial, coronal or sagittal (or z, y, x): across which the slices lie; empty for the whole volume.
- `first_mm,last_mm`: patient mm in LPS (x to the left, y to posterior, z to superior) along that axis,
  as in DICOM and ITK; the range holds the slices whose middle lies between them.  On an oblique grid, whose
  slices lie askew in mm, they are measured on the line through the middle of the volume.
- `first,last`: slices as the image file counts them, from 0, as nibabel and ITK do; both included.
"""

import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND, ClassTable
from napari_sparseseg.atomic import write_text
from napari_sparseseg.box_classes import match_classes
from napari_sparseseg.box_files import NamedBox
from napari_sparseseg.csv_tables import as_number, read_table, shown
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.volume import Units, Volume, placed_box, short_name, voxel_box

__all__ = [
    "NamedImageLabel",
    "WrittenImageLabel",
    "find_image_labels",
    "load_image_labels",
    "match_label_classes",
    "names_volume",
    "place_image_labels",
    "save_image_labels",
    "to_image_labels",
]

_AXES = {"axial": 0, "coronal": 1, "sagittal": 2, "z": 0, "y": 1, "x": 2}
_AXIS_NAMES = ("axial", "coronal", "sagittal")
_PRESENT = {"yes": True, "1": True, "true": True, "present": True}
_ABSENT = {"no": False, "0": False, "false": False, "absent": False}
_RANGES: Mapping[Units, tuple[str, str]] = {"mm": ("first_mm", "last_mm"), "voxel": ("first", "last")}
_COLUMNS = ("volume", "class", "value", "present", "axis", "first", "last", "first_mm", "last_mm")
_NUMBERS = ("value", "first", "last", "first_mm", "last_mm")
_LARGEST_VALUE = 2**31 - 1
_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class NamedImageLabel:
    """An image-level label and the class that it is of, as a file tells it.

    Attributes
    ----------
    name
        Name of the class; empty where only its value is known.
    value
        Value of the class in painted labels and masks; None where only its name is known.
    present
        Whether it occurs: in a range of slices, in each of them.
    axis, first, last
        Slices across `axis` of the volume in memory, both included; all None for the whole volume.
    volume
        Name or path of the volume; empty for the only one.
    place
        Where it stands in a file, to tell people.
    """

    name: str
    value: int | None
    present: bool
    axis: int | None = None
    first: int | None = None
    last: int | None = None
    volume: str = ""
    place: str = field(default="an image-level label", compare=False)


@dataclass(frozen=True)
class WrittenImageLabel:
    """A row of a file, whose range of slices waits for the volume that it is of.

    Attributes
    ----------
    label
        All but the range; its `axis` is given where there is one.
    ends
        Of the range as written: mm, or first slice and the one after the last as the image file counts
        them; None for the whole volume.
    units
        Of the ends.
    """

    label: NamedImageLabel
    ends: tuple[float, float] | None
    units: Units


def load_image_labels(path: _Path) -> tuple[WrittenImageLabel, ...]:
    """Read the image-level labels of any number of volumes from a CSV table, as the module describes it.

    Returns
    -------
    The rows in the order of the file; `find_image_labels` and `place_image_labels` make labels of a volume
    of them.  A row that has only a value gets the name that other rows of the file give it.

    Raises
    ------
    InputError
        If the file is missing, damaged, incomplete or empty, or holds more than 100,000 rows.
    """
    required = (("class", "value"), ("present",))
    table = read_table(path, _COLUMNS, "image-level labels", required, _NUMBERS)
    rows = [_read_row(place, cells) for place, cells in table]
    told = {row.label.value: row.label.name for row in reversed(rows) if row.label.name}
    return tuple(
        row
        if row.label.name or row.label.value not in told
        else replace(row, label=replace(row.label, name=told[row.label.value]))
        for row in rows
    )


def find_image_labels(
    rows: Sequence[WrittenImageLabel], source: _Path, *, required: bool = True
) -> tuple[WrittenImageLabel, ...]:
    """Return the rows that are of one volume.

    Parameters
    ----------
    rows
        As `load_image_labels` returns them.
    source
        Path or name of the volume: rows without a volume are of it, and those that have its path, the end of
        its path, or its file name with or without suffix.
    required
        Whether it is a mistake if there are none.

    Raises
    ------
    InputError
        If none is of the volume, and `required`.
    """
    found = tuple(row for row in rows if names_volume(row.label.volume, source))
    if required and not found:
        others = sorted({row.label.volume for row in rows})
        names = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise InputError(
            f"there is no image-level label of {source}, only of {names}; write its file name in the column "
            "volume."
        )
    return found


def place_image_labels(rows: Iterable[WrittenImageLabel], volume: Volume) -> list[NamedImageLabel]:
    """Find the slices of a volume that rows mean.

    Parameters
    ----------
    rows
        All of this volume.
    volume
        The volume.

    Raises
    ------
    InputError
        If slices that a row counts are not in the volume, or none of the volume lies in its mm.
    """
    return [_place(row, volume) for row in rows]


def match_label_classes(
    labels: Sequence[NamedImageLabel], known: Mapping[int, str], allowed: range, taken: Collection[int] = ()
) -> tuple[list[int], dict[int, str]]:
    """Find the class of each label among those known, and make a class of what is not known.

    See `box_classes.match_classes`, which has the parameters: a name counts before a value.
    """
    stand_ins = [NamedBox((0, 0, 0), (1, 1, 1), label.name, label.value) for label in labels]
    return match_classes(stand_ins, known, allowed, taken)


def to_image_labels(labels: Sequence[NamedImageLabel], table: ClassTable) -> tuple[ImageLabel, ...]:
    """Return the labels with the classes of a table.

    Raises
    ------
    InputError
        If one is of a class that is not in the table.
    """
    known = {entry.value: entry.name for entry in table.classes[1:]}
    values, _ = match_label_classes(labels, known, range(BACKGROUND + 1, _LARGEST_VALUE))
    row_of = {value: row for row, value in enumerate(known, BACKGROUND + 1)}
    for label, value in zip(labels, values, strict=True):
        if value not in row_of:
            raise InputError(
                f"{label.place} is of the class {label.name or label.value}, which is not among "
                f"{', '.join(known.values())}; correct the name or add the class."
            )
    return tuple(
        ImageLabel(row_of[value], label.present, label.axis, label.first, label.last)
        for label, value in zip(labels, values, strict=True)
    )


def save_image_labels(
    path: _Path, labels: Iterable[NamedImageLabel], volumes: Mapping[str, Volume], units: Units = "mm"
) -> None:
    """Write image-level labels, atomically.

    Parameters
    ----------
    path
        File to write; its suffix is ``.csv``.
    labels
        Labels with a name of the class, its value, or both.
    volumes
        The volumes of those that are of a range of slices, by `NamedImageLabel.volume`.
    units
        ``mm``: patient mm, LPS; ``voxel``: slices as the image file counts them.

    Raises
    ------
    InputError
        If the suffix is another, a label has neither name nor value, or slices that its volume does not
        have, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path} is not a CSV file by its suffix; choose a name that ends in .csv.")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*_COLUMNS[:5], *_RANGES[units]))
    for label in labels:
        _check_class(label.place, label.name, label.value)
        value = "" if label.value is None else int(label.value)
        whole = label.axis is None
        ends = ("", "", "") if whole else _written_range(label, volumes[label.volume], units)
        writer.writerow((label.volume, label.name, value, "yes" if label.present else "no", *ends))
    write_text(path, text.getvalue())


def _written_range(label: NamedImageLabel, volume: Volume, units: Units) -> tuple[str, float, float]:
    """Return the axis and the ends of a label's range as the file has them."""
    axis, first, last = label.axis, label.first, label.last
    if axis not in (0, 1, 2) or first is None or last is None or not 0 <= first <= last < volume.shape[axis]:
        raise InputError(
            f"{label.place} is of slices {first} to {last} across axis {axis}, which {volume.name} of shape "
            f"{volume.shape} does not have; correct the range."
        )
    line, column = _middle_line(volume, axis, units, first, last + 1)
    low, high = sorted(line[:, column].tolist())
    if units == "voxel":
        return _AXIS_NAMES[axis], round(low), round(high) - 1
    low, high = (float(f"{end:.10g}") + 0.0 for end in (low, high))  # + 0.0 turns -0.0 to 0.0
    return _AXIS_NAMES[axis], low, high


def _place(row: WrittenImageLabel, volume: Volume) -> NamedImageLabel:
    """Return the label with its slices in memory; a range in mm that reaches out of the volume is cut off."""
    label, axis = row.label, row.label.axis
    if axis is None or row.ends is None:
        return label
    line, column = _middle_line(volume, axis, row.units, 0, volume.shape[axis])
    low, high = sorted(row.ends)
    if row.units == "voxel":
        count = volume.shape[axis]
        if not 0 <= low <= high < count:
            raise InputError(
                f"{label.place} has slices {low:g} to {high:g}, but {volume.name} has the slices 0 to "
                f"{count - 1} ({_AXIS_NAMES[axis]}); correct the range."
            )
        high += 1
    begin, end = line
    shares = (np.array([low, high]) - begin[column]) / (end - begin)[column]
    corners = begin + shares[:, None] * (end - begin)
    start, stop = (int(border) for border in voxel_box(volume, corners, row.units)[:, axis])
    start, stop = max(start, 0), min(stop, volume.shape[axis])
    if start >= stop:
        near, far = sorted(line[:, column].tolist())
        raise InputError(
            f"{label.place} has the range {low:g} to {high:g} mm, which holds the middle of no slice of "
            f"{volume.name}: its {_AXIS_NAMES[axis]} slices lie from {near:.6g} to {far:.6g} mm; correct it."
        )
    return replace(label, first=start, last=stop - 1)


def _middle_line(
    volume: Volume, axis: int, units: Units, start: float, stop: float
) -> tuple[NDArray[np.float64], int]:
    """Return ``(2, 3)`` ends of the line through the middle of the volume between two borders of slices.

    The second number is the coordinate of its points that tells slices across `axis` apart.
    """
    ends = np.tile(np.array(volume.shape) / 2, (2, 1))
    ends[:, axis] = start, stop
    line = placed_box(volume, ends[0], ends[1], units)
    # An image file may store its axes in any order; those of the patient are x, y, z.
    return line, 2 - axis if units == "mm" else int(np.abs(line[1] - line[0]).argmax())


def names_volume(written: str, source: _Path) -> bool:
    """Return whether a cell of the column volume means the volume of `source`."""
    if written in ("", str(source), short_name(Path(source))):
        return True
    parts = Path(written.replace("\\", "/")).parts
    return parts == Path(source).absolute().parts[-len(parts) :]


def _read_row(place: str, cells: Mapping[str, str]) -> WrittenImageLabel:
    value = as_number(place, cells["value"], "value", 1e15) if cells["value"] else None
    _check_class(place, cells["class"], value)
    present = {**_PRESENT, **_ABSENT}.get(cells["present"].lower())
    if present is None:
        raise InputError(f"{place} has {shown(cells['present'])} as present; write yes or no.")
    axis, ends, units = _read_range(place, cells)
    whole = None if value is None else int(value)
    label = NamedImageLabel(cells["class"], whole, present, axis, volume=cells["volume"], place=place)
    return WrittenImageLabel(label, ends, units)


def _read_range(place: str, cells: Mapping[str, str]) -> tuple[int | None, tuple[float, float] | None, Units]:
    given = [units for units, names in _RANGES.items() if any(cells[name] for name in names)]
    if not given and not cells["axis"]:
        return None, None, "mm"
    if len(given) > 1:
        raise InputError(f"{place} has a range both in slices and in mm; leave one of them out.")
    if not given:
        raise InputError(f"{place} has an axis but no range; give first and last, or leave the axis out.")
    axis = _AXES.get(cells["axis"].lower())
    if axis is None:
        raise InputError(f"{place} has {shown(cells['axis'])} as axis; write axial, coronal or sagittal.")
    first, last = (as_number(place, cells[name], name) for name in _RANGES[given[0]])
    if given == ["voxel"] and (first != int(first) or last != int(last)):
        raise InputError(f"{place} has slices {first:g} to {last:g}; give whole numbers.")
    return axis, (first, last), given[0]


def _check_class(place: str, name: str, value: Any) -> None:
    if value is None:
        if not name:
            raise InputError(f"{place} has neither a class nor a value; say what occurs or does not.")
    elif not 1 <= value <= _LARGEST_VALUE or value != int(value):
        raise InputError(f"{place} has the value {value:g}; give a whole number from 1 on.")
