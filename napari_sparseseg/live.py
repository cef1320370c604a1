"""The interactive loop: labels come, a preview answers at once, a network learns and takes over.

A `LiveSession` lives in the worker process.  Its methods take what the user does; `run` is an
endless generator of events between which they may be called.  It does, in this order of urgency:
take in new labels, show the visible slice, refresh the rest of the region outward from it, teach
the network by the preview, choose the preview's classifier; and between these, train.
"""

import math
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import Region
from napari_sparseseg.checkpoint import save_model
from napari_sparseseg.cohort_requests import LabelledCase
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    Event,
    ImageReady,
    Noted,
    PictureCompleted,
    RoundStarted,
    StepDone,
    StrokeLearnt,
    Waiting,
)
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.live_answer import SLAB_VOXELS, choose_answer, slabs
from napari_sparseseg.live_classifier import LiveClassifier
from napari_sparseseg.live_cohort import LiveCohort
from napari_sparseseg.live_forecast import FORESEEN_REASON, LiveForecast
from napari_sparseseg.live_image import LiveImage
from napari_sparseseg.live_labels import LiveLabels
from napari_sparseseg.live_lesson import check_round, give_lesson, is_outgrown
from napari_sparseseg.live_picture import LivePicture, edges_of
from napari_sparseseg.live_preview import FittedPreview
from napari_sparseseg.live_round import LiveRound
from napari_sparseseg.live_start import LiveStart
from napari_sparseseg.live_state import LiveState
from napari_sparseseg.networks import choose_device
from napari_sparseseg.regions import contains, find_region, thin_box
from napari_sparseseg.settings import LIVE_TRAINING, InferenceConfig, NetworkConfig, TrainingConfig

_LEAST_MARGIN = 8  # voxels between labelled foreground and the region's border
_VIEW_SECONDS = 1.5
_REST_SECONDS = 2.0
_LESSON_SECONDS = 10.0
_DONE = "The network has learnt what these labels teach; correct it where it is wrong and it goes on."


