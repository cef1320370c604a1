"""Labels: the class table, the two file conventions, and the weight of each labelled voxel.

In memory an annotation is an integer array ``(Z, Y, X)``: 0 is unlabelled, 1 is background and
2, 3, … are the rows of the class table that follow background.  The values a user painted live only
in the class table and in files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.errors import InputError

UNLABELLED = 0
BACKGROUND = 1

SOURCE_WEIGHTS: Mapping[str, float] = {
    "stroke": 1.0,
    "import": 1.0,
    "accepted": 0.5,
    "interpolated": 0.5,
    "preview": 0.5,
    "box": 0.3,
    "cam": 0.3,
    "point": 0.7,
}
"""Weight of a label by where it comes from; a user's own stroke always wins over every other source."""

SOURCES = tuple(SOURCE_WEIGHTS)
"""The sources in the order of their codes: the code of ``SOURCES[i]`` is ``i + 1``, 0 is none."""

DERIVED_SOURCES = ("box", "cam")
"""Sources that a program made labels from; they are learnt from, but nothing is measured by them."""

_MOST_CLASSES = 254
_LARGEST_UNIT = 0.6  # a single slice may hold this share of all labels and still be held out
_LEAST_KEPT = 0.25  # of each class's labels stay in training

# Okabe & Ito (2008): distinguishable with any color vision, on dark and on light ground.
_COLORS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#999999")


@dataclass(frozen=True)
class LabelClass:
    """One row of the class table: the value painted and written to files, its name and ``#rrggbb`` color."""

    value: int
    name: str
    color: str


@dataclass(frozen=True)
class ClassTable:
    """The classes in the order of the network's channels; the first is always background.

    The annotation stores channel + 1 (0 is unlabelled); masks store `LabelClass.value`, with
    background written as 0.
    """

    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        values = [entry.value for entry in self.classes[1:]]
        if len(self.classes) < 2:
            raise InputError("a class table needs background and at least one class; add a class.")
        if len(self.classes) > _MOST_CLASSES:
            raise InputError(
                f"the labels hold {len(values)} different classes and at most {_MOST_CLASSES - 1} fit; "
                "instance labels (one number per object) must first become classes."
            )
        if len(set(values)) < len(values) or any(not 0 < value < 2**31 for value in values):
            raise InputError(f"class values must be different positive whole numbers, not {values}.")

    @classmethod
    def from_values(cls, values: Sequence[int], names: Mapping[int, str] | None = None) -> Self:
        """Make a table of background and the painted `values`, named by `names` where given."""
        names = names or {}
        entries = [LabelClass(0, names.get(0, "background"), "#808080")]
        for row, value in enumerate(values):
            name = names.get(value, f"class {value}")
            entries.append(LabelClass(int(value), name, _COLORS[row % len(_COLORS)]))
        return cls(tuple(entries))

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in channel order, background first."""
        return tuple(entry.name for entry in self.classes)

    @property
    def mask_values(self) -> tuple[int, ...]:
        """Values in channel order as a mask file holds them: 0 for background, then the painted ones."""
        return (0, *(entry.value for entry in self.classes[1:]))

    def painted_rows(self) -> NDArray[np.uint8]:
        """Return the annotation value of each painted value, 0 to 255; 0 for those not in the table."""
        rows = np.zeros(256, np.uint8)
        rows[BACKGROUND] = BACKGROUND
        for channel, entry in enumerate(self.classes[1:], start=1):
            rows[entry.value] = channel + 1
        return rows

    def to_json(self) -> list[dict[str, Any]]:
        """Return a list of plain dicts for JSON."""
        return [{"value": c.value, "name": c.name, "color": c.color} for c in self.classes]

    @classmethod
    def from_json(cls, rows: Any) -> Self:
        """Read what `to_json` wrote; raise `InputError` for anything else."""
        try:
            entries = tuple(LabelClass(int(r["value"]), str(r["name"]), str(r["color"])) for r in rows)
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"the class table is not a list of value, name and color ({error}).") from error
        return cls(entries)


def source_code(source: str) -> int:
    """Return the code by which an array of sources holds `source`."""
    return SOURCES.index(source) + 1


def weigh_sources(sources: NDArray[np.uint8], seeding: float = 1.0) -> NDArray[np.float32]:
    """Return the weight of each code in an array of sources, of class maps times `seeding`; 0 for none."""
    weights = {**SOURCE_WEIGHTS, "cam": seeding * SOURCE_WEIGHTS["cam"]}
    return np.array([0.0, *weights.values()], np.float32)[sources]


def without_weak_labels(annotation: NDArray[np.uint8], sources: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the labels that can be measured by: without those that were derived from boxes or class maps.

    Where these are all there are, so that less than two classes would be left, all labels.
    """
    weak = np.isin(sources, [source_code(name) for name in DERIVED_SOURCES])
    strong = np.where(weak, np.uint8(0), annotation)
    return strong if len(np.unique(strong[strong > 0])) > 1 else annotation


