"""Recursive training on labels from boxes (Khoreva et al. 2017, "Simple Does It").

A network learns from the labels that a box method made; what it then predicts are the labels of the next
round.  Between the rounds the labels are de-noised by what the boxes tell; each step can be left out, and
without any it is the paper's *naive* recursion, which does not improve.

What differs from the paper: a network goes on from the round before instead of beginning anew; a segment is
reset by the share of its box that it fills, and at a tenth instead of a half, for organs and tumours fill 15
to 50 % of a box in 3D; voxels of whose class the network is less than 75 % sure are not learnt from next.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND, SOURCE_WEIGHTS, UNLABELLED, ClassTable
from napari_sparseseg.box_cases import (
    BoxedCase,
    check_boxed_cases,
    find_box_region,
    measure_agreement,
    measure_quality,
    part_strokes,
)
from napari_sparseseg.box_geometry import Box, back_to_front, with_margin
from napari_sparseseg.boxes import check_boxes, label_boxes
from napari_sparseseg.cases import Case
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.dense_crf import refine_steps
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoder_start import check_encoder
from napari_sparseseg.events import BoxRoundMade, Event, Noted, StepDone, WindowDone, WorkDone
from napari_sparseseg.inference import place_model, predict_region, predict_volume
from napari_sparseseg.setting import split_several
from napari_sparseseg.settings import (
    BoxConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)
from napari_sparseseg.training import train_network

Result = TypeVar("Result")
Probabilities = NDArray[np.float32]

_MARGIN_SHARE = 0.25
_UNSURE = 0.75  # a most probable class below this is not learnt from
_OVERLAP = 0.25
_SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class BoxTraining:
    """What box-to-mask has made in its last round.

    Attributes
    ----------
    labels
        Per case ``(Z, Y, X)``: 0 ignore, 1 background, 2… classes.
    channels
        Per case ``(Z, Y, X)`` class channels, 0 = background: the dense answer.
    model
        The network of the last round; None without rounds.
    fallen_back
        Per case the positions of the boxes that fell back to `box_inner`.
    """

    labels: tuple[NDArray[np.uint8], ...]
    channels: tuple[NDArray[np.uint8], ...]
    model: Model | None
    fallen_back: tuple[tuple[int, ...], ...]


def train_from_boxes(
    cases: Sequence[BoxedCase],
    table: ClassTable,
    boxes: BoxConfig,
    recursion: RecursionConfig,
    crf: CrfConfig | None = None,
    training: TrainingConfig | None = None,
    network: NetworkConfig | None = None,
    *,
    encoder: EncoderCheckpoint | None = None,
) -> Generator[Event, None, BoxTraining]:
    """Make labels of boxes, and let a network learn from them and mend them round by round.

    Parameters
    ----------
    cases
        Volumes with boxes; one network learns from all of them.
    table
        The classes.
    boxes, recursion, crf, training, network
        Settings; of `training` its seed, learning rate, batch size, patch size, flips, Dice weight, device
        and precision are used, and how gently it goes on with an encoder.
    encoder
        What the first round's network starts from, as `training.train_network` takes it.

    Returns
    -------
    The `BoxTraining` of the last round; on the way a `BoxRoundMade` per round and case, among other events.
    A round in which no class is left is the last one.

    Raises
    ------
    InputError
        If boxes cannot be used (see `boxes.label_boxes`), what belongs to a volume has another shape, the
        encoder is of another network, or the labels cannot be trained on.
    """
    work = _BoxTraining(
        cases,
        table,
        boxes,
        recursion,
        crf or CrfConfig(),
        training or TrainingConfig(),
        network or NetworkConfig(),
        encoder,
    )
    yield from work.make_first_labels()
    for number in range(1, recursion.rounds + 1):
        if number > 1 and not work.can_go_on:
            yield Noted(
                f"Round {number - 1} left no voxel of any class, so there is nothing more to learn from; "
                "the rounds end here."
            )
            break
        yield from work.learn(number)
        yield from work.mend(number)
    yield WorkDone(1.0, "All rounds are made")
    return work.result()


class _BoxTraining:
    """The cases and what the rounds have made of them."""

    def __init__(
        self,
        cases: Sequence[BoxedCase],
        table: ClassTable,
        boxes: BoxConfig,
        recursion: RecursionConfig,
        crf: CrfConfig,
        training: TrainingConfig,
        network: NetworkConfig,
        encoder: EncoderCheckpoint | None = None,
    ) -> None:
        check_boxed_cases(cases, table)
        if encoder is not None and recursion.rounds:
            check_encoder(encoder, network, cases[0].image.shape[0])
        self._cases = [replace(c, boxes=check_boxes(c.boxes, c.shape)) for c in cases]
        self._table = table
        self._config = boxes
        self._rounds = recursion.rounds
        self._reset_share = recursion.reset_share
        self._training = replace(
            training, seconds=0.0, steps=recursion.round_steps, preview_weight=0.0, held_out_share=0.0
        )
        self._network, self._encoder = network, encoder
        self._denoise = frozenset(split_several(recursion.denoise))
        self._crf = crf
        self._regions = [find_box_region(c.boxes, c.shape) for c in self._cases]
        self._strokes, self._held_out = zip(*(part_strokes(c, boxes.seed) for c in self._cases), strict=True)
        self._first: list[NDArray[np.uint8]] = []
        self._labels: list[NDArray[np.uint8]] = []
        self._channels: list[NDArray[np.uint8]] = []
        self._fallen_back: list[tuple[int, ...]] = []
        self._model: Model | None = None
        self._done = 0.0

    @property
    def can_go_on(self) -> bool:
        """Whether the labels still hold background and a class."""
        return any((labels == BACKGROUND).any() for labels in self._labels) and any(
            (labels > BACKGROUND).any() for labels in self._labels
        )

    def make_first_labels(self) -> Generator[Event, None, None]:
        """Round 0: the box method's own labels."""
        share = 1.0 if self._rounds == 0 else 0.2
        for index, case in enumerate(self._cases):
            work = label_boxes(case.image, case.spacing, case.boxes, self._config)
            each = share / len(self._cases)
            made = yield from _tell_share(work, each * index, each, "")
            self._first.append(made.annotation)
            self._fallen_back.append(made.fallen_back)
            self._labels.append(made.annotation)
            self._channels.append(np.maximum(made.annotation, 1) - np.uint8(1))
            self._keep_strokes(index)
            yield self._report(index, 0)
        self._done = share

    def learn(self, number: int) -> Generator[Event, None, None]:
        """Let the network learn from the labels, from where it was the round before."""
        cases = [
            Case(c.image, c.spacing, labels, self._weigh(index), c.name, self._regions[index])
            for index, (c, labels) in enumerate(zip(self._cases, self._labels, strict=True))
        ]
        encoder = self._encoder if self._model is None else None
        work = train_network(
            cases, self._table, self._training, self._network, initial=self._model, encoder=encoder
        )
        share = 0.8 * 0.8 / self._rounds
        words = f"Round {number} of {self._rounds}: learning"
        learnt = yield from _tell_share(work, self._done, share, words)
        self._model = learnt.model
        self._done += share

    def mend(self, number: int) -> Generator[Event, None, None]:
        """Predict, and de-noise what is predicted, to be the labels of the next round."""
        assert self._model is not None
        share = 0.2 * 0.8 / self._rounds / len(self._cases)
        for index in range(len(self._cases)):
            words = f"Round {number} of {self._rounds}: mending the labels"
            yield WorkDone(self._done, words)
            probabilities = yield from _tell_share(self._predict(index), self._done, share / 2, words)
            self._done += share / 2
            probabilities = self._obey_boxes(index, probabilities)
            if "crf" in self._denoise:
                probabilities = yield from self._refine(index, probabilities)
                probabilities = self._obey_boxes(index, probabilities)
            self._take(index, probabilities)
            self._keep_strokes(index)
            self._done += share / 2
            yield self._report(index, number)

    def result(self) -> BoxTraining:
        labels, channels = zip(*map(self._with_all_strokes, range(len(self._cases))), strict=True)
        return BoxTraining(labels, channels, self._model, tuple(self._fallen_back))

    # -- inside --

    def _weigh(self, index: int) -> NDArray[np.float32]:
        """Return the weight of each label by where it comes from."""
        weights = np.full(self._labels[index].shape, SOURCE_WEIGHTS["box"], np.float32)
        strokes = self._strokes[index]
        if strokes is not None:
            weights[strokes > 0] = SOURCE_WEIGHTS["stroke"]
        return weights

    def _predict(self, index: int) -> Generator[Event, None, Probabilities]:
        """Return the class probabilities ``(K, …)`` in the region of a case."""
        case, region, model = self._cases[index], self._regions[index], self._model
        assert model is not None
        placed = place_model(model, self._training.device, self._training.precision)
        if model.spacing == case.spacing:
            normalised = model.normalisation.apply(case.image)
            return (yield from predict_region(placed, normalised, region, _OVERLAP))
        config = InferenceConfig(overlap=_OVERLAP)
        prediction = yield from predict_volume(
            model, case.image, case.spacing, config, probabilities=True, placed=placed
        )
        assert prediction.probabilities is not None
        return prediction.probabilities[(slice(None), *region)].astype(np.float32)

    def _obey_boxes(self, index: int, probabilities: Probabilities) -> Probabilities:
        """Give no chance to a class where the boxes rule it out (steps *class* and *outside*)."""
        if not self._denoise & {"class", "outside"}:
            return probabilities
        boxes, region = self._local_boxes(index), self._regions[index]
        inside = np.zeros((len(self._table), *(edge.stop - edge.start for edge in region)), bool)
        for box in boxes:
            inside[(box.label - 1, *box.region)] = True
        any_box = inside.any(0)
        allowed = np.ones(inside.shape, bool)
        for channel in range(1, len(self._table)):
            if "class" in self._denoise:
                allowed[channel] &= inside[channel] | ~any_box
            if "outside" in self._denoise:
                allowed[channel] &= any_box
        kept = np.where(allowed, probabilities, np.float32(0))
        kept[0] += _SMALLEST
        kept /= kept.sum(0)
        return kept

    def _refine(self, index: int, probabilities: Probabilities) -> Generator[Event, None, Probabilities]:
        """Move borders to the image's edges, box by box (step *crf*)."""
        case, region = self._cases[index], self._regions[index]
        image = case.image[(slice(None), *region)]
        shape = (image.shape[1], image.shape[2], image.shape[3])
        refined = probabilities.copy()
        for box in back_to_front(self._local_boxes(index)):
            depth, height, width = (max(2, round(_MARGIN_SHARE * length)) for length in box.shape)
            part = with_margin(box, (depth, height, width), shape)
            work = refine_steps(
                image[(slice(None), *part)],
                np.ascontiguousarray(probabilities[(slice(None), *part)]),
                case.spacing,
                self._crf_of(box, case.spacing),
            )
            try:
                while True:  # the work can be stopped at each event
                    next(work)
                    yield WorkDone(self._done, "Moving borders to the image's edges")
            except StopIteration as end:
                mended = end.value
            inner = tuple(
                slice(a - edge.start, b - edge.start)
                for a, b, edge in zip(box.start, box.stop, part, strict=True)
            )
            refined[(slice(None), *box.region)] = mended[(slice(None), *inner)]
        return refined

    def _crf_of(self, box: Box, spacing: tuple[float, float, float]) -> CrfConfig:
        """Return the settings with reaches that suit a box: a wide reach would swallow a small object."""
        side = min(length * step for length, step in zip(box.shape, spacing, strict=True))
        return replace(
            self._crf,
            appearance_mm=min(self._crf.appearance_mm, side / 4),
            smoothness_mm=min(self._crf.smoothness_mm, side / 8),
        )

    def _take(self, index: int, probabilities: Probabilities) -> None:
        """Make labels of probabilities; reset boxes and ignore what is unsure where that is asked for."""
        region = self._regions[index]
        channels = probabilities.argmax(0).astype(np.uint8)
        labels = channels + np.uint8(1)
        if "ignore" in self._denoise:
            inside = np.zeros(labels.shape, bool)
            for box in self._local_boxes(index):
                inside[box.region] = True
            labels[inside & (probabilities.max(0) < _UNSURE)] = UNLABELLED
        if "reset" in self._denoise:
            self._reset(index, labels, channels)
        whole = np.full(self._cases[index].shape, BACKGROUND, np.uint8)
        whole[region] = labels
        dense = np.zeros(whole.shape, np.uint8)
        dense[region] = channels
        self._labels[index], self._channels[index] = whole, dense

    def _reset(self, index: int, labels: NDArray[np.uint8], channels: NDArray[np.uint8]) -> None:
        """Give up segments that fill too little of their boxes, in place (step *reset*)."""
        first = self._first[index][self._regions[index]]
        boxes = back_to_front(self._local_boxes(index))
        covered = np.zeros(labels.shape, np.uint8)
        for box in boxes:
            covered[box.region] = np.minimum(covered[box.region], 1) + 1
        found = [channels[box.region] == box.label - 1 for box in boxes]
        good = [
            np.count_nonzero(f) >= self._reset_share * b.volume for f, b in zip(found, boxes, strict=True)
        ]
        for place, box in enumerate(boxes):
            if good[place]:
                continue
            in_front = np.zeros(labels.shape, bool)
            for other in range(place + 1, len(boxes)):
                if good[other]:
                    in_front[boxes[other].region] |= found[other]
            part, before = labels[box.region], first[box.region]
            own = (before == box.label) | (before == UNLABELLED) | (part == box.label)
            own |= (part == UNLABELLED) | (covered[box.region] == 1)
            own &= ~in_front[box.region]
            part[own] = before[own]
            dense = channels[box.region]
            dense[own] = np.maximum(before[own], 1) - 1

    def _local_boxes(self, index: int) -> list[Box]:
        return [box.within(self._regions[index]) for box in self._cases[index].boxes]

    def _keep_strokes(self, index: int) -> None:
        """Let the user's own labels win over all that boxes tell."""
        strokes = self._strokes[index]
        if strokes is not None:
            where = strokes > 0
            self._labels[index] = np.where(where, strokes, self._labels[index])
            self._channels[index] = np.where(where, strokes - np.uint8(1), self._channels[index])

    def _with_all_strokes(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return labels and channels in which also the strokes that were held out have won."""
        strokes, labels, channels = self._cases[index].strokes, self._labels[index], self._channels[index]
        if strokes is None:
            return labels, channels
        where = strokes > UNLABELLED
        return np.where(where, strokes, labels), np.where(where, strokes - np.uint8(1), channels)

    def _report(self, index: int, number: int) -> BoxRoundMade:
        region, case = self._regions[index], self._cases[index]
        labels, channels = self._with_all_strokes(index)
        return BoxRoundMade(
            index,
            number,
            tuple((edge.start, edge.stop) for edge in region),  # type: ignore[arg-type]
            labels[region].copy(),
            channels[region].copy(),
            measure_quality(self._channels[index], case, self._held_out[index], self._table),
            measure_agreement(self._channels[index], case.boxes),
        )


def _tell_share(
    work: Generator[Event, None, Result], start: float, span: float, words: str
) -> Generator[Event, None, Result]:
    """Pass events on, and how much of everything is done by then; `work` is `span` of it from `start` on."""
    try:
        while True:
            event = next(work)
            if isinstance(event, WorkDone):
                yield WorkDone(start + span * event.share, event.words)
                continue
            yield event
            if isinstance(event, StepDone):
                yield WorkDone(start + span * event.progress, words)
            elif isinstance(event, WindowDone):
                yield WorkDone(start + span * event.done / event.total, words)
    except StopIteration as end:
        result: Result = end.value
        return result
