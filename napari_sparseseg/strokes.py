"""Simulated scribbles: strokes inside and along the border of each class of a slice.

They imitate the protocol of ScribbleBench (Gotkowski et al. 2024, arXiv:2403.12834): per class,
background too, one stroke through the interior and one along the border, a little inward.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric

BORDER_SHARE = (0.15, 0.4)
"""Smallest and largest part of a contour that a border stroke follows."""
MAXIMUM_DEPTH = 3
"""How many pixels inward of the contour a border stroke may run."""
_NEIGHBOURHOOD_SHARE = 0.25
_MINIMUM_NEIGHBOURHOOD = 6.0
_WIDTHS = (1, 2, 3)

_Mask = NDArray[np.bool_]


def draw_slice_strokes(labels: NDArray[np.integer[Any]], random: np.random.Generator) -> _Mask:
    """Draw strokes on one slice of dense labels.

    Every class gets an interior stroke of about its diameter, which follows its middle, and a border
    stroke along 15–40 % of its contour, 1–3 pixels inward; both are 1–3 pixels wide.  Background gets
    both in the neighbourhood of the foreground and an interior stroke in the rest of the slice.  No
    stroke leaves its class.

    Parameters
    ----------
    labels
        ``(rows, columns)``, 0 is background.
    random
        Source of all variation.

    Returns
    -------
    ``(rows, columns)`` where there is a stroke; the class is that of `labels` there.
    """
    strokes = np.zeros(labels.shape, bool)
    foreground = labels != 0
    for value in np.unique(labels[foreground]):
        region = labels == value
        strokes |= _draw_interior(region, random) | _draw_border(region, region, random)
    background = ~foreground
    if not foreground.any():
        return _draw_interior(background, random)
    distance = ndimage.distance_transform_edt(background)
    reach = max(_MINIMUM_NEIGHBOURHOOD, _NEIGHBOURHOOD_SHARE * _diameter(foreground))
    near = background & (distance <= reach)
    far = background & (distance > reach)
    strokes |= _draw_interior(near, random) | _draw_border(background, near, random)
    strokes |= _draw_interior(far, random, 2 * _diameter(foreground))
    return strokes


def _diameter(region: _Mask) -> float:
    """Return the diameter in pixels of the disc of equal area."""
    return float(2 * np.sqrt(np.count_nonzero(region) / np.pi))


def _choose_part(region: _Mask, random: np.random.Generator) -> _Mask:
    """Pick one connected part, a large one more probably."""
    parts, number = ndimage.label(region)
    if number <= 1:
        return region
    areas = np.bincount(parts.ravel())[1:].astype(float) ** 2
    return np.asarray(parts == 1 + random.choice(number, p=areas / areas.sum()), bool)


def _draw_interior(region: _Mask, random: np.random.Generator, longest: float | None = None) -> _Mask:
    """Draw along the middle of one part of `region`, for about the diameter of the region."""
    if not region.any():
        return np.zeros_like(region)
    part = _choose_part(region, random)
    inside = _distance_inside(part)
    start = _random_pixel(part, random)
    # Twice to the farthest pixel gives the two ends of the part (exact on a tree, good on a blob).
    first = _farthest(part, start)
    second = _farthest(part, first)
    cost = np.where(part, 1 + 20 / inside.clip(1) ** 2, np.inf)
    paths = MCP_Geometric(cost)
    paths.find_costs([first], [second])
    path = paths.traceback(second)
    length = max(1, round(min(_diameter(region), longest or np.inf) * random.uniform(0.8, 1.0)))
    excess = max(0, len(path) - length)
    # Some play off the exact middle, as nobody starts at the very end of an organ.
    offset = round(excess * random.uniform(0.35, 0.65))
    return _thicken(path[offset : offset + length], part, random)


def _draw_border(region: _Mask, within: _Mask, random: np.random.Generator) -> _Mask:
    """Draw along a piece of the contour of `region`, on the pixels of `within`.

    The border of the slice is no contour.
    """
    inside = _distance_inside(region)
    inside[~within] = 0
    if not inside.any() or not np.isfinite(inside[within]).all():
        return np.zeros_like(region)
    depth = min(int(random.integers(1, MAXIMUM_DEPTH + 1)), int(np.ceil(inside.max())))
    band = _choose_part_by_corners((inside > depth - 1) & (inside <= depth), random)
    pixels = round(np.count_nonzero(band) * random.uniform(*BORDER_SHARE))
    walked = _walk(band, _random_pixel(band, random))
    order = np.argsort(walked, axis=None, kind="stable")[: max(1, pixels)]
    path = list(zip(*np.unravel_index(order, band.shape), strict=True))
    return _thicken(path, region, random)


def _choose_part_by_corners(band: _Mask, random: np.random.Generator) -> _Mask:
    """Pick one part of a thin line, whose pixels may touch at corners only."""
    parts, number = ndimage.label(band, np.ones((3, 3)))
    lengths = np.bincount(parts.ravel())[1:].astype(float)
    return np.asarray(parts == 1 + random.choice(number, p=lengths / lengths.sum()), bool)


def _distance_inside(region: _Mask) -> NDArray[np.float64]:
    """Return the distance to the nearest pixel outside `region`; infinite where there is none."""
    if region.all():
        return np.full(region.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(region), np.float64)


def _random_pixel(mask: _Mask, random: np.random.Generator) -> tuple[int, int]:
    row, column = np.unravel_index(random.choice(np.flatnonzero(mask)), mask.shape)
    return int(row), int(column)


def _walk(mask: _Mask, start: tuple[int, int]) -> NDArray[np.float64]:
    """Return the distance in pixels from `start` within `mask`; infinite outside and out of reach."""
    paths = MCP_Geometric(np.where(mask, 1.0, np.inf))
    lengths, _ = paths.find_costs([start])
    return np.asarray(lengths, np.float64)


def _farthest(mask: _Mask, start: tuple[int, int]) -> tuple[int, int]:
    lengths = _walk(mask, start)
    lengths[~np.isfinite(lengths)] = -1
    row, column = np.unravel_index(lengths.argmax(), mask.shape)
    return int(row), int(column)


def _thicken(path: list[tuple[int, int]], region: _Mask, random: np.random.Generator) -> _Mask:
    """Draw `path` 1–3 pixels wide without leaving `region`."""
    line = np.zeros_like(region)
    line[tuple(np.transpose(path))] = True
    width = int(random.choice(_WIDTHS))
    if width > 1:
        line = ndimage.binary_dilation(line, np.ones((width, width)))
    return np.asarray(line & region, bool)
