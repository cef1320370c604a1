"""Intensities made comparable: per volume, or in the fixed units of CT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError

_SAMPLE_VOXELS = 500_000
_AIR = -500.0  # Hounsfield units; only CT has voxels below
_LEAST_WIDTH = 120.0  # Hounsfield units; few labelled voxels may all be alike


@dataclass(frozen=True)
class Normalisation:
    """How intensities become the network's input.

    Attributes
    ----------
    windows
        Per channel ``(low, high, mean, standard deviation)``: clip, subtract, divide.  None where
        the channel has no fixed unit (MR, microscopy): then each volume's own 0.5th and 99.5th
        percentiles, mean and standard deviation serve.
    """

    windows: tuple[tuple[float, float, float, float] | None, ...]

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise ``(C, Z, Y, X)`` intensities."""
        normalised = np.empty_like(image)
        for channel, (values, window) in enumerate(zip(image, self.windows, strict=True)):
            low, high, mean, deviation = window or _measure_window(_sample(values))
            np.clip(values, low, high, out=normalised[channel])
            normalised[channel] -= mean
            normalised[channel] /= deviation
        return normalised

    def to_json(self) -> list[list[float] | None]:
        """Return plain lists for JSON."""
        return [None if window is None else list(window) for window in self.windows]

    @classmethod
    def from_json(cls, rows: Any) -> Self:
        """Read what `to_json` wrote; raise `InputError` for anything else."""
        windows: list[tuple[float, float, float, float] | None] = []
        try:
            for row in rows:
                if row is None:
                    windows.append(None)
                    continue
                low, high, mean, deviation = (float(value) for value in row)
                if not (np.isfinite([low, high, mean, deviation]).all() and low < high and deviation > 0):
                    raise ValueError(f"{row} is no intensity window")
                windows.append((low, high, mean, deviation))
        except (TypeError, ValueError) as error:
            raise InputError(f"the intensity normalisation cannot be read ({error}).") from error
        return cls(tuple(windows))


@dataclass(frozen=True, eq=False)
class ForegroundSample:
    """What the normalisation of a set of volumes needs to know of one.

    Attributes
    ----------
    channels
        Per channel the intensities ``(N,)`` of labelled foreground; None where there is no air, so that the
        channel is not in Hounsfield units.
    """

    channels: tuple[NDArray[np.float32] | None, ...]


def sample_foreground(
    image: NDArray[np.float32], annotation: NDArray[np.integer[Any]], most: int | None = None
) -> ForegroundSample:
    """Take from a volume what `fit_normalisation_to_foreground` needs.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)``.
    annotation
        ``(Z, Y, X)``.
    most
        Draw this many intensities at random where there are more; None for all.
    """
    channels: list[NDArray[np.float32] | None] = []
    for values in image:
        if _sample(values).min() < _AIR:
            inside = values[annotation > 1]
            if most is not None and len(inside) > most:
                inside = np.random.default_rng(0).choice(inside, most, replace=False)
            channels.append(inside)
        else:
            channels.append(None)
    return ForegroundSample(tuple(channels))


def fit_normalisation_to_foreground(samples: Sequence[ForegroundSample]) -> Normalisation:
    """Choose the normalisation for a set of volumes, as `fit_normalisation` does."""
    windows: list[tuple[float, float, float, float] | None] = []
    for channel in range(len(samples[0].channels)):
        values = [sample.channels[channel] for sample in samples]
        inside = [value for value in values if value is not None]
        if len(inside) == len(values):
            windows.append(_measure_window(np.concatenate(inside), margin=0.25, least=_LEAST_WIDTH))
        else:
            windows.append(None)
    return Normalisation(tuple(windows))


def fit_normalisation(
    images: Sequence[NDArray[np.float32]], annotations: Sequence[NDArray[np.integer[Any]]]
) -> Normalisation:
    """Choose the normalisation for a set of volumes.

    A channel in Hounsfield units (air in every volume) gets one window for all volumes, from the
    labelled foreground's percentiles and a quarter of their range on either side (after Isensee et
    al. 2021, nnU-Net); any other channel is normalised by each volume itself.

    Parameters
    ----------
    images
        ``(C, Z, Y, X)`` each, all with the same C.
    annotations
        ``(Z, Y, X)`` each, on the same grids.
    """
    pairs = zip(images, annotations, strict=True)
    return fit_normalisation_to_foreground([sample_foreground(image, labels) for image, labels in pairs])


def fit_normalisation_to_samples(samples: Sequence[NDArray[np.float32]]) -> Normalisation:
    """Choose the normalisation for a set of volumes in which nothing is labelled.

    As `fit_normalisation` does; all that is not air takes the place of the labelled foreground.

    Parameters
    ----------
    samples
        ``(C, N)`` intensities of each volume, as `sample_voxels` draws them.
    """
    windows: list[tuple[float, float, float, float] | None] = []
    for channel in range(len(samples[0])):
        values = [sample[channel] for sample in samples]
        if all(value.min() < _AIR for value in values):
            inside = np.concatenate([value[value > _AIR] for value in values])
            inside = inside if len(inside) else np.concatenate(values)
            windows.append(_measure_window(inside, margin=0.25, least=_LEAST_WIDTH))
        else:
            windows.append(None)
    return Normalisation(tuple(windows))


def sample_voxels(image: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return ``(C, count)`` intensities of a ``(C, Z, Y, X)`` image, drawn at random; all if it has fewer."""
    flat = image.reshape(len(image), -1)
    if flat.shape[1] <= count:
        return flat.copy()
    return flat[:, np.random.default_rng(0).integers(flat.shape[1], size=count)]


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = values.reshape(-1)
    if flat.size <= _SAMPLE_VOXELS:
        return flat
    # Drawn at random: a fixed step would meet the same column of every row.
    return flat[np.random.default_rng(0).integers(flat.size, size=_SAMPLE_VOXELS)]


def _measure_window(
    values: NDArray[np.float32], margin: float = 0.0, least: float = 0.0
) -> tuple[float, float, float, float]:
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    margin = max(margin * (high - low), (least - (high - low)) / 2)
    low, high = low - margin, high + margin
    if not low < high:  # a constant image
        return low - 1.0, low + 1.0, low, 1.0
    clipped = np.clip(values, low, high)
    deviation = max(float(clipped.std()), least / 8, 1e-6 * (high - low))
    return low, high, float(clipped.mean()), deviation
