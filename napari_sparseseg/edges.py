"""Where an image has edges, in place of a learned edge detector.

Khoreva et al. 2017 ("Simple Does It") take the boundaries of HED (Xie & Tu 2015), a network for
photographs; for volumes this is the gradient magnitude at several scales (Lindeberg 1998).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]

_SCALES = (1.0, 2.0, 4.0)  # in units of the finest voxel edge
_QUANTILE = 0.85  # above it all edges are equally sure: a rib must not make the liver's border look faint
_NOTHING = 1e-3  # share of the strongest gradient; empty surroundings do not count for the quantile
_CONTRAST_RANGE = 2.0  # spreads; beyond, contrast is damped
_LEAST_SPREAD = 0.05  # of the standard deviation
_ROUNDING = 1e-5  # smaller than this share of the largest value, differences are float32's rounding


def find_edges(
    image: NDArray[np.floating], spacing: Spacing, scales_mm: Sequence[float] | None = None
) -> Floats:
    """Measure how strong an edge runs through each voxel.

    The gradient magnitude is taken per mm and multiplied by its scale, so that a step counts the same at
    each scale; over channels it is the root of the sum of squares, over scales the mean. Intensities far
    from a channel's median are damped before, so that air and bone do not dwarf the borders of organs. 1 is
    the 85th percentile of the image and all above it.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)``, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    scales_mm
        Standard deviations of the Gaussians in mm; default: 1, 2 and 4 times the finest spacing.

    Returns
    -------
    ``(Z, Y, X)`` in 0 to 1; all 0 for a constant image. It stays the same when a channel's intensities
    are shifted or multiplied by a positive number and, with the default scales, when all of `spacing` is
    multiplied.
    """
    scales = [scale * min(spacing) for scale in _SCALES] if scales_mm is None else list(scales_mm)
    damped = [channel for channel in map(_damp, image) if channel is not None]
    strength = np.zeros(image.shape[1:], np.float32)
    for scale in scales:
        squares = np.zeros_like(strength)
        for channel in damped:
            squares += _squared_gradient(channel, spacing, scale)
        strength += np.sqrt(squares)
    strongest = float(strength.max(initial=0.0))
    if not strongest:
        return strength
    level = np.quantile(strength[strength > _NOTHING * strongest], _QUANTILE)
    return np.asarray(np.minimum(strength / level, 1), np.float32)


def _damp(channel: NDArray[np.floating]) -> Floats | None:
    """Return the channel in -1 to 1, most of it where most intensities are; None where it is constant."""
    values = channel.astype(np.float64)
    deviation = float(values.std()) if values.size else 0.0
    if deviation <= _ROUNDING * float(np.abs(values).max(initial=0.0)):
        return None
    centre = float(np.median(values))
    spread = typical_spread(values, centre, deviation)
    return np.asarray(np.tanh((values - centre) / (_CONTRAST_RANGE * spread)), np.float32)


def typical_spread(values: NDArray[np.floating], centre: float, deviation: float) -> float:
    """Return a spread between the robust one of `values` round `centre` and the standard `deviation` of all.

    The first alone would blow up noise, the second would let air and bone dwarf soft tissue.
    """
    robust = 1.4826 * float(np.median(np.abs(values - centre)))
    return float(np.sqrt(max(robust, _LEAST_SPREAD * deviation) * deviation))


def _squared_gradient(channel: Floats, spacing: Spacing, scale: float) -> Floats:
    sigmas = [
        scale / step if length > 1 else 0.0 for step, length in zip(spacing, channel.shape, strict=True)
    ]
    # Differences of the smooth volume: a Gaussian's own derivative vanishes between coarse slices.
    smooth = ndimage.gaussian_filter(channel, sigmas, mode="nearest", truncate=3.0)
    total = np.zeros_like(channel)
    for axis, step in enumerate(spacing):
        if channel.shape[axis] > 1:
            total += (np.gradient(smooth, axis=axis) * np.float32(scale / step)) ** 2
    return total
