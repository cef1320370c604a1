"""Sparsely labelled volumes as training takes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import BACKGROUND, ClassTable
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.resampling import resample_image, resample_labels, shape_at

Region = tuple[slice, slice, slice]


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
        ``(Z, Y, X)`` weight ≥ 0 of each label by its source; None for 1 everywhere.
    name
        For messages.
    region
        Learn and classify only inside this box; None for everywhere.  Intensities are normalised, and
        positions are counted, by the whole volume all the same, so that the network fits all of it.
    """

    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    annotation: NDArray[np.integer[Any]]
    weights: NDArray[np.float32] | None = None
    name: str = "volume"
    region: Region | None = None


@dataclass(frozen=True, eq=False)
class PreparedCase(Case):
    """A case normalised, at the training spacing, and cut to its region.

    Attributes
    ----------
    start, whole
        Where the region begins in the whole volume, and that volume's shape, in voxels ``(Z, Y, X)``.
    """

    start: Triple = (0, 0, 0)
    whole: Triple = (0, 0, 0)


def prepare_case(
    case: Case, normalisation: Normalisation, spacing: tuple[float, float, float]
) -> PreparedCase:
    """Normalise a case, bring it to `spacing` and cut it to its region."""
    image = normalisation.apply(case.image)
    annotation, weights, region = case.annotation, case.weights, case.region
    before = to_triple(annotation.shape)
    shape = shape_at(before, case.spacing, spacing)
    if shape != before:
        image = resample_image(image, shape)
        annotation = resample_labels(annotation, shape)
        weights = None if weights is None else resample_labels(weights, shape)
        region = None  # it was given on the grid that is no more
    z, y, x = region or tuple(slice(0, length) for length in shape)
    return PreparedCase(
        np.ascontiguousarray(image[:, z, y, x]),
        spacing,
        np.ascontiguousarray(annotation[z, y, x]),
        None if weights is None else np.ascontiguousarray(weights[z, y, x]),
        case.name,
        start=(z.start, y.start, x.start),
        whole=shape,
    )


def check_cases(cases: Sequence[Case], table: ClassTable, initial: Model | None = None) -> None:
    """Raise `InputError` where `cases` cannot be trained on with `table`, or not from `initial`."""
    values: set[int] = set()
    for case in cases:
        if case.annotation.shape != case.image.shape[1:]:
            raise InputError(
                f"the labels of {case.name} have shape {case.annotation.shape} and the image has "
                f"{case.image.shape[1:]}; give labels on the image's grid."
            )
        if case.weights is not None and case.weights.shape != case.annotation.shape:
            raise InputError(
                f"the weights of {case.name} have shape {case.weights.shape} and its labels have "
                f"{case.annotation.shape}; give one weight for each voxel."
            )
        if case.image.shape[0] != cases[0].image.shape[0]:
            raise InputError(
                f"{case.name} has {case.image.shape[0]} channels and {cases[0].name} has "
                f"{cases[0].image.shape[0]}; give the same channels for every volume."
            )
        values |= set(np.unique(case.annotation).tolist()) - {0}
    if values and max(values) > len(table):
        raise InputError(
            f"the labels use class {max(values)} of a table of {len(table)}; extend the class table."
        )
    if BACKGROUND not in values or len(values) < 2:
        missing = "no background" if BACKGROUND not in values else "nothing but background"
        raise InputError(
            f"the labels hold {missing if values else 'nothing'}; label background and at least one class."
        )
    if initial and initial.channels != cases[0].image.shape[0]:
        raise InputError(
            f"the model to start from takes {initial.channels} channels and the volumes have "
            f"{cases[0].image.shape[0]}; give the channels it was trained on."
        )
    if initial and initial.table.mask_values != table.mask_values:
        raise InputError(
            f"the model to start from knows the class values {initial.table.mask_values[1:]} and the labels "
            f"have {table.mask_values[1:]}; both must have the same classes."
        )


def balance_classes(cases: Sequence[Case], classes: int) -> Tensor:
    """Return the weight of each annotation value: 0, then √(N/n) per class, 1 on average over the labels."""
    counts = sum(np.bincount(case.annotation.reshape(-1), minlength=classes + 1)[1:] for case in cases)
    weights = np.sqrt(np.sum(counts) / np.maximum(counts, 1))
    weights *= np.sum(counts) / np.sum(weights * counts)
    return torch.tensor([0.0, *weights], dtype=torch.float32)


def fingerprint_cases(cases: Sequence[Case], *settings: object) -> str:
    """Return a hash of the data and settings that a resumed training must share."""
    digest = hashlib.sha256(repr(settings).encode())
    for case in cases:
        digest.update(case.annotation.tobytes())
        digest.update(np.ascontiguousarray(case.image[:, ::4, ::4, ::4]).tobytes())
    return digest.hexdigest()
