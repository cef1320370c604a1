"""Sparsely labelled volumes as training takes them."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import (
    BACKGROUND,
    DERIVED_SOURCES,
    SOURCES,
    ClassTable,
    source_code,
    weigh_sources,
)
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel, Presence
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.resampling import resample_image, resample_labels, shape_at

Region = tuple[slice, slice, slice]

_COUNTED_AT_ONCE = 4_000_000
_LATER_FIELDS = {"seeding", "expansion", "constraint", "encoder_rate", "encoder_share"}
"""Settings that states saved by earlier versions lack."""


@dataclass(frozen=True, eq=False)
class Case:
    """One sparsely labelled volume.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… classes.
    weights
        ``(Z, Y, X)`` weight ≥ 0 of each label; None for 1 everywhere.
    name
        For messages.
    region
        Learn and classify only inside this box; None for everywhere.  Intensities are normalised, and
        positions are counted, by the whole volume all the same, so that the network fits all of it.
    sources
        ``(Z, Y, X)`` `annotation.source_code` of each label, which weighs it, too; None for the user's own.
    image_labels
        What is said of the volume and its slices, in the voxels of `image`.
    outside_absent
        As `image_labels.Presence` has it.
    """

    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    annotation: NDArray[np.integer[Any]]
    weights: NDArray[np.float32] | None = None
    name: str = "volume"
    region: Region | None = None
    sources: NDArray[np.uint8] | None = None
    image_labels: tuple[ImageLabel, ...] = ()
    outside_absent: bool = True


@dataclass(frozen=True)
class CaseSource:
    """Where a case comes from, for there may be more than fit into memory.

    Attributes
    ----------
    name
        For messages, and for what is measured by case.
    read
        Reads it, whenever it is needed, always the same; raises `InputError` where it cannot be read.
    """

    name: str
    read: Callable[[], Case]


@dataclass(frozen=True, eq=False)
class PreparedCase(Case):
    """A case normalised, at the training spacing, and cut to its region.

    Attributes
    ----------
    start, whole
        Where the region begins in the whole volume, and that volume's shape, in voxels ``(Z, Y, X)``.
    before
        That volume's shape as it was read.
    presence
        What the image-level labels say of that volume at the training spacing; None for nothing.
    """

    start: Triple = (0, 0, 0)
    whole: Triple = (0, 0, 0)
    before: Triple = (0, 0, 0)
    presence: Presence | None = None


def join_seeds(
    labels: NDArray[np.uint8] | None,
    seeds: NDArray[np.uint8] | None,
    points: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Join the user's labels with balls around points, over which they win, and seeds, over which both win.

    Parameters
    ----------
    labels, seeds, points
        ``(Z, Y, X)`` annotations; None for none of the kind.

    Returns
    -------
    ``(Z, Y, X)`` annotation, and the sources of its labels as `Case` has them.
    """
    given = [("cam", seeds), ("point", points), ("stroke", labels)]
    present = [(source, values) for source, values in given if values is not None]
    if not present:
        raise InputError("there is nothing to learn from; give labels, points or seeds.")
    if seeds is None and points is None:
        return present[0][1], None
    joined = present[0][1]
    sources = np.zeros(joined.shape, np.uint8)
    for source, values in present:
        joined = values if values is joined else np.where(values > 0, values, joined)
        sources[values > 0] = source_code(source)
    return joined, sources


def without_derived(
    annotation: NDArray[np.integer[Any]], sources: NDArray[np.uint8] | None
) -> NDArray[np.integer[Any]]:
    """Return an annotation without the labels that were derived from boxes or class maps."""
    if sources is None:
        return annotation
    weak = np.isin(sources, [source_code(name) for name in DERIVED_SOURCES])
    return np.where(weak, annotation.dtype.type(0), annotation)


def weigh_case(case: Case, seeding: float) -> Case:
    """Weigh the labels of a case by where they come from.

    Parameters
    ----------
    case
        As the caller made it.
    seeding
        As `TrainingConfig` has it; at 0 the labels from class maps are left out.
    """
    if case.sources is None:
        return case
    _check_shape(case, "sources", case.sources)
    _check_shape(case, "weights", case.weights)
    annotation, sources = case.annotation, case.sources
    if seeding == 0:
        seeds = sources == source_code("cam")
        nothing = annotation.dtype.type(0)
        annotation, sources = np.where(seeds, nothing, annotation), np.where(seeds, np.uint8(0), sources)
    weights = weigh_sources(sources, seeding)
    if case.weights is not None:
        weights *= case.weights
    return replace(case, annotation=annotation, sources=sources, weights=weights)


