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
    """

    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    annotation: NDArray[np.integer[Any]]
    weights: NDArray[np.float32] | None = None
    name: str = "volume"


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
    if initial and len(initial.table) != len(table):
        raise InputError(
            f"the model to start from knows {len(initial.table)} classes and the labels have {len(table)}; "
            "both must have the same classes."
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
