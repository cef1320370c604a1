"""The instant classifier inside a live session: refitted at each stroke, asked box by box."""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.cases import Region
from napari_sparseseg.events import WindowDone
from napari_sparseseg.features import FeatureVolume, Floats, Spacing
from napari_sparseseg.networks import to_triple
from napari_sparseseg.preview import (
    PREVIEW_METHODS,
    PreviewChoice,
    draw_balanced,
    select_columns,
    try_classifiers,
)
from napari_sparseseg.regions import relative
from napari_sparseseg.resampling import resample_image, resample_labels

_GRID_VOXELS = 4_000_000
_FIT_VOXELS = 8_000
_KEPT_ANSWERS = 100_000_000
_FAST_METHODS = ("logistic regression", "forest")  # boosting takes several times longer to answer


@dataclass(frozen=True, eq=False)
class FittedPreview:
    """A classifier fitted to the labels of a moment, how it was chosen, and what it has answered so far.

    Attributes
    ----------
    model
        A scikit-learn classifier.
    choice
        How it was chosen.
    kept
        The box whose answers are remembered.
    answers
        ``(K, …)`` float16 class probabilities in it; None where that takes too much memory.
    answered
        Which slices of them, along the first axis, are there.
    """

    model: Any
    choice: PreviewChoice
    kept: Region
    answers: NDArray[np.float16] | None
    answered: NDArray[np.bool_]


class LivePreview:
    """Features of a region, and classifiers on them.

    A region of more than four million voxels times channels is described on a coarser grid, and the
    answers are interpolated.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` normalised intensities of the whole volume.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    region
        The box of the volume to look at.
    seed
        Start of the random numbers.
    """

    def __init__(self, image: Floats, spacing: Spacing, region: Region, seed: int) -> None:
        part = image[(slice(None), *region)]
        self.region = region
        self.shape = to_triple(part.shape[1:])
        factor = math.ceil((len(part) * math.prod(self.shape) / _GRID_VOXELS) ** (1 / 3))
        self._grid = to_triple(-(-length // factor) for length in self.shape)
        if self._grid != self.shape:
            part = resample_image(part, self._grid)
        z, y, x = (s * a / b for s, a, b in zip(spacing, self.shape, self._grid, strict=True))
        self._features = FeatureVolume(part, (z, y, x), keep=True)
        self._seed = seed

    @property
    def coarse(self) -> bool:
        """Whether the grid is coarser than the volume's."""
        return self._grid != self.shape

    def prepare(self) -> Generator[WindowDone, None, None]:
        """Compute the features slab by slab, so that a stroke can be answered at once."""
        slabs = self._features.slabs()
        for done, slab in enumerate(slabs, start=1):
            self._features.compute(slab)
            yield WindowDone(done, len(slabs))

    def fit(
        self, annotation: NDArray[np.uint8], classes: int, choice: PreviewChoice, keep: Region
    ) -> FittedPreview:
        """Fit to the labels in the region, at least two classes among them.

        Parameters
        ----------
        annotation
            ``(Z, Y, X)`` of the whole volume: 0 unlabelled, 1 background, 2… classes.
        classes
            Number of classes K, background included.
        choice
            The classifier.
        keep
            Remember the answers of whole slices of this box.
        """
        channels = self._on_grid(annotation).reshape(-1).astype(np.int64) - 1
        random = np.random.default_rng(self._seed)
        voxels = draw_balanced(np.flatnonzero(channels >= 0), channels, _FIT_VOXELS, random)
        model = _make_classifier(choice.method, self._seed)
        model.fit(select_columns(self._features.at(voxels), choice.position), channels[voxels])
        shape = to_triple(edge.stop - edge.start for edge in keep)
        remembers = classes * math.prod(shape) <= _KEPT_ANSWERS
        answers = np.empty((classes, *shape), np.float16) if remembers else None
        return FittedPreview(model, choice, keep, answers, np.zeros(shape[0], bool))

    def try_choices(self, annotation: NDArray[np.uint8], classes: int) -> Iterator[PreviewChoice]:
        """Leave out one labelled slice after the other; yield the choice so far after each."""
        methods: dict[str, Callable[[int], Any]] = {
            name: lambda seed, name=name: _make_classifier(name, seed)  # type: ignore[misc]
            for name in _FAST_METHODS
        }
        return try_classifiers(self._on_grid(annotation), self._features, classes, self._seed, methods)

    def answer(self, fitted: FittedPreview, box: Region, classes: int) -> Floats:
        """Return ``(K, …)`` class probabilities in `box`, in the volume's voxels."""
        inner = relative(box, fitted.kept)
        slices = inner[0]
        whole = box[1:] == fitted.kept[1:]
        if fitted.answers is None or not (whole or fitted.answered[slices].all()):
            return self._classify(fitted, box, classes)
        for first, stop in _runs(~fitted.answered[slices]):
            missing = (slice(box[0].start + first, box[0].start + stop), *box[1:])
            place = slice(slices.start + first, slices.start + stop)
            fitted.answers[:, place] = self._classify(fitted, missing, classes)
            fitted.answered[place] = True
        return fitted.answers[(slice(None), *inner)].astype(np.float32)

    def _classify(self, fitted: FittedPreview, box: Region, classes: int) -> Floats:
        axes = [
            _Interpolation(edge, length, grid)
            for edge, length, grid in zip(relative(box, self.region), self.shape, self._grid, strict=True)
        ]
        z, y, x = (axis.grid_voxels for axis in axes)
        flat = (z[:, None, None] * self._grid[1] + y[:, None]) * self._grid[2] + x
        rows = select_columns(self._features.at(flat.reshape(-1)), fitted.choice.position)
        predicted = fitted.model.predict_proba(rows)
        probabilities = np.zeros((classes, *flat.shape), np.float32)
        for column, channel in enumerate(fitted.model.classes_):
            probabilities[channel] = predicted[:, column].reshape(flat.shape)
        if self.coarse:
            for number, axis in enumerate(axes, start=1):
                probabilities = axis.apply(probabilities, number)
        return probabilities

    def _on_grid(self, annotation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        inside = annotation[self.region]
        return resample_labels(inside, self._grid) if self.coarse else inside


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and stop of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


class _Interpolation:
    """Linear interpolation along one axis from the grid's voxels to those of the volume."""

    def __init__(self, edge: slice, length: int, grid: int) -> None:
        centres = (np.arange(edge.start, edge.stop) + 0.5) * grid / length - 0.5
        centres = centres.clip(0, grid - 1)
        below = np.floor(centres).astype(np.int64)
        above = np.minimum(below + 1, grid - 1)
        self.grid_voxels = np.arange(below[0], above[-1] + 1)
        self._below, self._above = below - below[0], above - below[0]
        self._share = (centres - below).astype(np.float32)
        if grid == length:
            self.grid_voxels = np.arange(edge.start, edge.stop)

    def apply(self, values: Floats, axis: int) -> Floats:
        shape = [1] * values.ndim
        shape[axis] = -1
        share = self._share.reshape(shape)
        low, high = values.take(self._below, axis), values.take(self._above, axis)
        interpolated: Floats = low + (high - low) * share
        return interpolated


def _make_classifier(method: str, seed: int) -> Any:
    """Make a classifier that leaves a core to the GUI, as the network does."""
    model = PREVIEW_METHODS[method](seed)
    if "n_jobs" in model.get_params():
        model.set_params(n_jobs=torch.get_num_threads())
    return model
