"""Points on the command line: clicks in a file that become small labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sparseseg.cli_input import read_names, split_channels
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import SeedConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.box_files import NamedBox
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.volume import Volume

_RADIUS = SeedConfig.__dataclass_fields__["point_mm"]
POINT_MM = SeedConfig().point_mm
PointsOption = Annotated[
    Path | None, typer.Option(help="CSV of places and the class at each; they win over --seeds.")
]
CasePointsOption = Annotated[
    list[str] | None,
    typer.Option(help="IMAGE=POINTS: a volume and a CSV of places and the class at each; repeat it."),
]
PointMmOption = Annotated[
    float,
    typer.Option(
        min=_RADIUS.metadata["minimum"], max=_RADIUS.metadata["maximum"], help=_RADIUS.metadata["help"]
    ),
]

_LARGEST_CLASS = 2**31 - 1


def read_points(path: Path, image: str, volume: "Volume") -> "list[NamedBox]":
    """Read the points of a volume, each as a box of one voxel; `image` is its name on the command line."""
    from napari_sparseseg.point_files import find_points, load_points, place_points

    return place_points(find_points(load_points(path), split_channels(image)[0]), volume)


def read_values(
    files: Sequence[Path], volumes: "Sequence[Volume]", unlabelled: int | None
) -> tuple[int, ...]:
    """Return the class values, without background, that label files hold."""
    from napari_sparseseg.annotation import painted_values
    from napari_sparseseg.volume import load_labels

    stored = [load_labels(path, volume) for path, volume in zip(files, volumes, strict=True)]
    return tuple(sorted({value for values in stored for value in painted_values(values, unlabelled or 0)}))


def match_points(
    points: "Mapping[str, Sequence[NamedBox]]",
    painted: Sequence[int],
    unlabelled: int | None,
    names: Path | None,
    table: "ClassTable | None",
    display: "ProgressDisplay",
) -> "tuple[ClassTable, dict[str, list[int]]]":
    """Find the class of each point, and the classes of all labels.

    A name counts before a value.  A point of the class ``background`` or of the value 0 is background, and so
    is one of the value 1 that has no name, where 1 means that in label files.

    Parameters
    ----------
    points
        Of each volume.
    painted
        Values of the classes in label files.
    unlabelled, names
        As `read_annotations` takes them.
    table
        The classes, where a network knows them already.

    Returns
    -------
    table
        The given one, or one of the classes of label files and points.
    values
        Of each volume's points: their labels as an annotation has them, 1 background and 2… classes.

    Raises
    ------
    InputError
        If there are points of background alone, or of a class that is not in the given table.
    """
    from napari_sparseseg.annotation import BACKGROUND, ClassTable
    from napari_sparseseg.box_classes import list_renumbered, match_classes

    every = [point for some in points.values() for point in some]
    told = {point.value for point in every if point.name}
    first = BACKGROUND if unlabelled else BACKGROUND + 1
    backgrounds = {0} if unlabelled else {0, BACKGROUND} - (told - {0})

    def is_background(point: "NamedBox") -> bool:
        return (
            point.name.casefold() == "background"
            or point.value == 0
            or (not point.name and point.value in backgrounds)
        )

    objects = [point for point in every if not is_background(point)]
    known = {entry.value: entry.name for entry in table.classes[1:]} if table else read_names(names)
    known = {value: name for value, name in known.items() if value >= first and value != unlabelled}
    taken = (*painted, unlabelled or 0)
    values, all_names = match_classes(objects, known, range(first, _LARGEST_CLASS + 1), taken)
    if table is None:
        if not (values or painted):
            raise InputError("the points are all of background; add one in an object.")
        table = ClassTable.from_values(sorted({*values, *painted}), all_names)
    for value in sorted(set(values) - set(table.mask_values)):
        raise InputError(
            f"there are points of {all_names[value]}, which is not among {', '.join(table.names[1:])}; "
            "correct the name."
        )
    for asked, given in list_renumbered(objects, values):
        display.say(
            f"Points of the value {asked} are {all_names[given]}, which has the value {given} in the mask."
        )
    row_of = {value: row for row, value in enumerate(table.mask_values, BACKGROUND)}
    rest = iter(values)
    return table, {
        image: [BACKGROUND if is_background(point) else row_of[next(rest)] for point in some]
        for image, some in points.items()
    }


def grow_balls(
    points: "Sequence[NamedBox]", labels: Sequence[int], volume: "Volume", point_mm: float
) -> "NDArray[np.uint8]":
    """Return ``(Z, Y, X)`` annotation in which each point is a ball of the radius `point_mm`."""
    from napari_sparseseg.seeds import grow_points

    pairs = [(point.start, label) for point, label in zip(points, labels, strict=True)]
    return grow_points(pairs, volume.shape, volume.spacing, point_mm)
