"""The volumes that `sparseseg train` learns from: named one by one or in a table, and read when needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.cli_input import (
    read_annotations,
    read_label_values,
    read_names,
    read_volume,
    split_case,
)
from napari_sparseseg.cli_points import grow_balls, match_points, read_points
from napari_sparseseg.cli_weak import read_image_labels
from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.box_files import NamedBox
    from napari_sparseseg.cases import Case, CaseSource
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.image_labels import ImageLabel
    from napari_sparseseg.volume import Volume

_RAW_SHARE = 0.5  # of the memory, in which volumes may stay as they were read


@dataclass(frozen=True)
class CaseFiles:
    """A volume as it is named on the command line, and the files with its labels.

    Attributes
    ----------
    image
        As `cli_input.read_volume` takes it.
    labels, seeds, points
        The files; at least one of them.
    learnt
        Whether it is learnt from, and not only measured by.
    """

    image: str
    labels: Path | None = None
    seeds: Path | None = None
    points: Path | None = None
    learnt: bool = True


@dataclass(frozen=True)
class Reading:
    """How the files of all cases are read: options of the command line by the same names."""

    point_mm: float
    unlabelled: int | None
    names: Path | None
    frame: int | None
    spacing: str | None
    image_labels: Path | None = None
    outside_absent: bool = True


@dataclass(eq=False)
class _SeenCase:
    """What is kept of a case between looking at it and learning from it."""

    files: CaseFiles
    volume: "Volume"
    kept: bool  # whether it holds its intensities
    painted: tuple[int, ...]
    points: "list[NamedBox]"
    point_labels: list[int] = field(default_factory=list)
    image_labels: "tuple[ImageLabel, ...]" = ()


@dataclass(frozen=True, eq=False)
class Cohort:
    """What a training is given.

    Attributes
    ----------
    cases, val
        Those to learn from, and those that are never; all in memory if they fit, else read when needed.
    table
        The classes.
    left_out
        By name on the command line why a volume is neither, in a sentence.
    """

    cases: "list[Case | CaseSource]"
    val: "list[Case | CaseSource]"
    table: "ClassTable"
    left_out: dict[str, str]


def list_cases(
    case: Sequence[str], seeds: Sequence[str], points: Sequence[str], val: Sequence[str], table: Path | None
) -> list[CaseFiles]:
    """Return the cases that the options name, each as ``IMAGE=FILE``, and those in a table.

    Seeds and points of a volume without strokes are a case of their own.
    """
    strokes = [split_case(text) for text in case]
    by_option = {
        "--seeds": [split_case(text, "--seeds", "IMAGE=SEEDS") for text in seeds],
        "--points": [split_case(text, "--points", "IMAGE=POINTS") for text in points],
    }
    for option, given in by_option.items():
        if len(dict(given)) < len(given):
            raise InputError(f"{option} names a volume twice; give one file for each.")
    seeded, pointed = (dict(given) for given in by_option.values())
    alone = [image for image in {**seeded, **pointed} if image not in dict(strokes)]
    cases = [
        CaseFiles(image, labels, seeded.get(image), pointed.get(image))
        for image, labels in [*strokes, *((image, None) for image in alone)]
    ]
    if table is not None:
        cases += read_case_table(table)
    cases += [CaseFiles(*split_case(text, "--val"), learnt=False) for text in val]
    learnt = {files.image for files in cases if files.learnt}
    for files in cases:
        if not files.learnt and files.image in learnt:
            raise InputError(
                f"{files.image} is to be learnt from and to be measured by; name it as one of the two."
            )
    if not any(files.learnt for files in cases):
        raise InputError(
            "there is nothing to learn from; give --case, --points or --seeds, or a table by --cases."
        )
    return cases


def read_case_table(path: Path) -> list[CaseFiles]:
    """Read a CSV file of cases.

    Its columns are ``image`` (further channels behind ``;``), ``labels``, ``seeds``, ``points``, of which one
    is needed, and ``split``: ``train`` (or nothing) or ``val``.  Files are relative to it.
    """
    from napari_sparseseg.csv_tables import read_table, shown

    kinds = ("labels", "seeds", "points")
    folder, cases = path.expanduser().parent, []
    for place, cells in read_table(path, ("image", *kinds, "split"), "cases", [("image",), kinds]):
        split = cells["split"].lower() or "train"
        if split not in ("train", "val"):
            raise InputError(f"{place} has {shown(cells['split'])} as split; give train or val.")
        if not cells["image"] or not any(cells[kind] for kind in kinds):
            raise InputError(f"{place} lacks an image, or labels, seeds or points of it; fill them in.")
        channels = [str(folder / part.strip()) for part in cells["image"].split(";")]
        labels, seeds, points = (folder / cells[kind] if cells[kind] else None for kind in kinds)
        cases.append(CaseFiles(",".join(channels), labels, seeds, points, split == "train"))
    return cases


def read_cohort(
    files: Sequence[CaseFiles],
    reading: Reading,
    display: "ProgressDisplay",
    table: "ClassTable | None",
    memory_mb: int,
    *,
    skip_bad: bool,
) -> Cohort:
    """Look at all cases, one at a time, and return them as a training takes them.

    Parameters
    ----------
    files, reading
        The cases, and how they are read.
    display
        Shows what was noticed.
    table
        The classes, where a network knows them already.
    memory_mb
        Megabytes for volumes: where they do not fit into half of it each is read again when it is needed.
    skip_bad
        Leave out what cannot be read instead of raising.
    """
    room = _RAW_SHARE * memory_mb * 1e6
    seen: list[_SeenCase] = []
    left_out: dict[str, str] = {}
    for each in files:
        try:
            one = _look_at(each, reading, display)
        except InputError as error:
            if not skip_bad:
                raise
            left_out[each.image] = str(error)
            display.say(f"{each.image} is left out: {error}")
            continue
        seen.append(one)
        room -= one.volume.data.nbytes
        for other in seen if room < 0 else ():
            other.volume, other.kept = _without_intensities(other.volume), False
    if not any(one.files.learnt for one in seen):
        raise InputError("none of the volumes can be learnt from; see the notes on each.")
    table = _know_classes(seen, reading, display, table)
    sources = [_make_source(one, reading, table) for one in seen]
    cases: list[Case | CaseSource] = []
    val: list[Case | CaseSource] = []
    for one, source in zip(seen, sources, strict=True):
        (cases if one.files.learnt else val).append(source.read() if room >= 0 else source)
    return Cohort(cases, val, table, left_out)


def _look_at(files: CaseFiles, reading: Reading, display: "ProgressDisplay") -> _SeenCase:
    from napari_sparseseg.annotation import painted_values

    volume = read_volume(files.image, reading.frame, reading.spacing, display)
    painted: set[int] = set()
    for path in filter(None, (files.labels, files.seeds)):
        values = read_label_values(path, volume, reading.unlabelled, reading.names)
        painted |= set(painted_values(values, reading.unlabelled or 0))
    points = read_points(files.points, files.image, volume) if files.points else []
    return _SeenCase(files, volume, True, tuple(sorted(painted)), points)


def _without_intensities(volume: "Volume") -> "Volume":
    """Return a volume that takes no memory, but has its place and its grid."""
    import numpy as np

    return replace(volume, data=np.broadcast_to(np.float32(0), volume.data.shape))


def _know_classes(
    seen: Sequence[_SeenCase], reading: Reading, display: "ProgressDisplay", table: "ClassTable | None"
) -> "ClassTable":
    """Find out the classes of all cases, and what points and words are of."""
    from napari_sparseseg.annotation import ClassTable

    painted = sorted({value for one in seen for value in one.painted})
    by_number = {str(number): one.points for number, one in enumerate(seen) if one.points}
    if by_number:
        table, labels = match_points(
            by_number, () if table else painted, reading.unlabelled, reading.names, table, display
        )
        for number, values in labels.items():
            seen[int(number)].point_labels = values
    if table is None:
        if not painted:
            first = seen[0].files.labels or seen[0].files.seeds
            raise InputError(
                f"{first} has no voxel of a class; label background and at least one class "
                "(see --unlabelled for what the values mean)."
            )
        table = ClassTable.from_values(painted, read_names(reading.names))
    if reading.image_labels:
        learnt = [one for one in seen if one.files.learnt]
        images, volumes = [one.files.image for one in learnt], [one.volume for one in learnt]
        said = read_image_labels(reading.image_labels, images, volumes, table, display)
        for one, words in zip(learnt, said, strict=True):
            one.image_labels = words
    return table


def _make_source(seen: _SeenCase, reading: Reading, table: "ClassTable") -> "CaseSource":
    from napari_sparseseg.cases import Case, CaseSource, join_seeds

    files = seen.files

    def read_case() -> Case:
        volume = seen.volume
        if not seen.kept:
            volume = read_volume(files.image, reading.frame, reading.spacing, None)
        paths = list(filter(None, (files.labels, files.seeds)))
        grids = [volume] * len(paths)
        read, _ = read_annotations(paths, grids, reading.unlabelled, reading.names, table)
        labels = read.pop(0) if files.labels else None
        seeds = read.pop(0) if files.seeds else None
        balls = grow_balls(seen.points, seen.point_labels, volume, reading.point_mm) if files.points else None
        joined, sources = join_seeds(labels, seeds, balls)
        return Case(
            volume.data, volume.spacing, joined, name=volume.name, sources=sources,
            image_labels=seen.image_labels, outside_absent=reading.outside_absent,
        )  # fmt: skip

    return CaseSource(seen.volume.name, read_case)
