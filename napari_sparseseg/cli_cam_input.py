"""What ``sparseseg cam`` is told: which volumes, labels, classes and places, and where its results go."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_sparseseg.cli_input import name_volume, read_names, refuse_overwriting
from napari_sparseseg.cli_weak import find_rows
from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.image_labels import ImageLabel
    from napari_sparseseg.volume import Volume

_LONGEST = 60  # characters of a class's name in a file's
_LARGEST_CLASS = 2**31 - 1


def check_options(
    *,
    learns: bool,
    image_labels: Path | None,
    both: bool,
    keeps: bool,
    places: bool,
    volumes: int,
    partial_seeds: bool,
    thresholds: tuple[float, float],
) -> None:
    """Raise `InputError` where the options do not go together."""
    if both:
        raise InputError("--classifier and --model were both given; ask one of the two.")
    if learns and image_labels is None:
        raise InputError(
            "there is nothing to learn from; give --image-labels, or the network to ask by --classifier or "
            "--model."
        )
    if keeps and not learns:
        raise InputError(
            "--save-classifier keeps what is trained, and --classifier and --model train none; leave it out."
        )
    if places and volumes > 1:
        raise InputError("--at is a place in one volume; give one volume.")
    if partial_seeds:
        raise InputError(
            "seeds of some classes would make background of the others; leave --class out, or say by "
            "--image-labels where the others may be."
        )
    lower, upper = thresholds
    if upper <= lower:
        raise InputError(
            f"--object-threshold {upper:g} must be larger than --background-threshold {lower:g}; voxels in "
            "between are left unlabelled."
        )


def read_tags(
    path: Path | None,
    images: Sequence[str],
    volumes: "Sequence[Volume]",
    names: Path | None,
    table: "ClassTable | None",
) -> "tuple[list[tuple[ImageLabel, ...]], ClassTable]":
    """Return what a file says of each volume, and the class table: that of a network, or else the file's.

    Parameters
    ----------
    path
        CSV; None only where there is a table.
    images
        The volumes as they were named on the command line.

    Raises
    ------
    InputError
        If the file says nothing of any of the volumes, or does not say which of them a row is of.
    """
    from napari_sparseseg.annotation import BACKGROUND, ClassTable
    from napari_sparseseg.image_label_files import (
        match_label_classes,
        place_image_labels,
        to_image_labels,
    )

    if path is None:
        assert table is not None
        return [() for _ in volumes], table
    found = find_rows(path, images)
    placed = [place_image_labels(some, volume) for some, volume in zip(found, volumes, strict=True)]
    if table is None:
        # 1 means background in files of sparse labels, so that a class has it only where the file says so.
        allowed, taken = range(BACKGROUND, _LARGEST_CLASS + 1), (BACKGROUND,)
        every = [label for some in placed for label in some]
        values, all_names = match_label_classes(every, read_names(names), allowed, taken)
        table = ClassTable.from_values(sorted(set(values)), all_names)
    return [to_image_labels(some, table) for some in placed], table


def choose_classes(asked: Sequence[str], table: "ClassTable") -> dict[int, str]:
    """Return names by label of the classes asked for, by name or value; of all where none is.

    Raises
    ------
    InputError
        If one of them is not in the table.
    """
    known = dict(enumerate(table.names[1:], start=2))
    if not asked:
        return known
    rows = {name.casefold(): label for label, name in reversed(known.items())}
    rows = {str(value): label for label, value in enumerate(table.mask_values[1:], start=2)} | rows
    chosen = {}
    for text in asked:
        label = rows.get(text.strip().casefold())
        if label is None:
            raise InputError(f"--class {text} is none of the classes; choose of {', '.join(known.values())}.")
        chosen[label] = known[label]
    return chosen


@dataclass(frozen=True)
class Targets:
    """Where the results of one volume go: a map for each class's label, and the seeds or None."""

    maps: Mapping[int, Path]
    seeds: Path | None


def name_targets(
    images: Sequence[str],
    table: "ClassTable",
    chosen: Mapping[int, str],
    out: Path,
    inputs: Sequence[str | Path],
    *,
    seeds: bool,
) -> list[Targets]:
    """Name the files to write: ``VOLUME_CLASS_map.nii.gz`` for each class, ``VOLUME_seeds.nii.gz``.

    Characters of a class's name that are no letter, digit, dot or dash become ``_``; where that gives two
    classes one name, their values are appended.

    Raises
    ------
    InputError
        If files of two volumes would have one name, or a file would replace one of `inputs`.
    """
    plain = {label: re.sub(r"[^\w.-]+", "_", name).strip("._")[:_LONGEST] for label, name in chosen.items()}
    folded = [name.casefold() for name in plain.values()]
    for label, name in plain.items():
        if not name or folded.count(name.casefold()) > 1:
            plain[label] = f"{name or 'class'}_{table.mask_values[label - 1]}"
    taken: set[str] = set()
    targets = []
    for image in images:
        stem = name_volume(image)
        files = Targets(
            {label: out / f"{stem}_{name}_map.nii.gz" for label, name in plain.items()},
            out / f"{stem}_seeds.nii.gz" if seeds else None,
        )
        for target in filter(None, (*files.maps.values(), files.seeds)):
            if target.name.casefold() in taken:
                raise InputError(
                    f"{image} would overwrite {target} of another volume of the same name; rename one."
                )
            taken.add(target.name.casefold())
            refuse_overwriting(target, inputs)
        targets.append(files)
    return targets


def write_names(table: "ClassTable") -> str:
    """Return the classes' names by value as JSON, as `read_names` reads them."""
    pairs = zip(table.mask_values[1:], table.names[1:], strict=True)
    return json.dumps({str(value): name for value, name in pairs}, ensure_ascii=False, indent=1) + "\n"


def find_voxel(text: str, units: Literal["mm", "voxel"], volume: "Volume") -> tuple[int, int, int]:
    """Return the voxel ``(z, y, x)`` of a place ``X,Y,Z``.

    Parameters
    ----------
    text
        Patient mm, LPS, as in DICOM and ITK; or the file's own ``i,j,k`` from 0, as nibabel and ITK count.

    Raises
    ------
    InputError
        If it is not three numbers, or lies outside the volume.
    """
    from napari_sparseseg import point_files

    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--at {text} is not three numbers; give X,Y,Z, e.g. 12.5,-40,103.") from None
    voxel = point_files.find_voxel((x, y, z), units, volume)
    if voxel is None:
        raise InputError(
            f"--at {text} lies outside {volume.name}; give a place in it, in the units of --units ({units})."
        )
    return voxel
