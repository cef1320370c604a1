"""The instant classifier of a live session: fitted to its labels, chosen and checked on labels held out."""

from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import choose_held_out, find_labelled_slices
from napari_sparseseg.cases import Region
from napari_sparseseg.events import Event
from napari_sparseseg.features import Floats, Spacing
from napari_sparseseg.live_answer import LiveAnswer, score_held_out
from napari_sparseseg.live_labels import LiveLabels
from napari_sparseseg.live_preview import FittedPreview, LivePreview
from napari_sparseseg.live_round import LiveRound
from napari_sparseseg.preview import FIRST_CHOICE, PreviewChoice
from napari_sparseseg.regions import contains


class LiveClassifier:
    """Keeps a classifier that fits the labels of the moment.

    Parameters
    ----------
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    labels
        The labels.
    seed
        Start of the random numbers.
    share
        Of the labels, held out to see whether random walks help.

    Attributes
    ----------
    fitted
        The classifier; None without labels of two classes.
    choice
        How it is made.
    walked
        Whether a random walk follows it; not before that was measured.
    slices
        Number of slices that the labels lie in.
    """

    def __init__(self, spacing: Spacing, labels: LiveLabels, seed: int, share: float) -> None:
        self._spacing, self._labels, self._seed, self._share = spacing, labels, seed, share
        self.fitted: FittedPreview | None = None
        self.choice = self._best = FIRST_CHOICE
        self.walked = False
        self.slices = 0
        self._partial: FittedPreview | None = None
        self._trial: Iterator[PreviewChoice] | None = None

    def describe(self, image: Floats, region: Region) -> Generator[Event, None, None]:
        """Compute the features of a region of ``(C, Z, Y, X)`` normalised intensities."""
        preview = LivePreview(image, self._spacing, region, self._seed)
        yield from preview.prepare()
        self._image, self._preview = image, preview
        self.slices, self._trial = 0, None

    def look_at(self, image: Floats, region: Region) -> Generator[Event, None, None]:
        """Use `image` from now on; describe `region` anew where that tells more than is known."""
        if self._preview.coarse or not contains(self._preview.region, region):
            yield from self.describe(image, region)
        self._image = image

    def fit(self, region: Region) -> None:
        """Fit to all labels, to answer in `region`."""
        annotation, classes = self._labels.annotation, len(self._labels.table)
        self.fitted = self._preview.fit(annotation, classes, self.choice, region)
        self._partial = None
        own = self._labels.own()
        slices = len(find_labelled_slices(own))
        if slices != self.slices:
            self.slices = slices
            self._trial = self._preview.try_choices(own, classes)

    def configure(self, seed: int, share: float) -> None:
        """Change the random numbers' start and the share held out, from the next decision on."""
        self._seed, self._share = seed, share

    def forget_partial(self) -> None:
        """Other labels are held out now."""
        self._partial = None

    def fit_without(self, held_out: NDArray[np.int64], region: Region) -> FittedPreview | None:
        """Return a classifier fitted to the labels not held out; None where that cannot be."""
        if self._partial is None:
            kept = self._labels.annotation.copy()
            kept.reshape(-1)[held_out] = 0
            if _has_two_classes(kept[self._preview.region]):
                self._partial = self._preview.fit(kept, len(self._labels.table), self.choice, region)
        return self._partial

    def answer(
        self, fitted: FittedPreview, region: Region, network: LiveRound | None, shown: str
    ) -> LiveAnswer:
        """Return what answers in `region`, as `shown` says."""
        labels = self._labels
        return LiveAnswer(
            self._image, self._spacing, labels.annotation, region, len(labels.table), self._preview,
            fitted, network, shown,
        )  # fmt: skip

    @property
    def undecided(self) -> bool:
        """Whether there is something to `decide`."""
        return self._trial is not None

    def decide(self, region: Region) -> Generator[Event, None, bool]:
        """Leave one more labelled slice out; after the last, take the best choice and try random walks.

        Returns
        -------
        Whether the classifier has changed.
        """
        choice = None if self._trial is None else next(self._trial, None)
        if choice is not None:
            self._best = choice
            return False
        self._trial = None
        before = (self.choice.method, self.choice.position, self.walked)
        self.choice = self._best
        if (self.choice.method, self.choice.position) != before[:2]:
            self.fit(region)
        self.walked = yield from self._try_walks(region)
        return (self.choice.method, self.choice.position, self.walked) != before

    def _try_walks(self, region: Region) -> Generator[Event, None, bool]:
        """Hold labels out to see whether random walks help; they are taken to where nothing can be."""
        random = np.random.default_rng(self._seed)
        held_out = choose_held_out([self._labels.own()], self._share, random)[0]
        kept = self._labels.annotation.copy()
        kept.reshape(-1)[held_out] = 0
        if len(held_out) == 0 or not _has_two_classes(kept[self._preview.region]):
            return True
        fitted = self._preview.fit(kept, len(self._labels.table), self.choice, region)
        measured = yield from score_held_out(self.answer(fitted, region, None, "preview"), held_out)
        return measured.walker_helps


def _has_two_classes(annotation: NDArray[np.uint8]) -> bool:
    return len(np.unique(annotation[annotation > 0])) >= 2