class LiveSession:
    """One image, its labels, and what is learnt from them.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    prediction
        ``(Z, Y, X)`` uint8, written here: painted values, 1 = background, 0 = not looked at.
    uncertainty
        ``(Z, Y, X)`` uint8, written here: entropy of the class probabilities, 0 sure to 255 undecided.
    table
        The classes; a label's painted value is its `LabelClass.value`, of background 1.
    name
        For messages.
    state_folder
        Where the network's state is kept, and one that fits is gone on with; None: nowhere.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        spacing: tuple[float, float, float],
        prediction: NDArray[np.uint8],
        uncertainty: NDArray[np.uint8],
        table: ClassTable,
        name: str = "",
        state_folder: Path | None = None,
    ) -> None:
        self._image, self._name = LiveImage(image, spacing), name
        shape = self._image.shape
        self._labels = LiveLabels(shape, table)
        self._picture = LivePicture(prediction, uncertainty, self._labels)
        self._state, self._start = LiveState(), LiveStart()
        self._training, self._network, self._inference = LIVE_TRAINING, NetworkConfig(), InferenceConfig()
        self._whole = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
        self._region: Region = self._whole
        self._wanted: Region | None = None
        self._view = (0, shape[0] // 2)
        self._running = False
        self._view_due = self._pass_due = self._lesson_due = self._state_due = False
        self._rough = False  # whether the picture still lacks its random walk
        self._viewed = self._passed = self._taught = -math.inf
        self._pass_seconds, self._steps_shown = 0.0, 0
        self._refresh: Generator[Event, None, None] | None = None
        self._lesson: Generator[Event, None, None] | None = None
        self._classifier = LiveClassifier(
            spacing, self._labels, self._training.seed, self._training.held_out_share
        )
        self._round: LiveRound | None = None
        self._rounds = 0
        self._forecast = LiveForecast(self._image, self._picture)
        self._cohort = LiveCohort()
        if state_folder is not None:
            self.keep_state(state_folder)

    def configure(self, training: TrainingConfig, network: NetworkConfig, inference: InferenceConfig) -> None:
        """Change the settings; those of training or network mean learning anew.

        Raises
        ------
        InputError
            If this machine lacks the device asked for; then nothing has changed.
        """
        choose_device(training.device)
        self._labels.use_seeds(training.seeding > 0)
        self._pass_due |= inference != self._inference
        self._classifier.configure(training.seed, training.held_out_share)
        anew = self._round is not None and (network, training) != (self._network, self._training)
        self._training, self._network, self._inference = training, network, inference
        self._ask_start()
        if anew:
            self.restart()

    def keep_state(self, folder: Path) -> None:
        """Keep the network's state in `folder` from now on; the first network goes on with one that fits."""
        self._state.keep_in(folder, begun=self._round is not None)

    def paint(self, number: int, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str) -> None:
        """Change labels: painted `values` at flat indices `voxels`; `number` comes back when it is learnt.

        Raises
        ------
        InputError
            If a voxel lies outside the volume.
        """
        self._labels.change(number, voxels, values, source)

    def label_image(self, labels: tuple[ImageLabel, ...], outside: str) -> None:
        """Take these for all image-level labels, as `LiveLabels.label_image` does, in all rounds from now on.

        `outside` is as `settings.ClassifierConfig` has it.
        """
        self._labels.label_image(labels, outside_absent=outside == "absent")
        if self._round is not None:
            self._round.presence = self._labels.presence

    def look(self, axis: int, index: int) -> None:
        """Show this slice first: the user looks at it."""
        if (axis, index) != self._view and axis in range(3) and 0 <= index < self._image.shape[axis]:
            self._view = (axis, index)
            self._view_due = self._refresh is not None or self._pass_due

    def train(self, running: bool) -> None:
        """Let the network learn, or pause it."""
        self._pass_due |= self._running and not running and self._round is not None
        self._state_due |= self._running and not running
        self._running = running

    def start_from(self, folder: Path | None) -> None:
        """Let networks start from what is in `folder`, as `LiveStart.choose` does; learn anew if it changes.

        A whole network is asked about the image at once, and its answer shown until labels teach more.
        """
        before = self._start.chosen
        try:
            self._start.choose(folder, self._image.channels)
        finally:
            self._ask_start()
            if self._start.chosen != before and self._round is not None:
                self.restart()

    def _ask_start(self) -> None:
        self._forecast.ask(self._start.model_for(self._labels.table), self._inference)

    def learn_from(self, cases: tuple[LabelledCase, ...]) -> None:
        """Let the network learn from these cases, too, in place of those told before."""
        self._cohort.tell(cases)

    def restart(self) -> None:
        """Forget the network; learn anew from the labels."""
        self._round = self._refresh = self._lesson = None
        self._pass_due = True
        self._state.forget()

    def set_classes(self, table: ClassTable) -> None:
        """Change the class table; labels of a value it lacks count as unlabelled."""
        self._labels.set_table(table)
        if self._round is not None and self._round.table.mask_values == table.mask_values:
            self._round.table = table  # other names

    def save_model(self, folder: Path) -> None:
        """Write the network to `folder`.

        Raises
        ------
        InputError
            If there is none yet, or it cannot be written.
        """
        if self._round is None or self._round.steps == 0:
            raise InputError("no network has learnt yet; start learning first.")
        save_model(folder, self._round.model())

    def save_state(self) -> None:
        """Keep the network's state in the state folder, if there is one.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        self._state_due = False
        self._state.save(self._round)

    close = save_state

    def run(self) -> Generator[Event, None, None]:
        """Work without end; yields `Waiting` when there is nothing to do."""
        self._image.prepare()
        yield from self._classifier.describe(self._image.normalised, self._whole)
        yield ImageReady()
        while True:
            if self._labels.stale:
                yield from self._take_in()
            if self._state_due or self._state.due:
                self._state_due = False
                yield from self._state.save_quietly(self._round)
            fitted = self._classifier.fitted
            if fitted is None:
                yield from self._forecast.show()
            elif self._view_due:
                yield from self._show_view(fitted)
            else:
                yield from self._work(fitted)

    def _take_in(self) -> Generator[Event, None, None]:
        """Answer changed labels: refit the preview, tell the network."""
        labels = self._labels
        numbers, changed = labels.take_in()
        self._refresh = None
        if self._round is not None and self._round.table.mask_values != labels.table.mask_values:
            self._round = None  # it has no channel for the new class
        self._ask_start()
        if labels.count_classes() < 2:
            self._classifier.fitted = self._lesson = None
            yield from self._forecast.clear()
        else:
            yield from self._choose_region()
            if self._round is not None:
                self._round.learn(labels.annotation, labels.sources, changed)
            self._classifier.fit(self._region)
            self._lesson = None
            self._lesson_due = self._view_due = self._pass_due = True
        yield from map(StrokeLearnt, numbers)

    def _choose_region(self) -> Generator[Event, None, None]:
        """Look only at the labelled foreground and a margin."""
        annotation = self._labels.annotation
        if self._round is None and self._start.normalise(self._image, self._labels):
            yield from self._classifier.look_at(self._image.normalised, self._region)
        wanted = self._forecast.widen(find_region(annotation))
        closest = self._forecast.widen(find_region(annotation, _LEAST_MARGIN), _LEAST_MARGIN)
        if self._wanted is None or (wanted != self._wanted and not contains(self._region, closest)):
            self._wanted = wanted
            yield from self._move_to(wanted)

    def _move_to(self, region: Region) -> Generator[Event, None, None]:
        """Look at another region from now on; what lies outside it is background."""
        self._refresh = self._lesson = None
        yield from self._classifier.look_at(self._image.normalised, region)
        self._region = region
        self._picture.clear_outside(region)
        if self._round is not None:
            labels = self._labels
            self._round.set_region(self._image.normalised, region, labels.annotation, labels.sources)

    def _work(self, fitted: FittedPreview) -> Generator[Event, None, None]:
        """Do a little of what is next, and a step of training."""
        if self._refresh is None and self._is_pass_due():
            self._refresh = self._pass(fitted)
        if self._lesson is None and self._is_lesson_due() and self._round is not None:
            self._lesson = self._teach(fitted, self._round)
        event: Event | None = None
        if self._refresh is not None:
            refresh = self._refresh
            event = next(refresh, None)
            # A pass that has to look further puts itself aside, and is not done yet.
            self._refresh = None if event is None else refresh
        elif self._classifier.undecided:
            changed = yield from self._classifier.decide(self._region)
            self._pass_due |= changed
            self._lesson_due |= changed
        elif self._lesson is not None:
            event = next(self._lesson, None)
            self._lesson = None if event is None else self._lesson
        else:
            yield from self._use_moment()
        if event is not None:
            yield event
        if self._learns:
            yield from self._train()

    def _use_moment(self) -> Generator[Event, None, None]:
        """Do a little of what can wait, or wait."""
        if self._forecast.is_due:
            yield from self._forecast.advance()
            if self._forecast.is_made:
                yield from self._choose_region()  # it may have found more than is labelled
                self._classifier.fit(self._region)
                self._pass_due = self._lesson_due = True
        elif not self._learns:
            yield Waiting(_DONE if self._running else "")

    @property
    def _learns(self) -> bool:
        return self._running and (self._round is None or self._round.progress < 1)

    def _show_view(self, fitted: FittedPreview) -> Generator[Event, None, None]:
        self._view_due = False
        self._viewed = time.monotonic()
        axis, index = self._view
        foreseen = self._forecast.holds(self._round)  # then the whole region is soon shown
        if not foreseen and self._region[axis].start <= index < self._region[axis].stop:
            box = thin_box(self._region, axis, index)
            shown, _ = choose_answer(self._round, self._classifier.choice)
            answer = self._classifier.answer(fitted, self._region, self._round, shown)
            probabilities = answer.walked(box, axis) if self._classifier.walked else answer.plain(box)
            yield self._picture.write(box, probabilities, shown)

    def _is_pass_due(self) -> bool:
        if self._pass_due or (self._rough and self._classifier.walked):
            return True
        learner = self._round
        if learner is None or learner.steps == self._steps_shown:
            return False
        rested = time.monotonic() - self._passed > max(2 * self._pass_seconds, _REST_SECONDS)
        return not self._learns or (rested and learner.steps >= learner.speaks_from)

    def _pass(self, fitted: FittedPreview) -> Generator[Event, None, None]:
        """Refresh the region, outward from the visible slice; right after a stroke without random walks."""
        started = time.monotonic()
        walk = self._classifier.walked and not self._pass_due
        self._pass_due, self._rough = False, not walk
        self._steps_shown = self._round.steps if self._round else 0
        shown, reason = choose_answer(self._round, self._classifier.choice)
        answer, region = self._classifier.answer(fitted, self._region, self._round, shown), self._region
        axis, index = self._view
        first = index if axis == 0 else (region[0].start + region[0].stop) // 2
        if self._forecast.holds(self._round):
            shown, reason = "network", FORESEEN_REASON
            yield self._forecast.show_in(region)
        else:
            for box in slabs(region, first, SLAB_VOXELS):
                probabilities = answer.walked(box, 0) if walk else answer.plain(box)
                yield self._picture.write(box, probabilities, shown)
            self._picture.clean(region, self._inference)
        self._pass_seconds, self._passed = time.monotonic() - started, time.monotonic()
        yield PictureCompleted(shown, reason, edges_of(region))
        larger = self._picture.find_larger(region)
        if larger != region:
            yield from self._move_to(larger)
            self._classifier.fit(self._region)
            self._pass_due = self._lesson_due = True

    def _train(self) -> Generator[Event, None, None]:
        if self._round is None or is_outgrown(self._round, self._classifier, self._labels):
            yield from self._begin_round()
        learner = self._round
        if learner is None:
            return
        yield from self._cohort.give(learner)
        try:
            loss = learner.step()
        except FloatingPointError:
            self._training = replace(self._training, learning_rate=self._training.learning_rate / 2)
            self._round = None
            yield Noted("The network's numbers ran out of range; it begins anew with half the learning rate.")
            return
        yield StepDone(learner.steps, loss, learner.progress)
        if learner.check_due:
            changed = yield from check_round(learner, self._classifier, self._labels, self._region)
            if changed is not None:
                self._pass_due |= changed
                self._lesson_due |= changed or not learner.measuring
        rested = time.monotonic() - self._viewed > _VIEW_SECONDS
        if learner.steps >= learner.speaks_from and rested:
            self._view_due |= not self._inference.cleans  # a slice alone cannot be

    def _begin_round(self) -> Generator[Event, None, None]:
        labels, self._round = self._labels, None
        image, (saved, problem) = self._image, self._state.read_normalisation()
        if image.normalise(self._start.normalisation(labels.table) or saved or image.fit(labels.annotation)):
            yield from self._classifier.look_at(image.normalised, self._region)
        learner, unfit = self._start.begin(image, labels, self._region, self._training, self._network)
        problem = problem or self._state.restore(learner, labels)
        taken = "" if learner.steps else learner.encoder_taken
        yield from map(Noted, filter(None, (unfit, problem, taken)))
        self._round, self._rounds = learner, self._rounds + 1
        self._lesson, self._lesson_due, self._taught = None, True, -math.inf
        self._classifier.forget_partial()
        labelled = int((labels.annotation > 0).sum())
        yield RoundStarted(self._rounds, labelled, len(learner.held_out), self._classifier.slices)

    def _is_lesson_due(self) -> bool:
        rested = time.monotonic() - self._taught > _LESSON_SECONDS
        return self._lesson_due and rested and self._learns and self._training.preview_weight > 0

    def _teach(self, fitted: FittedPreview, learner: LiveRound) -> Generator[Event, None, None]:
        self._lesson_due, self._taught = False, time.monotonic()
        looked = (self._labels, self._forecast, self._region, self._view)
        yield from give_lesson(learner, self._classifier, fitted, *looked)
