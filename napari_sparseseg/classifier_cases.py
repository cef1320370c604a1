"""Volumes with image-level labels, as the training of a classifier takes them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import ImageLabel, Presence
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import Normalisation, fit_normalisation
from napari_sparseseg.resampling import resample_image, shape_at
from napari_sparseseg.settings import NetworkConfig

Spacing = tuple[float, float, float]

_LARGEST_SHARE = 4  # times as many voxels as is quick may the largest volume have
_MOST_VOXELS = {"unet": 112**3, "dynunet": 80**3, "segresnet": 80**3}  # only the first one strides at once
_LEAST_VOXELS = 80**3
_FINEST = 0.5
_AIR = -500.0  # Hounsfield units; only CT has voxels below
_LEAST_BODY = 0.05


@dataclass(frozen=True, eq=False)
class TaggedCase:
    """One volume with image-level labels.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    labels
        What is said of the volume and of its slices, the newest last.
    name
        For messages.
    """

    image: NDArray[np.float32]
    spacing: Spacing
    labels: Sequence[ImageLabel]
    name: str = "volume"


@dataclass(frozen=True, eq=False)
class TaggedVolume:
    """A case on the working grid: its normalised image ``(C, Z, Y, X)`` and what is known of it there."""

    image: Tensor
    presence: Presence
    name: str


@dataclass(frozen=True, eq=False)
class TaggedVolumes:
    """All volumes on grids of one spacing, and how they were brought there."""

    volumes: tuple[TaggedVolume, ...]
    spacing: Spacing
    normalisation: Normalisation


def prepare_volumes(
    cases: Sequence[TaggedCase], table: ClassTable, network: NetworkConfig, *, outside_absent: bool
) -> TaggedVolumes:
    """Normalise volumes and bring them to a grid of a size at which a classifier learns quickly.

    Parameters
    ----------
    cases
        At least one, with at least one label among them.
    table
        The classes.
    network
        Decides how many voxels are quick to learn from.
    outside_absent
        As `Presence` takes it.

    Raises
    ------
    InputError
        If there is nothing to learn from, or the volumes do not belong together.
    """
    if not any(case.labels for case in cases):
        raise InputError(
            "there is no image-level label to learn from; say of a class in which volumes or slices it is."
        )
    for case in cases:
        _check_image(case, cases[0])
    presences = [
        Presence(c.labels, to_triple(c.image.shape[1:]), len(table), outside_absent=outside_absent)
        for c in cases
    ]
    normalisation = fit_normalisation(
        [case.image for case in cases],
        _Marks(cases, presences),
    )
    most = _MOST_VOXELS[network.architecture]
    shapes, spacings = [presence.shape for presence in presences], [case.spacing for case in cases]
    spacing = choose_spacing(shapes, spacings, most)
    volumes = []
    for case, presence in zip(cases, presences, strict=True):
        image = normalisation.apply(np.asarray(case.image, np.float32))
        shape = shape_at(presence.shape, case.spacing, spacing)
        if shape != presence.shape:
            image, presence = resample_image(image, shape), presence.scaled(shape)
        volumes.append(TaggedVolume(torch.from_numpy(image), presence, case.name))
    return TaggedVolumes(tuple(volumes), spacing, normalisation)


def _check_image(case: TaggedCase, first: TaggedCase) -> None:
    if case.image.shape[0] != first.image.shape[0]:
        raise InputError(
            f"{case.name} has {case.image.shape[0]} channels and {first.name} has {first.image.shape[0]}; "
            "give the same channels for every volume."
        )
    edges = [(float(channel.min()), float(channel.max())) for channel in case.image]
    if not np.isfinite(edges).all():
        raise InputError(
            f"the image of {case.name} has voxels that are infinite or no numbers (NaN); put the intensity "
            "of its background there."
        )
    if all(low == high for low, high in edges):
        raise InputError(
            f"the image of {case.name} has one intensity everywhere, so that nothing in it tells the classes "
            "apart; leave it out."
        )


class _Marks(Sequence[NDArray[np.uint8]]):
    """What `_mark_classes` says of each case, made when looked at: the arrays are as large as images."""

    def __init__(self, cases: Sequence[TaggedCase], presences: Sequence[Presence]) -> None:
        self._cases, self._presences = cases, presences

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, index: Any) -> Any:
        return _mark_classes(self._cases[index], self._presences[index])


def _mark_classes(case: TaggedCase, presence: Presence) -> NDArray[np.uint8]:
    """Return ``(Z, Y, X)``: 2 where a class may be, without the air round a patient; else 1."""
    possible = np.zeros(presence.shape, bool)
    for label in range(2, presence.classes + 1):
        if presence.is_present(label):
            possible |= presence.possible(label)
    if not possible.any():
        possible[:] = True
    body = possible & (case.image > _AIR).any(0)
    return np.where(body if body.sum() > _LEAST_BODY * possible.sum() else possible, 2, 1).astype(np.uint8)


def choose_spacing(shapes: Sequence[Triple], spacings: Sequence[Spacing], most_voxels: int) -> Spacing:
    """Return the voxel size in mm ``(Z, Y, X)`` of the grid that a classifier learns on.

    That of the typical volume where it has neither too many nor too few voxels.  Else the shortest sides
    of its voxels grow, which makes them more alike; or all sides shrink, to half at most, so that the
    features of a small volume do not become too few.  They grow further where the largest volume would
    have more than four times as many voxels as the typical one may have.
    """
    spacing = np.median(spacings, axis=0)
    shape = np.median(shapes, axis=0)
    voxels = math.prod(shape)
    extent = shape * spacing
    if voxels < _LEAST_VOXELS:
        spacing = spacing * max((voxels / _LEAST_VOXELS) ** (1 / 3), _FINEST)
    spacing = _coarsen(spacing, extent, most_voxels)
    for extent in np.multiply(shapes, spacings):
        spacing = _coarsen(spacing, extent, _LARGEST_SHARE * most_voxels)
    z, y, x = spacing.tolist()
    return z, y, x


def _coarsen(
    spacing: NDArray[np.float64], extent: NDArray[np.float64], most_voxels: int
) -> NDArray[np.float64]:
    """Return the voxel size with its shortest sides grown until an extent in mm has few enough voxels."""

    def count(side: float) -> float:
        return math.prod(np.maximum(extent / np.maximum(spacing, side), 1))

    low, high = float(spacing.min()), max(float(spacing.min()), float(extent.max()))
    if count(low) <= most_voxels:
        return spacing
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if count(middle) > most_voxels else (low, middle)
    return np.maximum(spacing, high)