def merge_sources(
    labels_by_source: Mapping[str, NDArray[np.integer[Any]]],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Merge labels of several sources into one annotation and its weights.

    Parameters
    ----------
    labels_by_source
        Keys of `SOURCE_WEIGHTS` and their ``(Z, Y, X)`` annotations.

    Returns
    -------
    annotation
        ``(Z, Y, X)``; where sources disagree the one of the higher weight wins, a stroke over all.
    weights
        ``(Z, Y, X)`` weight of the winning source; 0 where unlabelled.
    """
    shape = next(iter(labels_by_source.values())).shape
    annotation, weights = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for source in sorted(labels_by_source, key=lambda s: (SOURCE_WEIGHTS[s], s == "stroke")):
        labels = labels_by_source[source]
        annotation[labels > 0] = labels[labels > 0]
        weights[labels > 0] = SOURCE_WEIGHTS[source]
    return annotation, weights


def painted_values(file_labels: NDArray[np.integer[Any]], unlabelled: int = UNLABELLED) -> tuple[int, ...]:
    """Return the class values, without background, that a sparse label file holds.

    Parameters
    ----------
    file_labels
        ``(Z, Y, X)`` values as stored in the file.
    unlabelled
        The file's convention: 0 means 0 is unlabelled and 1 is background; any other value V means V
        is unlabelled and 0 is background.
    """
    background = BACKGROUND if unlabelled == UNLABELLED else 0
    present = np.unique(file_labels)
    return tuple(int(v) for v in present if v not in (unlabelled, background))


def annotation_from_file(
    file_labels: NDArray[np.integer[Any]], table: ClassTable, unlabelled: int = UNLABELLED
) -> NDArray[np.uint8]:
    """Turn the values of a sparse label file into an annotation.

    Parameters
    ----------
    file_labels
        ``(Z, Y, X)`` values as stored in the file.
    table
        Classes whose values may occur.
    unlabelled
        The file's convention, as in `painted_values`.

    Returns
    -------
    ``(Z, Y, X)`` annotation: 0 unlabelled, 1 background, 2… classes.

    Raises
    ------
    InputError
        If a value is not in the table.
    """
    background = BACKGROUND if unlabelled == UNLABELLED else 0
    annotation = np.zeros(file_labels.shape, np.uint8)
    annotation[file_labels == background] = BACKGROUND
    known = np.isin(file_labels, (unlabelled, background))
    for channel, entry in enumerate(table.classes[1:], start=1):
        where = file_labels == entry.value
        annotation[where] = channel + 1
        known |= where
    if not known.all():
        strange = sorted({int(v) for v in np.unique(file_labels[~known])})
        raise InputError(
            f"the labels hold the values {strange}, which are not in the class table {table.mask_values}; "
            "correct the labels or the table."
        )
    return annotation


def mask_from_channels(channels: NDArray[np.integer[Any]], table: ClassTable) -> NDArray[np.integer[Any]]:
    """Turn class channels (0 = background) ``(Z, Y, X)`` into the values a mask file holds."""
    smallest_type = np.uint8 if max(table.mask_values) < 256 else np.int32
    mask: NDArray[np.integer[Any]] = np.asarray(table.mask_values, smallest_type)[channels]
    return mask


def check_convention(file_labels: NDArray[np.integer[Any]], name: str) -> None:
    """Refuse labels that look as if a value other than 0 meant "unlabelled".

    Called when the user did not say which convention holds: a sparse file consists mostly of its
    unlabelled value, so a file whose commonest value is its largest one is ambiguous.
    """
    values, counts = np.unique(file_labels, return_counts=True)
    commonest = int(values[counts.argmax()])
    if commonest == values.max() and commonest > BACKGROUND:
        raise InputError(
            f"{name} consists mostly of the value {commonest}: if that means unlabelled (and 0 background), "
            f"say --unlabelled {commonest}; if it is a class, say --unlabelled 0."
        )


@dataclass(frozen=True, eq=False)
class LabelledUnit:
    """Labelled voxels that a user made in one go: a slice, or one stroke where only one slice is labelled.

    Attributes
    ----------
    axis, index
        The slice ``annotation.take(index, axis)`` it lies in.
    voxels
        ``(N,)`` flat indices into the annotation; no voxel is in two units.
    """

    axis: int
    index: int
    voxels: NDArray[np.int64]


def find_labelled_slices(annotation: NDArray[np.integer[Any]]) -> list[LabelledUnit]:
    """Explain the labelled voxels by as few slices as possible, the fullest first.

    Slices of any orientation are taken greedily by the number of labelled voxels that no slice before
    them holds, so that where an axial and a sagittal slice cross, the crossing belongs to one of them.
    """
    coordinates = np.argwhere(annotation > 0).astype(np.int32)
    flat = np.flatnonzero(annotation > 0)
    counts = [np.bincount(coordinates[:, a], minlength=annotation.shape[a]) for a in range(3)]
    left = np.ones(len(coordinates), bool)
    units = []
    while left.any():
        axis = max(range(3), key=lambda a: counts[a].max())
        index = int(counts[axis].argmax())
        members = np.flatnonzero(left & (coordinates[:, axis] == index))
        left[members] = False
        for a in range(3):
            counts[a] -= np.bincount(coordinates[members, a], minlength=annotation.shape[a])
        units.append(LabelledUnit(axis, index, flat[members]))
    return units


def split_by_slices(annotation: NDArray[np.uint8], voxels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split flat indices of labelled voxels by the slices that they lie in."""
    alone = np.zeros_like(annotation)
    alone.reshape(-1)[voxels] = annotation.reshape(-1)[voxels]
    return [unit.voxels for unit in find_labelled_slices(alone)]


def find_strokes(annotation: NDArray[np.integer[Any]]) -> list[LabelledUnit]:
    """Return the connected parts of one class within each labelled slice, as units of their own."""
    flat_annotation = annotation.reshape(-1)
    strokes = []
    for unit in find_labelled_slices(annotation):
        values = np.zeros(annotation.shape, annotation.dtype)
        values.reshape(-1)[unit.voxels] = flat_annotation[unit.voxels]
        plane = values.take(unit.index, unit.axis)
        for value in np.unique(plane[plane > 0]):
            parts, number = ndimage.label(plane == value, np.ones((3, 3)))
            for part in range(1, number + 1):
                within = np.argwhere(parts == part)
                position = np.insert(within, unit.axis, unit.index, axis=1)
                voxels = _flat_indices(position, annotation.shape)
                strokes.append(LabelledUnit(unit.axis, unit.index, voxels))
    return strokes


def _flat_indices(positions: NDArray[np.integer[Any]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return flat indices of ``(N, 3)`` voxel positions."""
    return positions.astype(np.int64) @ np.array([shape[1] * shape[2], shape[2], 1], np.int64)


def choose_held_out(
    annotations: Sequence[NDArray[np.integer[Any]]], share: float, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Choose whole slices (or strokes, where there is one slice) to keep out of training.

    Parameters
    ----------
    annotations
        One ``(Z, Y, X)`` annotation per case; each may be read anew whenever it is asked for.
    share
        Aim for this share of the labelled voxels, and at least one unit; 0 holds out nothing.
    random
        Decides between units.

    Returns
    -------
    Flat indices of the held-out voxels per case.  Every class keeps labels in training: where whole
    slices cannot be spared strokes are, and where these cannot either, nothing is held out.
    """
    held_out = [np.zeros(0, np.int64) for _ in annotations]
    for find, fewest in ((find_labelled_slices, 2), (find_strokes, 1)) if share else ():
        units = [
            (case, number, _count_values(annotation, unit.voxels))
            for case, annotation in enumerate(annotations)
            for number, unit in enumerate(find(annotation))
        ]
        chosen = _choose_units(units, share, random) if len(units) >= fewest else []
        for case in {case for case, _ in chosen}:
            found = find(annotations[case])  # anew: those of all cases at once may be too many
            held_out[case] = np.concatenate([found[number].voxels for of, number in chosen if of == case])
        if chosen:
            break
    return held_out


def _count_values(annotation: NDArray[np.integer[Any]], voxels: NDArray[np.int64]) -> dict[int, int]:
    values, counts = np.unique(annotation.reshape(-1)[voxels], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _choose_units(
    units: Sequence[tuple[int, int, dict[int, int]]], share: float, random: np.random.Generator
) -> list[tuple[int, int]]:
    """Choose of `units` (case, number in it, voxels by value), which hold all labels, as is said above."""
    left: Counter[int] = Counter()
    for _, _, inside in units:
        left.update(inside)
    total = left.total()
    order = random.permutation(len(units))
    # Those that show the most classes first: a score needs foreground.
    variety = [len(set(inside) - {BACKGROUND}) for _, _, inside in units]
    chosen: list[tuple[int, int]] = []
    taken = 0
    for position in sorted(order.tolist(), key=lambda p: -variety[p]):
        case, number, inside = units[position]
        size = sum(inside.values())
        if variety[position] == 0 or taken + size > total * (share if taken else _LARGEST_UNIT):
            continue
        if any(left[value] - count < _LEAST_KEPT * left[value] for value, count in inside.items()):
            continue
        left.subtract(inside)
        taken += size
        chosen.append((case, number))
    return chosen


class OverlapCounter:
    """Counts agreeing voxels per class, over as many pieces as come, to give one Dice per class."""

    def __init__(self, classes: int) -> None:
        self._table = np.zeros((classes, classes), np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """``(K, K)`` voxels counted by true (row) and predicted channel; those of several can be added."""
        return self._table

    def add(self, truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]]) -> None:
        """Count voxels; both are ``(N,)`` channels (0 = background)."""
        classes = len(self._table)
        pairs = truth.astype(np.int64) * classes + prediction
        self._table += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def dice(self) -> NDArray[np.float64]:
        """Dice per foreground class; NaN for a class that neither side holds."""
        total = self._table.sum(0) + self._table.sum(1)
        with np.errstate(invalid="ignore"):
            dice: NDArray[np.float64] = (2 * np.diag(self._table) / total)[1:]
        return dice

    def mean_dice(self) -> float:
        """Mean of `dice` over the classes that occur; 0 when none does."""
        dice = self.dice()
        return float(np.nanmean(dice)) if np.isfinite(dice).any() else 0.0
