"""The simulated annotator: keep of a dense truth only what a person would have labelled."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.strokes import draw_slice_strokes

AXES = "zyx"
_SEED_VARIATION = 0.12


def sparsify_labels(
    truth: NDArray[np.integer[Any]],
    slices: int,
    *,
    orientations: str = AXES,
    style: Literal["slices", "scribbles"] = "slices",
    seed: int = 0,
    unlabelled: int = 255,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NDArray[np.int32]:
    """Keep the labels of a few slices, or strokes on them, and make all else unlabelled.

    Slices are chosen as a person would: through much of every class, classes shown rarely so far
    first, spread over the object, and varied a little by the seed.

    Parameters
    ----------
    truth
        Dense labels ``(Z, Y, X)``, 0 is background.
    slices
        Number of slices in all, dealt out to the orientations in turn, the first letter first.
    orientations
        Letters of the axes that the slices are perpendicular to: z axial, y coronal, x sagittal.
    style
        ``"slices"`` labels every voxel of a slice; ``"scribbles"`` draws strokes on it, as
        `napari_sparseseg.strokes.draw_slice_strokes` says.
    seed
        Start of the random numbers; the same seed gives the same labels.
    unlabelled
        Value for "not labelled"; 0 stays background.
    spacing
        Voxel size in mm ``(Z, Y, X)``.

    Returns
    -------
    ``(Z, Y, X)`` labels that equal `truth` or are `unlabelled`.

    Raises
    ------
    InputError
        If the truth has no foreground, there are fewer slices than asked for, an orientation is
        unknown, or the truth uses the value `unlabelled`.
    """
    values = _check_input(truth, slices, orientations, unlabelled)
    if style not in ("slices", "scribbles"):
        raise InputError(f"the style is slices or scribbles, not {style}.")
    sparse = np.full(truth.shape, unlabelled, np.int32)
    for axis, index in choose_slices(truth, values, slices, orientations, seed, spacing):
        where: list[slice | int] = [slice(None)] * 3
        where[axis] = index
        plane = truth[tuple(where)]
        if style == "slices":
            sparse[tuple(where)] = plane
        else:
            random = np.random.default_rng([seed, axis, index])
            strokes = draw_slice_strokes(plane, random)
            sparse[tuple(where)][strokes] = plane[strokes]
    return sparse


def choose_slices(
    truth: NDArray[np.integer[Any]],
    values: list[int],
    number: int,
    orientations: str,
    seed: int,
    spacing: tuple[float, float, float],
) -> Iterator[tuple[int, int]]:
    """Yield ``(axis, index)`` of the slices to label, best first within the turn of orientations.

    A slice is worth, for each class, the root of its area as a share of the largest area of that class
    on that axis, divided by how much of the class earlier slices have shown.  It is worth less the
    nearer it lies to a slice of its orientation already taken.
    """
    random = np.random.default_rng(seed)
    turns = [AXES.index(orientations[turn % len(orientations)]) for turn in range(number)]
    worth = {axis: _class_shares(truth, values, axis) for axis in set(turns)}
    variation = {
        axis: random.uniform(1 - _SEED_VARIATION, 1, truth.shape[axis]) for axis in sorted(set(turns))
    }
    taken: dict[int, list[int]] = {axis: [] for axis in set(turns)}
    shown = np.zeros(len(values))
    for axis in turns:
        shares = worth[axis]
        score = (np.sqrt(shares) / (1 + shown)).sum(axis=1) * variation[axis]
        present = np.flatnonzero(shares.any(axis=1))
        wanted_gap = (np.ptp(present) + 1) * spacing[axis] / (turns.count(axis) + 1)
        distance = _distance_to_taken(truth.shape[axis], taken[axis]) * spacing[axis]
        score *= np.minimum(1, distance / wanted_gap) ** 2
        # Slices without foreground come last, those far from the labelled ones first.
        score += 1e-9 * np.minimum(distance, 1e6)
        score[taken[axis]] = -1
        best = int(score.argmax())
        taken[axis].append(best)
        shown += shares[best]
        yield axis, best


def _check_input(
    truth: NDArray[np.integer[Any]], slices: int, orientations: str, unlabelled: int
) -> list[int]:
    """Return the foreground values."""
    if truth.ndim != 3:
        raise InputError(f"the labels need three axes, not {truth.ndim}.")
    if not orientations or set(orientations) - set(AXES):
        raise InputError(f"orientations are letters of {AXES}, not {orientations!r}.")
    if slices < 1:
        raise InputError(f"at least one slice must be labelled, not {slices}.")
    turns = [orientations[turn % len(orientations)] for turn in range(slices)]
    for letter in set(orientations):
        available = truth.shape[AXES.index(letter)]
        if turns.count(letter) > available:
            raise InputError(
                f"{turns.count(letter)} slices along {letter} were asked for, but there are only "
                f"{available}; ask for fewer slices or more orientations."
            )
    values = sorted({int(value) for plane in truth for value in np.unique(plane)})
    if unlabelled in values or unlabelled == 0:
        raise InputError(
            f"{unlabelled} cannot mean unlabelled because the labels use it; choose another value."
        )
    foreground = [value for value in values if value != 0]
    if not foreground:
        raise InputError("the labels are all 0 (background), so there is nothing to learn from.")
    return foreground


def _class_shares(truth: NDArray[np.integer[Any]], values: list[int], axis: int) -> NDArray[np.float64]:
    """Return each class's area per slice as a share of its largest, ``(slices, classes)``."""
    others = tuple(other for other in range(3) if other != axis)
    areas = np.stack([np.count_nonzero(truth == value, axis=others) for value in values], axis=1)
    return np.asarray(areas / areas.max(axis=0), np.float64)


def _distance_to_taken(size: int, taken: list[int]) -> NDArray[np.float64]:
    if not taken:
        return np.full(size, np.inf)
    gaps = np.abs(np.arange(size)[:, None] - np.asarray(taken))
    return np.asarray(gaps.min(axis=1), np.float64)
