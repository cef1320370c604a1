"""What a live session shows in a box: the preview, the network, or both, led along the image's edges."""

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import OverlapCounter, find_labelled_slices
from napari_sparseseg.cases import Region
from napari_sparseseg.events import Event, WindowDone
from napari_sparseseg.features import Floats, Spacing
from napari_sparseseg.live_preview import FittedPreview, LivePreview
from napari_sparseseg.live_round import LiveRound
from napari_sparseseg.preview import WALKER_HARMS, PreviewChoice
from napari_sparseseg.random_walker import LAST_PRIOR_WEIGHT, walk_from_labels
from napari_sparseseg.segmentation import choose_shown

WALK_MARGIN = 5
"""Slices on either side that a random walk in a slab takes into account."""

SLAB_VOXELS = 150_000
"""Of the slabs in which a region is answered for, so that other work comes in between."""

_NAMES = {"network": "the network", "preview": "the instant preview", "both": "network and preview together"}
_WALKED_VOXELS = 2_000_000  # of a larger slab the user would wait for
_MOST_UNITS = 3


@dataclass(frozen=True, eq=False)
class LiveAnswer:
    """All that an answer is made of.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)``, normalised.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… classes.
    region
        The box looked at; what is asked for lies in it.
    classes
        Number of classes K, background included.
    preview, fitted
        The instant classifier.
    network
        The network, or None before there is one.
    shown
        Whose answer: "preview", "network" or "both".
    """

    image: Floats
    spacing: Spacing
    annotation: NDArray[np.uint8]
    region: Region
    classes: int
    preview: LivePreview
    fitted: FittedPreview
    network: LiveRound | None
    shown: str

    def plain(self, box: Region) -> Floats:
        """Return ``(K, …)`` class probabilities in `box`."""
        if self.network is None or self.shown == "preview":
            return self.preview.answer(self.fitted, box, self.classes)
        probabilities = self.network.predict(box)
        if self.shown == "both":
            probabilities += self.preview.answer(self.fitted, box, self.classes)
            probabilities /= 2
        return probabilities

    def walked(self, box: Region, axis: int) -> Floats:
        """Return the same after a random walk from the labels (Grady 2005), with a margin along `axis`."""
        edge, limit = box[axis], self.region[axis]
        margin = slice(max(limit.start, edge.start - WALK_MARGIN), min(limit.stop, edge.stop + WALK_MARGIN))
        edges = list(box)
        edges[axis] = margin
        wide: Region = (edges[0], edges[1], edges[2])
        if self.annotation[wide].size > _WALKED_VOXELS:
            return self.plain(box)
        probabilities = walk_from_labels(
            np.ascontiguousarray(self.image[(slice(None), *wide)]), self.annotation[wide],
            self.plain(wide), self.spacing, LAST_PRIOR_WEIGHT,
        )  # fmt: skip
        inner = [slice(None)] * 4
        inner[1 + axis] = slice(edge.start - margin.start, edge.stop - margin.start)
        return probabilities[tuple(inner)]


def choose_answer(learner: LiveRound | None, choice: PreviewChoice) -> tuple[str, str]:
    """Return whose answer to show, "preview", "network" or "both", and why in a sentence."""
    if learner is None or learner.steps == 0:
        return "preview", f"the instant preview ({choice.name}): no network has learnt yet"
    if not learner.scores and learner.steps < learner.speaks_from:
        return "preview", f"the instant preview ({choice.name}): the network has only begun to learn"
    if not learner.scores and learner.is_taught:
        return "network", "the project's network: no labels of this image were kept aside to compare by yet"
    shown = choose_shown(learner.scores, preview=True, steps=learner.steps)
    if "both" not in learner.scores:
        return shown, f"{_NAMES[shown]}: too few labels to keep some aside and compare"
    scores = ", ".join(f"{name} {learner.scores[name]:.2f}" for name in ("network", "preview", "both"))
    return shown, f"{_NAMES[shown]}: on labels kept aside (step {learner.scored_at}) they agree {scores}"


def slabs(region: Region, first: int, voxels: int) -> list[Region]:
    """Cut a region into slabs of about `voxels` voxels along z, in order of distance from slice `first`."""
    z, y, x = region
    thickness = max(1, voxels // ((y.stop - y.start) * (x.stop - x.start)))
    edges = [slice(a, min(a + thickness, z.stop)) for a in range(z.start, z.stop, thickness)]
    edges.sort(key=lambda edge: abs((edge.start + edge.stop - 1) / 2 - first))
    return [(edge, y, x) for edge in edges]


@dataclass(frozen=True)
class HeldOutScores:
    """How well labels were met that were held out.

    Attributes
    ----------
    scores
        Mean Dice of "preview", "network" and "both", after a random walk where that helps the preview.
    per_class
        Of the network, per class without background; NaN where nothing was held out.
    walker_helps
        Whether it does.
    """

    scores: dict[str, float]
    per_class: tuple[float, ...]
    walker_helps: bool


def score_held_out(answer: LiveAnswer, held_out: NDArray[np.int64]) -> Generator[Event, None, HeldOutScores]:
    """Measure preview, network and both on labels that none of them has seen.

    Parameters
    ----------
    answer
        With a preview fitted without the labels held out; its annotation has all labels.
    held_out
        ``(N,)`` flat indices into the volume; those outside the region are left out.

    Returns
    -------
    The scores; events on the way.
    """
    counters = {
        name: OverlapCounter(answer.classes) for name in ("preview", "walked preview", "network", "both")
    }
    measured = np.zeros_like(answer.annotation)
    measured.reshape(-1)[held_out] = answer.annotation.reshape(-1)[held_out]
    alone = np.zeros_like(measured)
    alone[answer.region] = measured[answer.region]
    learnt = np.where(measured > 0, 0, answer.annotation).astype(np.uint8)
    units = sorted(find_labelled_slices(alone), key=lambda unit: -len(unit.voxels))[:_MOST_UNITS]
    for done, unit in enumerate(units, start=1):
        position = np.array(np.unravel_index(unit.voxels, alone.shape))
        low, high = position.min(1), position.max(1) + 1
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        inside = tuple(position - low[:, None])
        truth = alone.reshape(-1)[unit.voxels].astype(np.int64) - 1
        for shown in ("preview", "network", "both") if answer.network else ("preview",):
            asked = replace(answer, annotation=learnt, shown=shown)
            probabilities = asked.plain(box)
            counters[shown].add(truth, probabilities.argmax(0)[inside])
            if shown == "preview":
                counters["walked preview"].add(truth, asked.walked(box, unit.axis).argmax(0)[inside])
            yield WindowDone(done, len(units))
    scores = {name: counter.mean_dice() for name, counter in counters.items()}
    walked = scores.pop("walked preview")
    walker_helps = scores["preview"] <= walked + WALKER_HARMS
    scores["preview"] = walked if walker_helps else scores["preview"]
    return HeldOutScores(scores, tuple(counters["network"].dice().tolist()), walker_helps)