def find_measurable(cases: Iterable[Case]) -> bool:
    """Return whether there is nothing to measure by but labels derived from boxes or class maps.

    That is so where less than two classes would be left without these.
    """
    own: set[int] = set()
    derived = False
    for case in cases:
        own |= set(np.unique(without_derived(case.annotation, case.sources)).tolist()) - {0}
        if len(own) > 1:
            return False
        derived = derived or case.sources is not None
    return derived


def measurable_labels(case: Case, *, derived: bool) -> NDArray[np.integer[Any]]:
    """Return the labels of a case that it can be measured by; `derived` as `find_measurable` says."""
    return case.annotation if derived else without_derived(case.annotation, case.sources)


def prepare_case(
    case: Case, normalisation: Normalisation, spacing: tuple[float, float, float], classes: int = 0
) -> PreparedCase:
    """Normalise a case, bring it to `spacing` and cut it to its region.

    Parameters
    ----------
    case
        As the caller made it.
    normalisation
        How intensities become a network's input.
    spacing
        Voxel size in mm ``(Z, Y, X)`` to train at.
    classes
        Number of classes, background included, that image-level labels may be of.
    """
    image = normalisation.apply(case.image)
    annotation, weights, sources, region = case.annotation, case.weights, case.sources, case.region
    before = to_triple(annotation.shape)
    shape = shape_at(before, case.spacing, spacing)
    if shape != before:
        image = resample_image(image, shape)
        annotation, sources = _resample(annotation, sources, shape)
        weights = None if weights is None else resample_labels(weights, shape)
        region = None  # it was given on the grid that is no more
    z, y, x = region or tuple(slice(0, length) for length in shape)
    return PreparedCase(
        np.ascontiguousarray(image[:, z, y, x]),
        spacing,
        np.ascontiguousarray(annotation[z, y, x]),
        None if weights is None else np.ascontiguousarray(weights[z, y, x]),
        case.name,
        sources=None if sources is None else np.ascontiguousarray(sources[z, y, x]),
        image_labels=case.image_labels,
        outside_absent=case.outside_absent,
        start=(z.start, y.start, x.start),
        whole=shape,
        before=before,
        presence=find_presence(case.image_labels, before, shape, classes, outside_absent=case.outside_absent),
    )


def find_presence(
    labels: Sequence[ImageLabel], before: Triple, shape: Triple, classes: int, *, outside_absent: bool
) -> Presence | None:
    """Return what image-level labels of a volume of the shape `before` say of it when it has `shape`."""
    if not labels:
        return None
    presence = Presence(labels, before, classes, outside_absent=outside_absent)
    return presence if shape == before else presence.scaled(shape)


def crop_case(case: PreparedCase, box: Region) -> PreparedCase:
    """Cut a prepared case to a box of it; where that lies in the volume stays known."""
    z, y, x = box
    return replace(
        case,
        image=np.ascontiguousarray(case.image[:, z, y, x]),
        annotation=np.ascontiguousarray(case.annotation[box]),
        weights=None if case.weights is None else np.ascontiguousarray(case.weights[box]),
        sources=None if case.sources is None else np.ascontiguousarray(case.sources[box]),
        start=to_triple(first + edge.start for first, edge in zip(case.start, box, strict=True)),
    )


def _resample(
    annotation: NDArray[np.integer[Any]], sources: NDArray[np.uint8] | None, shape: Triple
) -> tuple[NDArray[np.integer[Any]], NDArray[np.uint8] | None]:
    """Bring labels to `shape`; where several fall into one voxel that of the strongest source stays."""
    if sources is None:
        return resample_labels(annotation, shape), None
    ranks = np.rint(1000 * weigh_sources(np.arange(len(SOURCES) + 1, dtype=np.uint8))).astype(np.int64)
    ranks[source_code("stroke")] += 1
    packed = (ranks[sources] << 16) | (annotation.astype(np.int64) << 8) | sources
    packed = resample_labels(packed * (annotation > 0), shape)
    return (packed >> 8 & 255).astype(annotation.dtype), (packed & 255).astype(np.uint8)


def check_cases(cases: Sequence[Case], table: ClassTable, initial: Model | None = None) -> None:
    """Raise `InputError` where `cases` cannot be trained on with `table`, or not from `initial`."""
    values: set[int] = set()
    for case in cases:
        values |= check_case(case, table)
    check_cohort([(case.name, case.image.shape[0]) for case in cases], values, table, initial)


