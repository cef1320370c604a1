"""Looking at all volumes once before an encoder learns from them."""

import hashlib
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WorkDone
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import Normalisation, fit_normalisation_to_samples, sample_voxels
from napari_sparseseg.resampling import shape_at
from napari_sparseseg.volume_pool import ReadVolume, VolumeSource

_SAMPLED = 20_000
_READING = "Looking at the volumes"


@dataclass(frozen=True, eq=False)
class Survey:
    """What there is to learn from.

    Attributes
    ----------
    sources
        The volumes that can be learnt from.
    shapes
        Size of each in voxels ``(Z, Y, X)`` at `spacing`.
    labelled
        For each the values of its annotation, without 0.
    channels
        Of all of them.
    spacing
        Median voxel size in mm ``(Z, Y, X)``.
    shape
        Median size in voxels ``(Z, Y, X)`` at that spacing.
    normalisation
        How their intensities become a network's input.
    digests
        SHA-256 of each: of its intensities, voxel size and annotation.
    """

    sources: tuple[VolumeSource, ...]
    shapes: tuple[Triple, ...]
    labelled: tuple[frozenset[int], ...]
    channels: int
    spacing: tuple[float, float, float]
    shape: Triple
    normalisation: Normalisation
    digests: tuple[str, ...]

    @property
    def data_hash(self) -> str:
        """SHA-256 of all of them, whatever their order."""
        return hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()

    @property
    def is_ct(self) -> bool:
        """Whether the intensities are Hounsfield units."""
        return all(window is not None for window in self.normalisation.windows)


@dataclass(frozen=True, eq=False)
class _Seen:
    source: VolumeSource
    shape: Triple
    spacing: tuple[float, float, float]
    sample: NDArray[np.float32]
    labels: frozenset[int]
    digest: str


def survey_volumes(sources: Sequence[VolumeSource]) -> Generator[Event, None, Survey]:
    """Read every volume once, one at a time; those that are of no use are left out, with a note.

    Raises
    ------
    InputError
        If none is left.
    """
    if not sources:
        raise InputError("there is no volume to learn from; choose some.")
    seen = []
    for number, source in enumerate(sources):
        yield WorkDone(number / len(sources), _READING)
        try:
            seen.append(_look_at(source))
        except InputError as error:
            yield Noted(f"{source.name} is left out: {error}")
    if not seen:
        raise InputError("none of the volumes can be learnt from; see the notes on each.")
    usual = Counter(len(one.sample) for one in seen).most_common(1)[0][0]
    for other in (one for one in seen if len(one.sample) != usual):
        yield Noted(
            f"{other.source.name} is left out: it has {len(other.sample)} channels, most have {usual}."
        )
    seen = [one for one in seen if len(one.sample) == usual]
    z, y, x = np.median([one.spacing for one in seen], axis=0).tolist()
    shapes = [shape_at(one.shape, one.spacing, (z, y, x)) for one in seen]
    return Survey(
        tuple(one.source for one in seen),
        tuple(shapes),
        tuple(one.labels for one in seen),
        usual,
        (z, y, x),
        to_triple(np.median(shapes, axis=0).round()),
        fit_normalisation_to_samples([one.sample for one in seen]),
        tuple(one.digest for one in seen),
    )


def _look_at(source: VolumeSource) -> _Seen:
    volume = source.read()
    _check(volume)
    digest = hashlib.sha256(repr((volume.image.shape, [float(length) for length in volume.spacing])).encode())
    digest.update(np.ascontiguousarray(volume.image).data)
    labels: frozenset[int] = frozenset()
    if volume.annotation is not None:
        digest.update(np.ascontiguousarray(volume.annotation).data)
        labels = frozenset(np.unique(volume.annotation).tolist()) - {0}
    shape = to_triple(volume.image.shape[1:])
    sample = sample_voxels(volume.image, _SAMPLED)
    return _Seen(source, shape, volume.spacing, sample, labels, digest.hexdigest())


def _check(volume: ReadVolume) -> None:
    if volume.annotation is not None and volume.annotation.shape != volume.image.shape[1:]:
        raise InputError(
            f"its labels have shape {volume.annotation.shape} and the image has {volume.image.shape[1:]}; "
            "give labels on the image's grid."
        )
    if not np.isfinite(volume.image).all():
        raise InputError("some of its intensities are no finite numbers; replace them.")
    if volume.image.min() == volume.image.max():
        raise InputError("it has one intensity everywhere, of which nothing can be learnt.")
