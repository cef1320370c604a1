"""Training a network on the labelled voxels of one or several volumes.

`train_network` is a generator of events that returns a `TrainingResult`.  It can be stopped at any
event and resumed; on the CPU a stopped and resumed training equals an uninterrupted one bit for bit.
Volumes may be given as they are or read when they are needed, and several processes may take part.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.case_store import CaseStore
from napari_sparseseg.case_survey import CaseSurvey, prepare_cases, survey_cases
from napari_sparseseg.cases import Case, CaseSource, fingerprint_cases
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, HeldOutScored, Noted, StepDone, WorkDone
from napari_sparseseg.networks import (
    NetworkPlan,
    Precision,
    choose_device,
    choose_precision,
)
from napari_sparseseg.preview import Preview
from napari_sparseseg.ranks import Order, ProcessLost, Ranks
from napari_sparseseg.settings import NetworkConfig, TrainingConfig
from napari_sparseseg.training_data import TrainingData
from napari_sparseseg.training_loop import Lesson, TrainingLoop, send_loop
from napari_sparseseg.training_measures import ValScores, describe_training, measure_val
from napari_sparseseg.training_start import start_network
from napari_sparseseg.training_state import SavedState, StateIdentity, read_state, write_state

_CHECKS = 10
_SAVE_SECONDS = 30.0
_PREVIEW_SHARE = 0.2
_DESCRIBED_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training produced.

    Attributes
    ----------
    model
        The trained network.
    previews
        Per case the instant classifier's picture, from all labels, on the training grid; None where
        none was made, or cases were read when they were needed.
    held_out_dice
        Mean Dice on labels that were out of training when it was measured, of the "network", the
        "preview" and "both" (their mean probability); empty where nothing could be held out.
    measured_by_derived
        Whether those labels were not the user's but derived from boxes or class maps: there were no others.
    case_dice
        The network's mean Dice on the held-out labels of each case that has any, by its name.
    val_dice
        The same for cases that were never learnt from, on all their labels.
    val_overall
        Mean Dice on all labels of those cases together; None where there are none.
    left_out
        By name why a case was not used, in a sentence.
    """

    model: Model
    previews: tuple[Preview | None, ...]
    held_out_dice: dict[str, float]
    measured_by_derived: bool = False
    case_dice: dict[str, float] = field(default_factory=dict)
    val_dice: dict[str, float] = field(default_factory=dict)
    val_overall: float | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def train_network(
    cases: Sequence[Case | CaseSource],
    table: ClassTable,
    config: TrainingConfig,
    network_config: NetworkConfig | None = None,
    *,
    initial: Model | None = None,
    encoder: EncoderCheckpoint | None = None,
    state_folder: Path | None = None,
    resume: bool = False,
    val: Sequence[Case | CaseSource] = (),
    memory_mb: int | None = None,
    cache_folder: Path | None = None,
    skip_bad: bool = False,
    describe: bool | None = None,
    ranks: Ranks | None = None,
) -> Generator[Event, None, TrainingResult]:
    """Train a network on the labelled voxels of `cases`.

    The loss is the sparse cross-entropy of Çiçek et al. (2016) with a soft Dice term; voxels of which
    the instant classifier is confident are labels of lower weight.  Some labelled slices or strokes
    are held out to measure the network honestly.  Where they are a large part of all labels they are
    learnt too in the last part of the training; where they are few they stay out, and the weights
    with the best held-out Dice are returned.

    Cases that are given as sources are read twice before the training begins, one at a time; the clock
    starts after that.  They are cut to what a patch round a label can reach, and those that do not fit into
    the memory wait on disk: which ones do does not change the result.

    Parameters
    ----------
    cases
        Volumes with at least background and one class labelled among them, or where they come from.
    table
        The classes.
    config
        Length, seed, learning rate and the like.
    network_config
        Architecture and size; ignored with `initial`.
    initial
        Start from this model's weights instead of random ones.
    encoder
        Start from this encoder's weights; they learn at `TrainingConfig.encoder_rate` at first.
    state_folder
        Where to keep what resuming needs: written every half minute, on stopping and at the end.  Delete it
        by `checkpoint.delete_tensors` when the model is written: until then it is all there is.
    resume
        Go on from `state_folder`.
    val
        Cases that are never learnt from; the network is measured by them at the end.
    memory_mb
        Megabytes of cases that may stay in memory; one more is there while it is prepared.  None: no limit.
    cache_folder
        Where the other cases wait; `state_folder` or the system's folder for temporary files by default.
        All processes must see it.
    skip_bad
        Leave out cases that cannot be used, with a note, instead of raising.
    describe
        Let the network predict some of its training cases whole at the end, to know later what is unusual:
        ``summary["typical"]``, as `case_checks.describe_typical` has it.  None: if they come from sources.
    ranks
        The processes that take part, of which this one leads; the others call
        `training_loop.follow_training`.

    Returns
    -------
    The `TrainingResult`; events on the way.

    Raises
    ------
    InputError
        If the labels or channels cannot be trained on, the encoder is of another network, or the state
        belongs to other data.
    """
    if (config.seconds > 0) == (config.steps > 0):
        raise InputError("training needs a number of seconds or a number of steps; give one of the two.")
    ranks = ranks or Ranks()
    begun = time.monotonic()
    store: CaseStore | None = None
    try:
        work = survey_cases(
            cases, val, table, initial, config.seeding, memory_mb=memory_mb, skip_bad=skip_bad
        )
        survey = yield from ranks.meanwhile(work)
        # What other processes take part in they read from disk.
        kept_mb = 0 if ranks.world > 1 else memory_mb
        store = CaseStore(len(table), kept_mb, cache_folder or state_folder)
        network = network_config or NetworkConfig()
        training = _Training(survey, table, config, network, initial, encoder, ranks)
        yield from ranks.meanwhile(training.prepare(store, begun))
        yield from _learn(training, state_folder, ranks, resume=resume)
        ranks.tell(Order.STOP)
        result = yield from training.result(describe=survey.is_streamed if describe is None else describe)
    except (GeneratorExit, InputError, KeyboardInterrupt):
        ranks.tell(Order.STOP)
        raise
    finally:
        if store is not None:
            store.close()
    return result