def check_case(case: Case, table: ClassTable) -> frozenset[int]:
    """Return the values that a case is labelled with; raise `InputError` where nothing can be learnt from it.

    The cases together have to hold background and a class; a single one need not.
    """
    if case.annotation.shape != case.image.shape[1:]:
        raise InputError(
            f"the labels of {case.name} have shape {case.annotation.shape} and the image has "
            f"{case.image.shape[1:]}; give labels on the image's grid."
        )
    _check_shape(case, "weights", case.weights)
    values = frozenset(np.unique(case.annotation).tolist()) - {0}
    if values and max(values) > len(table):
        raise InputError(
            f"the labels use class {max(values)} of a table of {len(table)}; extend the class table."
        )
    return values


def check_cohort(
    channels: Sequence[tuple[str, int]], values: Iterable[int], table: ClassTable, initial: Model | None
) -> None:
    """Raise `InputError` where cases do not go together, lack labels, or do not fit a model to start from.

    Parameters
    ----------
    channels
        Name and number of channels of each case.
    values
        What they are labelled with, all together.
    table, initial
        The classes, and the model.
    """
    first = channels[:1]
    for (first_name, wanted), (name, have) in ((one, other) for one in first for other in channels):
        if have != wanted:
            raise InputError(
                f"{name} has {have} channels and {first_name} has {wanted}; give the same channels for every "
                "volume."
            )
    values = set(values)
    if BACKGROUND not in values or len(values) < 2:
        missing = "no background" if BACKGROUND not in values else "nothing but background"
        raise InputError(
            f"the labels hold {missing if values else 'nothing'}; label background and at least one class."
        )
    if initial and initial.channels != channels[0][1]:
        raise InputError(
            f"the model to start from takes {initial.channels} channels and the volumes have "
            f"{channels[0][1]}; give the channels it was trained on."
        )
    if initial and initial.table.mask_values != table.mask_values:
        raise InputError(
            f"the model to start from knows the class values {initial.table.mask_values[1:]} and the labels "
            f"have {table.mask_values[1:]}; both must have the same classes."
        )


def _check_shape(case: Case, name: str, values: NDArray[Any] | None) -> None:
    if values is not None and values.shape != case.annotation.shape:
        raise InputError(
            f"the {name} of {case.name} have shape {values.shape} and its labels have "
            f"{case.annotation.shape}; give one {name.removesuffix('s')} for each voxel."
        )


def balance_classes(cases: Iterable[Case], classes: int) -> Tensor:
    """Return the weight of each annotation value: 0, then √(N/n) per class, 1 on average over the labels."""
    counts = sum(_count_labels(case.annotation, classes) for case in cases)
    weights = np.sqrt(np.sum(counts) / np.maximum(counts, 1))
    weights *= np.sum(counts) / np.sum(weights * counts)
    return torch.tensor([0.0, *weights], dtype=torch.float32)


def _count_labels(annotation: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int64]:
    """Count each class's labels a part at a time, for `bincount` makes large numbers of small ones."""
    flat, counts = annotation.reshape(-1), np.zeros(classes, np.int64)
    for first in range(0, flat.size, _COUNTED_AT_ONCE):
        counts += np.bincount(flat[first : first + _COUNTED_AT_ONCE], minlength=classes + 1)[1:]
    return counts


def fingerprint_cases(cases: Iterable[Case], *settings: object) -> str:
    """Return a hash of the data and settings that a resumed training must share."""
    digest = hashlib.sha256(f"({', '.join(map(_describe, settings))})".encode())
    for case in cases:
        digest.update(case.annotation.tobytes())
        digest.update(np.ascontiguousarray(case.image[:, ::4, ::4, ::4]).tobytes())
        if case.sources is not None:
            digest.update(case.sources.tobytes())
    return digest.hexdigest()


def _describe(setting: object) -> str:
    """Return the setting's repr, as it was before a field existed where that has its default."""
    entries = fields(setting) if is_dataclass(setting) else ()
    if not _LATER_FIELDS & {entry.name for entry in entries}:
        return repr(setting)
    values = [(entry, getattr(setting, entry.name)) for entry in entries]
    told = [f"{e.name}={v!r}" for e, v in values if e.name not in _LATER_FIELDS or v != e.default]
    return f"{type(setting).__qualname__}({', '.join(told)})"
