"""Weak labels on the command line: seeds, points, image-level labels; and an encoder to start from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_sparseseg.cli_input import read_annotations, read_volume, split_channels
from napari_sparseseg.cli_points import POINT_MM, grow_balls, match_points, read_points, read_values
from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.cases import Case
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
    from napari_sparseseg.image_label_files import WrittenImageLabel
    from napari_sparseseg.image_labels import ImageLabel
    from napari_sparseseg.volume import Volume

ImageLabelsOption = Annotated[
    Path | None,
    typer.Option(
        help="CSV: in which volumes, and in which slices of them, each class occurs; see --expansion."
    ),
]
OutsideOption = Annotated[
    Literal["absent", "unknown"],
    typer.Option(help="What slices outside all ranges of a class in --image-labels mean."),
]
EncoderOption = Annotated[
    Path | None,
    typer.Option(
        help="Start from the encoder in this folder, which sparseseg pretrain wrote, or from that of a "
        "classifier, which sparseseg cam wrote."
    ),
]

_LARGEST_CLASS = 2**31 - 1


def find_rows(path: Path, images: Sequence[str]) -> "list[tuple[WrittenImageLabel, ...]]":
    """Return what a CSV file of image-level labels has of each volume; some may be without, but not all.

    Parameters
    ----------
    images
        The volumes as they were named on the command line.

    Raises
    ------
    InputError
        If the file says nothing of any of the volumes, or does not say which of them a row is of.
    """
    from napari_sparseseg.image_label_files import find_image_labels, load_image_labels

    rows = load_image_labels(path)
    nameless = next((row.label.place for row in rows if not row.label.volume), None)
    if nameless and len(images) > 1:
        raise InputError(
            f"{nameless} names no volume, and there are {len(images)}; fill in the column volume."
        )
    sources = [split_channels(image)[0] for image in images]
    known = any(find_image_labels(rows, source, required=False) for source in sources)
    return [find_image_labels(rows, source, required=not known) for source in sources]


def read_image_labels(
    path: Path,
    images: Sequence[str],
    volumes: "Sequence[Volume]",
    table: "ClassTable",
    display: "ProgressDisplay",
) -> "list[tuple[ImageLabel, ...]]":
    """Return what a CSV file says of each volume; rows of a class that nothing is labelled as are left out.

    Parameters
    ----------
    images
        The volumes as they were named on the command line.

    Raises
    ------
    InputError
        If nothing is left, or as `find_rows` does.
    """
    from napari_sparseseg.image_label_files import (
        match_label_classes,
        place_image_labels,
        to_image_labels,
    )

    classes = {entry.value: entry.name for entry in table.classes[1:]}
    # A class that only its value names may have any name in the file, if that gives its value too.
    named = {value: name for value, name in classes.items() if name != f"class {value}"}
    labels, unknown = [], set()
    for rows, volume in zip(find_rows(path, images), volumes, strict=True):
        placed = place_image_labels(rows, volume)
        values, names = match_label_classes(placed, named, range(1, _LARGEST_CLASS), classes)
        unknown |= {names[value] for value in values if value not in classes}
        used = [
            replace(label, name=classes[value], value=value)
            for label, value in zip(placed, values, strict=True)
            if value in classes
        ]
        labels.append(to_image_labels(used, table))
    if not any(labels):
        raise InputError(
            f"{path} is of {', '.join(sorted(unknown))}, and the labels are of {', '.join(table.names[1:])}; "
            "give the names of their values by --names."
        )
    if unknown:
        display.say(
            f"Nothing is labelled as {', '.join(sorted(unknown))}; what {path} says of it is left out."
        )
    return labels


def read_encoder(folder: Path | None) -> "EncoderCheckpoint | None":
    """Read the encoder to start from, if one is given."""
    if folder is None:
        return None
    from napari_sparseseg.encoder_checkpoint import load_encoder

    written = [name for name in ("encoder", "classifier", "model") if (folder / f"{name}.json").is_file()]
    if written == ["model"]:
        raise InputError(
            f"{folder} holds a segmentation network; give a folder that sparseseg pretrain or sparseseg cam "
            "--save-classifier wrote."
        )
    if not written:
        raise InputError(f"{folder} holds no encoder; give a folder that sparseseg pretrain wrote.")
    return load_encoder(folder)


def read_cases(
    strokes: Sequence[tuple[str, Path]],
    seeds: Sequence[tuple[str, Path]],
    points: Sequence[tuple[str, Path]],
    display: "ProgressDisplay",
    *,
    point_mm: float = POINT_MM,
    unlabelled: int | None = None,
    names: Path | None = None,
    frame: int | None = None,
    spacing: str | None = None,
    table: "ClassTable | None" = None,
) -> "tuple[list[str], list[Volume], list[Case], ClassTable]":
    """Read the volumes to train on, with their labels.

    Parameters
    ----------
    strokes, seeds, points
        Volumes as they were named on the command line, each with its file; seeds and points of a volume
        without strokes are a case of their own.
    point_mm
        Radius of the ball that a point becomes, mm.
    unlabelled, names, table
        As `read_annotations` takes them.
    frame, spacing
        As `read_volume` takes them.

    Returns
    -------
    For each case the volume's name on the command line, the volume, and the case; and the classes.
    """
    from napari_sparseseg.cases import Case, join_seeds

    for option, given in (("--seeds", seeds), ("--points", points)):
        if len(dict(given)) < len(given):
            raise InputError(f"{option} names a volume twice; give one file for each.")
    alone = [image for image in dict([*seeds, *points]) if image not in dict(strokes)]
    images = [*(image for image, _ in strokes), *alone]
    volumes = [read_volume(image, frame, spacing, display) for image in images]
    by_image = dict(zip(images, volumes, strict=True))
    files = [path for _, path in (*strokes, *seeds)]
    grids = [*volumes[: len(strokes)], *(by_image[image] for image, _ in seeds)]
    balls: dict[str, NDArray[np.uint8]] = {}
    if points:
        placed = {image: read_points(path, image, by_image[image]) for image, path in points}
        painted = () if table else read_values(files, grids, unlabelled)
        table, values = match_points(placed, painted, unlabelled, names, table, display)
        balls = {
            image: grow_balls(placed[image], values[image], by_image[image], point_mm) for image in placed
        }
    annotations, table = read_annotations(files, grids, unlabelled, names, table)
    own = [*annotations[: len(strokes)], *(None for _ in alone)]
    seeded = dict(zip(dict(seeds), annotations[len(strokes) :], strict=True))
    cases = []
    for image, volume, annotation in zip(images, volumes, own, strict=True):
        joined, sources = join_seeds(annotation, seeded.get(image), balls.get(image))
        cases.append(Case(volume.data, volume.spacing, joined, name=volume.name, sources=sources))
    return images, volumes, cases, table
