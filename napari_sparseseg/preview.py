"""The instant classifier: a first picture within seconds, and a teacher for the network.

Voxels are described by their grey value at several scales in mm (value, gradient magnitude, Hessian
eigenvalues; Sommer et al. 2011, ilastik) and, where it helps, by their position.  Which classifier,
and whether position enters, is decided by leaving each labelled slice out in turn.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from napari_sparseseg.annotation import OverlapCounter, find_labelled_slices
from napari_sparseseg.features import FeatureVolume, Floats, Spacing
from napari_sparseseg.networks import to_triple
from napari_sparseseg.random_walker import walk_from_labels
from napari_sparseseg.resampling import resample_image, resample_labels, resample_slabs

CONFIDENT = 0.6
"""Class probability above which a voxel of the preview teaches the network."""

WALKER_HARMS = 0.02
"""Loss of Dice on held-out labels from which on a random walk is left out; less is chance."""

_FIT_VOXELS = 20_000
_TRIAL_VOXELS = 6_000
_MOST_FOLDS = 5
_GRID_VOXELS = 8_000_000


def _logistic_regression(seed: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=150, random_state=seed))


def _forest(seed: int) -> Any:
    return ExtraTreesClassifier(60, min_samples_leaf=2, max_features=0.4, n_jobs=-1, random_state=seed)


def _boosting(seed: int) -> Any:
    return HistGradientBoostingClassifier(
        max_iter=50, learning_rate=0.15, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )


PREVIEW_METHODS: dict[str, Callable[[int], Any]] = {
    "logistic regression": _logistic_regression,
    "forest": _forest,
    "boosting": _boosting,
}
"""Name → maker of a scikit-learn classifier with `fit` and `predict_proba` from a seed."""


@dataclass(frozen=True)
class PreviewChoice:
    """How a preview is made.

    Attributes
    ----------
    method
        Key of `PREVIEW_METHODS`.
    position
        Whether the voxel's position is a feature.
    held_out_dice
        The classifier's mean Dice on slices left out of its fit; None where that could not be tried.
    walked
        Whether a random walker refines the classifier's answer.
    """

    method: str
    position: bool
    held_out_dice: float | None = None
    walked: bool = True

    @property
    def name(self) -> str:
        """The choice in words."""
        return f"{self.method} {'with' if self.position else 'without'} position"


FIRST_CHOICE = PreviewChoice("forest", False)
"""Taken while nothing can be tried."""


@dataclass(frozen=True, eq=False)
class Preview:
    """Class probabilities of the instant classifier.

    Attributes
    ----------
    probabilities
        ``(K, Z, Y, X)`` float16, channel 0 = background.
    choice
        The classifier behind them.
    """

    probabilities: NDArray[np.float16]
    choice: PreviewChoice


def choose_classifier(
    annotation: NDArray[np.integer[Any]],
    features: FeatureVolume,
    classes: int,
    seed: int,
    out_of_time: Callable[[], bool] = lambda: False,
) -> PreviewChoice:
    """Try every classifier, with and without position, on each labelled slice after fitting it to the others.

    No further slice is left out once `out_of_time` says so.
    With a single labelled slice nothing can be tried: then a forest without position is chosen, which
    cannot mistake the slice's place for a property of its classes.
    """
    best = FIRST_CHOICE
    for choice in try_classifiers(annotation, features, classes, seed):
        best = choice
        if out_of_time():
            break
    return best


def try_classifiers(
    annotation: NDArray[np.integer[Any]],
    features: FeatureVolume,
    classes: int,
    seed: int,
    methods: Mapping[str, Callable[[int], Any]] = PREVIEW_METHODS,
) -> Iterator[PreviewChoice]:
    """Yield the choice after each labelled slice that was left out; nothing where none can be."""
    random = np.random.default_rng(seed)
    units = find_labelled_slices(annotation)
    channels = annotation.reshape(-1).astype(np.int64) - 1
    candidates = [PreviewChoice(m, p) for m in methods for p in (False, True)]
    counters = [OverlapCounter(classes) for _ in candidates]
    for fold in range(min(len(units), _MOST_FOLDS) if len(units) > 1 else 0):
        rest = np.concatenate([unit.voxels for unit in units[:fold] + units[fold + 1 :]])
        if len(np.unique(channels[rest])) < 2:
            continue
        fit = draw_balanced(rest, channels, _TRIAL_VOXELS, random)
        test = random.permutation(units[fold].voxels)[:_TRIAL_VOXELS]
        fit_rows, test_rows = features.at(fit), features.at(test)
        for candidate, counter in zip(candidates, counters, strict=True):
            model = methods[candidate.method](seed)
            model.fit(select_columns(fit_rows, candidate.position), channels[fit])
            counter.add(channels[test], model.predict(select_columns(test_rows, candidate.position)))
        scores = [counter.mean_dice() for counter in counters]
        best = int(np.argmax(scores))
        yield replace(candidates[best], held_out_dice=scores[best])


def classify_volume(
    annotation: NDArray[np.integer[Any]],
    features: FeatureVolume,
    classes: int,
    choice: PreviewChoice,
    seed: int,
) -> Floats:
    """Fit the chosen classifier to the labelled voxels and return ``(K, Z, Y, X)`` probabilities.

    Parameters
    ----------
    annotation
        ``(Z, Y, X)`` on the grid of `features`, with at least two classes labelled.
    features
        The volume's features.
    classes
        Number of classes K, background included.
    choice
        Classifier, and whether position enters.
    seed
        Start of the random numbers.
    """
    channels = annotation.reshape(-1).astype(np.int64) - 1
    random = np.random.default_rng(seed)
    voxels = draw_balanced(np.flatnonzero(channels >= 0), channels, _FIT_VOXELS, random)
    model = PREVIEW_METHODS[choice.method](seed)
    model.fit(select_columns(features.at(voxels), choice.position), channels[voxels])
    probabilities = np.zeros((classes, *features.shape), np.float32)
    for first, last in features.slabs():
        predicted = model.predict_proba(select_columns(features.compute((first, last)), choice.position))
        shape = probabilities[0, first:last].shape
        for column, channel in enumerate(model.classes_):
            probabilities[channel, first:last] = predicted[:, column].reshape(shape)
    return probabilities


def select_columns(rows: Floats, position: bool) -> Floats:
    """Return the features of `FeatureVolume.at` with or without the position."""
    return rows if position else rows[:, :-3]


def draw_balanced(
    voxels: NDArray[np.int64], channels: NDArray[np.int64], number: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw at most `number` of `voxels`, evenly over the classes as far as they reach."""
    groups = [voxels[channels[voxels] == c] for c in np.unique(channels[voxels])]
    drawn = []
    for left, group in zip(range(len(groups), 0, -1), sorted(groups, key=len), strict=True):
        share = min(len(group), number // left)
        drawn.append(random.permutation(group)[:share])
        number -= share
    return np.concatenate(drawn)


class PreviewTeacher:
    """Makes the pictures of one volume, and of them labels for the network.

    A volume of more than eight million voxels is classified on a coarser grid.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` normalised intensities.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    classes
        Number of classes K, background included.
    seed
        Start of the random numbers.
    """

    def __init__(self, image: Floats, spacing: Spacing, classes: int, seed: int) -> None:
        self._shape = to_triple(image.shape[1:])
        factor = int(np.ceil((np.prod(self._shape) / _GRID_VOXELS) ** (1 / 3)))
        self._grid = to_triple(-(-length // factor) for length in self._shape)
        if self._grid != self._shape:
            image = resample_image(image, self._grid)
        z, y, x = (s * a / b for s, a, b in zip(spacing, self._shape, self._grid, strict=True))
        self._features = FeatureVolume(image, (z, y, x))
        self._classes = classes
        self._seed = seed

    def choose(
        self, annotation: NDArray[np.integer[Any]], out_of_time: Callable[[], bool] = lambda: False
    ) -> PreviewChoice:
        """Choose a classifier by leaving labelled slices of `annotation` out, while there is time."""
        annotation = self._on_grid(annotation)
        return choose_classifier(annotation, self._features, self._classes, self._seed, out_of_time)

    def picture(
        self,
        annotation: NDArray[np.integer[Any]],
        choice: PreviewChoice,
        held_out: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> Preview | None:
        """Fit to `annotation` and classify the volume; None with fewer than two classes labelled.

        The classifier's probabilities are the prior of a random walker from the labelled voxels, where
        that helps: it mends most organs and ruins what is thin.

        Parameters
        ----------
        annotation
            ``(Z, Y, X)``.
        choice
            The classifier, and whether the random walker follows.
        held_out
            Flat indices and channels of labels that `annotation` lacks; they decide about the walker.
        """
        if len(np.unique(annotation[annotation > 0])) < 2:
            return None
        annotation = self._on_grid(annotation)
        prior = classify_volume(annotation, self._features, self._classes, choice, self._seed)
        plain = self._off_grid(prior.astype(np.float16))
        if not choice.walked:
            return Preview(plain, choice)
        walked = walk_from_labels(self._features.image, annotation, prior, self._features.spacing)
        walked_too = self._off_grid(walked.astype(np.float16))
        if held_out is not None:
            alone, with_walker = (self._score(p, *held_out) for p in (plain, walked_too))
            if alone > with_walker + WALKER_HARMS:
                return Preview(plain, replace(choice, walked=False))
        return Preview(walked_too, choice)

    def _score(
        self, probabilities: NDArray[np.float16], voxels: NDArray[np.int64], truth: NDArray[np.int64]
    ) -> float:
        counter = OverlapCounter(self._classes)
        counter.add(truth, probabilities.reshape(self._classes, -1)[:, voxels].argmax(0))
        return counter.mean_dice()

    def _on_grid(self, annotation: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        return annotation if self._grid == self._shape else resample_labels(annotation, self._grid)

    def _off_grid(self, probabilities: NDArray[np.float16]) -> NDArray[np.float16]:
        if self._grid == self._shape:
            return probabilities
        whole = np.empty((self._classes, *self._shape), np.float16)
        for first, slab in resample_slabs(torch.from_numpy(probabilities), self._shape):
            whole[:, first : first + slab.shape[1]] = slab.numpy()
        return whole


def confident_labels(preview: Preview | None, annotation: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return a preview's confident voxels as an annotation; 0 where it is unsure or the user has labelled."""
    if preview is None:
        return np.zeros(annotation.shape, np.uint8)
    sure = (preview.probabilities.max(0) > CONFIDENT) & (annotation == 0)
    return np.where(sure, preview.probabilities.argmax(0) + 1, 0).astype(np.uint8)