def _learn(
    training: "_Training", state_folder: Path | None, ranks: Ranks, *, resume: bool
) -> Generator[Event, None, None]:
    """Train to the end; keep the state now and then, and when it is broken off."""
    state = training.read_state(state_folder) if resume and state_folder is not None else None
    if training.encoder_taken and state is None:
        yield Noted(training.encoder_taken)
    yield from ranks.meanwhile(training.make_previews())
    if state is not None:
        training.load_state(state)
    training.start_phase(begins=True)
    saved = time.monotonic()
    try:
        while training.progress < 1:
            yield from training.check_held_out()
            yield from training.step()
            if state_folder is not None and time.monotonic() - saved > _SAVE_SECONDS:
                training.save_state(state_folder)
                saved = time.monotonic()
        yield from training.check_held_out()
    except (GeneratorExit, KeyboardInterrupt, ProcessLost):
        if state_folder is not None:
            training.save_state(state_folder)
        raise
    if training.steps == 0:
        yield Noted("There was no time to train the network; let it learn longer.")
    if state_folder is not None:
        training.save_state(state_folder)


class _Training:
    """The prepared data, the learner, and how far it has come."""

    def __init__(
        self,
        survey: CaseSurvey,
        table: ClassTable,
        config: TrainingConfig,
        network_config: NetworkConfig,
        initial: Model | None,
        encoder: EncoderCheckpoint | None,
        ranks: Ranks,
    ) -> None:
        self._survey, self._table, self._config, self._ranks = survey, table, config, ranks
        self._random = np.random.default_rng(config.seed)
        torch.manual_seed(config.seed)
        self._network_config = initial.config if initial else network_config
        self._device = choose_device(config.device)
        self._spacing = survey.spacing
        channels = survey.cases[0].channels
        started = start_network(survey, len(table), config, self._network_config, initial, encoder)
        self.encoder_taken, self._encoder_hash = started.encoder_taken, started.encoder_hash
        self._network, self._position = started.network, started.position
        inputs = channels + 3 * started.position
        precision = choose_precision(config.precision, started.network, started.plan, inputs, self._device)
        self._lesson = Lesson(
            config, self._network_config, started.plan, channels, len(table), started.position, precision,
            started.gently,
        )  # fmt: skip
        self.steps = 0
        self._next_check = 1 / _CHECKS
        self._scores: dict[str, float] = {}
        self._case_dice: dict[int, float] = {}
        self._best: dict[str, Tensor] = {}

    def prepare(self, store: CaseStore, begun: float) -> Generator[Event, None, None]:
        """Prepare the cases and choose what is held out; the clock of training began at `begun`."""
        config, cases = self._config, self._survey.cases
        self._start = begun
        for number, case in enumerate(prepare_cases(self._survey, len(self._table), self._lesson.plan.patch)):
            store.add(case)
            if self._survey.is_streamed:
                yield WorkDone(number / len(cases), "Preparing the volumes")
        if self._survey.is_streamed:
            self._start = time.monotonic()
        # With the plan as it is before memory may run out: that shrinks it.
        said = [(c.image_labels, c.outside_absent) for c in store.cases] if config.expansion else []
        settings = (config, self._network_config, self._table, self._lesson.plan, *said)
        self._fingerprint = fingerprint_cases(store, *settings)
        self._data = TrainingData(store, len(self._table), self._device)
        self._data.hold_out(config.held_out_share, self._random)
        self._returns = not self._data.lasting
        self._final = not any(self._data.held_out_counts)
        self._loop = TrainingLoop(self._lesson, self._data, self._device, self._random, self._ranks)
        self._loop.set_network(self._network)

    @property
    def progress(self) -> float:
        """Share of the training done, by steps or by the clock."""
        if self._config.steps:
            return min(self.steps / self._config.steps, 1.0)
        return min((time.monotonic() - self._start) / self._config.seconds, 1.0)

    def make_previews(self) -> Generator[Event, None, None]:
        """Fit the instant classifiers, where they shall teach."""
        if self._config.preview_weight == 0:
            return
        streamed = self._survey.is_streamed
        yield from self._data.make_previews(self._config.seed, self._out_of_preview_time, keep=not streamed)

    def _out_of_preview_time(self) -> bool:
        return not self._config.steps and self.progress > _PREVIEW_SHARE

    def start_phase(self, *, begins: bool = False) -> None:
        """Lay out the labels to learn from: all of them in the final phase, else without those held out."""
        self._data.lay_out(final=self._final)
        self._loop.make_sampler()
        send_loop(self._loop, self._ranks, begins=begins)

    def step(self) -> Generator[Event, None, None]:
        """Take one training step; when the GPU's memory is too small, with less, and say so."""
        progress = self.progress
        while True:
            drawn = self._random.bit_generator.state
            self._ranks.tell(Order.STEP, progress)
            try:
                loss = self._loop.step(progress)
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
            except ProcessLost:
                self._random.bit_generator.state = drawn  # so that the state kept is that before the step
                raise
            yield Noted(self._loop.shrink())
        self.steps += 1
        yield StepDone(self.steps, loss, self.progress)

    def check_held_out(self) -> Generator[Event, None, None]:
        """Measure on the held-out labels when it is time, and let them return when theirs has come."""
        ends = self._returns and self.progress >= 1 - self._config.final_share
        if self._final or not (ends or self.progress >= self._next_check):
            return
        self._next_check = (int(self.progress * _CHECKS) + 1) / _CHECKS
        self._ranks.tell(Order.SCORE, float(ends))
        scores = yield from self._loop.score(every=ends)
        dice = scores.dice()
        if self._returns:
            self._scores, self._case_dice = dice, scores.case_dice
        elif dice["network"] >= self._scores.get("network", 0.0):
            self._scores, self._case_dice = dice, scores.case_dice
            self._best = self._loop.learner.average_weights()
        per_class = zip(self._table.names[1:], scores.overlaps["network"].dice().tolist(), strict=True)
        yield HeldOutScored(self.steps, dice["network"], {n: d for n, d in per_class if d == d})
        if ends:
            self._final = True
            self.start_phase()

    def result(self, *, describe: bool) -> Generator[Event, None, TrainingResult]:
        """Return the trained model: the best weights where that was measured to the end, else the last."""
        loop, data, survey = self._loop, self._data, self._survey
        weights = self._best or loop.learner.average_weights()
        if self._best and len(self._case_dice) < len(data.choose_checked(every=True)):
            scores = yield from loop.score(every=True, weights=weights)
            self._scores, self._case_dice = scores.dice(), scores.case_dice
        names = [case.name for case in data.store.cases]
        case_dice = {names[index]: dice for index, dice in self._case_dice.items()}
        summary: dict[str, Any] = {
            "steps": self.steps,
            "seconds": round(time.monotonic() - self._start, 1),
            "cases": names,
            "labelled_voxels": data.labelled,
            "held_out_dice": self._scores,
            "case_dice": case_dice,
            "measured_by_derived": data.is_derived,
            "encoder": self.encoder_taken,
            "settings": self._config.to_json(),
            "device": str(loop.device),
            "precision": loop.lesson.precision.dtype,
        }
        model = Model(
            self._network_config, loop.lesson.plan, loop.lesson.channels, self._position, self._table,
            self._spacing, survey.normalisation, weights, summary,
        )  # fmt: skip
        val, placed = ValScores(), loop.place(weights) if survey.val or describe else None
        if placed is not None:
            val = yield from measure_val(model, placed, survey.val)
            summary["val_dice"] = {"overall": val.overall, "cases": val.cases}
        if placed is not None and describe:
            late = time.monotonic() + (_DESCRIBED_SHARE * self._config.seconds or np.inf)
            work = describe_training(model, placed, survey.cases, lambda: time.monotonic() > late)
            summary["typical"] = yield from work
        return TrainingResult(
            model, tuple(data.previews), self._scores, data.is_derived, case_dice, val.cases, val.overall,
            survey.left_out,
        )  # fmt: skip

    @property
    def _identity(self) -> StateIdentity:
        return StateIdentity(self._fingerprint, self._encoder_hash, self._ranks.world)

    def read_state(self, folder: Path) -> SavedState:
        """Read what `save_state` wrote and check that it belongs to this data and these settings."""
        return read_state(folder, self._identity)

    def save_state(self, folder: Path) -> None:
        """Write all that `load_state` needs to go on exactly here."""
        loop = self._loop
        precision = loop.lesson.precision
        description = {
            "plan": loop.lesson.plan.to_json(),
            "steps": self.steps,
            "elapsed": time.monotonic() - self._start,
            "final": self._final,
            "next_check": self._next_check,
            "scores": self._scores,
            "case_dice": sorted(self._case_dice.items()),
            "random": self._random.bit_generator.state,
            "precision": [precision.dtype, precision.channels_last],
        }
        state = SavedState(loop.learner.state(), self._best, description)
        write_state(folder, state, self._identity)

    def load_state(self, state: SavedState) -> None:
        """Go on where `save_state` was called."""
        description = state.description
        try:
            self._final = description["final"]
            plan, precision = NetworkPlan.from_json(description["plan"]), Precision(*description["precision"])
            self._loop.lesson = replace(self._lesson, plan=plan, precision=precision)
            self._loop.set_network()
            self._loop.learner.load_state(state.learner)
            self._best = state.best
            self.steps = int(description["steps"])
            self._start = time.monotonic() - float(description["elapsed"])
            self._next_check = float(description["next_check"])
            self._scores = dict(description["scores"])
            self._case_dice = {int(case): float(dice) for case, dice in description.get("case_dice", ())}
            self._random.bit_generator.state = description["random"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"the saved state of the training is damaged ({error}); train anew.") from error
