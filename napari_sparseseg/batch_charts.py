"""How the volumes of a batch are distributed, as SVG for a page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sparseseg.batch_page import show_text
from napari_sparseseg.batch_triage import Spread

_WIDTH, _HEIGHT, _FLOOR = 360, 84, 64
_SIDE = 8  # left free beside the axis
_BARS = 36
_BAR_HEIGHT = 44
_AXIS_REACH = 1.6  # times the distance of the fences; beyond, marks stand at the end of the axis
_MOST_MARKS = 60


@dataclass(frozen=True)
class MarkedVolume:
    """A case that stands out: its name and millilitres."""

    name: str
    ml: float


def draw_volumes(
    title: str,
    color: str,
    volumes: Sequence[float],
    spread: Spread,
    training: tuple[float, float] | None,
    marked: Sequence[MarkedVolume],
) -> str:
    """Return an ``<svg>``: a histogram, the training's range as a band, and marks where cases stand out.

    Parameters
    ----------
    title
        For screen readers; any text.
    color
        ``#rrggbb``.
    volumes
        Millilitres, at least one, positive and finite.
    spread
        Theirs.
    training
        Least and largest millilitres of the training cases.
    marked
        Cases that stand out.
    """
    edges = _choose_edges(np.asarray(volumes), spread, training)
    low, high = edges
    counts, _ = np.histogram(np.clip(volumes, low, high), _BARS, edges)
    bar_width = (_WIDTH - 2 * _SIDE) / _BARS
    bars = "".join(
        f"M{_SIDE + bar_width * bar:.1f} {_FLOOR}v-{max(2.0, _BAR_HEIGHT * count / counts.max()):.1f}"
        f"h{bar_width - 1:.1f}V{_FLOOR}z"
        for bar, count in enumerate(counts)
        if count
    )
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{show_text(title)}">']
    if training:
        left, right = (_place(number, edges) for number in training)
        wide = max(2.0, right - left)
        parts.append(
            f'<rect class="band" x="{left:.1f}" y="10" width="{wide:.1f}" height="{_FLOOR - 10}">'
            f"<title>training cases: {training[0]:.3g}–{training[1]:.3g} ml</title></rect>"
        )
    parts.append(f'<path fill="{show_text(color)}" d="{bars}"/>')
    parts.append(f'<path class="axis" d="M{_SIDE} {_FLOOR + 0.5}H{_WIDTH - _SIDE}"/>')
    for mark in marked[:_MOST_MARKS]:
        parts.append(
            f'<path class="mark" d="M{_place(mark.ml, edges):.1f} {_FLOOR + 1}l4 8h-8z">'
            f"<title>{show_text(mark.name)}: {mark.ml:.3g} ml</title></path>"
        )
    parts.append(
        f'<text x="{_SIDE}" y="{_HEIGHT - 1}">{low:.3g} ml</text>'
        f'<text x="{_WIDTH - _SIDE}" y="{_HEIGHT - 1}" text-anchor="end">{high:.3g} ml</text></svg>'
    )
    return "".join(parts)


def _choose_edges(
    volumes: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    spread: Spread,
    training: tuple[float, float] | None,
) -> tuple[float, float]:
    """Return the ends of the axis: all volumes, but for those that would make one bar of the others."""
    low, high = float(volumes.min()), float(volumes.max())
    if np.isfinite(spread.fences).all():
        low = max(low, spread.middle - _AXIS_REACH * (spread.middle - spread.fences[0]))
        high = min(high, spread.middle + _AXIS_REACH * (spread.fences[1] - spread.middle))
    if training:
        reach = max(high - low, 0.5 * high)
        low, high = min(low, max(training[0], low - reach)), max(high, min(training[1], high + reach))
    room = max(0.03 * (high - low), 0.01 * abs(high), 1e-9)
    return max(0.0, low - room), high + room


def _place(number: float, edges: tuple[float, float]) -> float:
    low, high = edges
    share = min(1.0, max(0.0, (number - low) / (high - low)))
    return _SIDE + share * (_WIDTH - 2 * _SIDE)
