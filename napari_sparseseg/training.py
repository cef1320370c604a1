"""Training a network on the labelled voxels of one or several volumes.

`train_network` is a generator of events that returns a `TrainingResult`.  It can be stopped at any
event and resumed; on the CPU a stopped and resumed training equals an uninterrupted one bit for bit.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.annotation import ClassTable, OverlapCounter, choose_held_out
from napari_sparseseg.case_arrays import lay_out_case, score_held_out, without
from napari_sparseseg.cases import (
    Case,
    balance_classes,
    check_cases,
    find_measurable,
    fingerprint_cases,
    prepare_case,
    weigh_case,
)
from napari_sparseseg.checkpoint import Model, read_tensors, write_tensors
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoder_start import check_encoder, hash_encoder, take_over
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, HeldOutScored, Noted, PreviewReady, StepDone
from napari_sparseseg.inference import PlacedNetwork
from napari_sparseseg.learner import Gentleness, Learner, with_prefix
from napari_sparseseg.networks import (
    NetworkPlan,
    Precision,
    build_network,
    choose_device,
    choose_precision,
    default_patch_voxels,
    plan_network,
    to_triple,
    with_smaller_patch,
)
from napari_sparseseg.normalisation import fit_normalisation
from napari_sparseseg.patch_step import take_step
from napari_sparseseg.preview import Preview, PreviewTeacher
from napari_sparseseg.sampling import PatchSampler
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

_CHECKS = 10
_SAVE_SECONDS = 30.0
_PREVIEW_SHARE = 0.2
_LASTING_SHARE = 0.15
_THICK_SLICES = 3.0
_STATE_FORMAT = "napari-sparseseg training state"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training produced.

    Attributes
    ----------
    model
        The trained network.
    previews
        Per case the instant classifier's picture, from all labels, on the training grid; None where
        none was made.
    held_out_dice
        Mean Dice on labels that were out of training when it was measured, of the "network", the
        "preview" and "both" (their mean probability); empty where nothing could be held out.
    measured_by_derived
        Whether those labels were not the user's but derived from boxes or class maps: there were no others.
    """

    model: Model
    previews: tuple[Preview | None, ...]
    held_out_dice: dict[str, float]
    measured_by_derived: bool = False


def train_network(
    cases: Sequence[Case],
    table: ClassTable,
    config: TrainingConfig,
    network_config: NetworkConfig | None = None,
    *,
    initial: Model | None = None,
    encoder: EncoderCheckpoint | None = None,
    state_folder: Path | None = None,
    resume: bool = False,
) -> Generator[Event, None, TrainingResult]:
    """Train a network on the labelled voxels of `cases`.

    The loss is the sparse cross-entropy of Çiçek et al. (2016) with a soft Dice term; voxels of which
    the instant classifier is confident are labels of lower weight.  Some labelled slices or strokes
    are held out to measure the network honestly.  Where they are a large part of all labels they are
    learnt too in the last part of the training; where they are few they stay out, and the weights
    with the best held-out Dice are returned.

    Parameters
    ----------
    cases
        Volumes with at least background and one class labelled among them.
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

    Returns
    -------
    The `TrainingResult`; events on the way.

    Raises
    ------
    InputError
        If the labels or channels cannot be trained on, the encoder is of another network, or the state
        belongs to other data.
    """
    training = _Training(cases, table, config, network_config or NetworkConfig(), initial, encoder)
    state = training.read_state(state_folder) if resume and state_folder is not None else None
    if training.encoder_taken and state is None:
        yield Noted(training.encoder_taken)
    yield from training.make_previews()
    training.start_phase()
    if state is not None:
        training.load_state(*state)
    saved = time.monotonic()
    try:
        while training.progress < 1:
            yield from training.check_held_out()
            yield from training.step()
            if state_folder is not None and time.monotonic() - saved > _SAVE_SECONDS:
                training.save_state(state_folder)
                saved = time.monotonic()
        yield from training.check_held_out()
    except (GeneratorExit, KeyboardInterrupt):
        if state_folder is not None:
            training.save_state(state_folder)
        raise
    if training.steps == 0:
        yield Noted("There was no time to train the network; give more --seconds.")
    if state_folder is not None:
        training.save_state(state_folder)
    return training.result()


class _Training:
    """The prepared data, the learner, and how far it has come."""

    def __init__(
        self,
        cases: Sequence[Case],
        table: ClassTable,
        config: TrainingConfig,
        network_config: NetworkConfig,
        initial: Model | None,
        encoder: EncoderCheckpoint | None,
    ) -> None:
        if (config.seconds > 0) == (config.steps > 0):
            raise InputError("training needs a number of seconds or a number of steps; give one of the two.")
        cases = [weigh_case(case, config.seeding) for case in cases]
        check_cases(cases, table, initial)
        self._start = time.monotonic()
        self._config = config
        self._table = table
        self._random = np.random.default_rng(config.seed)
        torch.manual_seed(config.seed)
        self._network_config = initial.config if initial else network_config
        self._normalisation = (
            initial.normalisation
            if initial
            else fit_normalisation([c.image for c in cases], [c.annotation for c in cases])
        )
        z, y, x = np.median([case.spacing for case in cases], axis=0).tolist()
        self._spacing = initial.spacing if initial else (z, y, x)
        self._cases = [prepare_case(case, self._normalisation, self._spacing, len(table)) for case in cases]
        self._build_learner(initial, encoder)
        # With the plan as it is before memory may run out: that shrinks it.
        said = [(c.image_labels, c.outside_absent) for c in cases] if config.expansion else []
        settings = (config, self._network_config, table, self._plan, *said)
        self._fingerprint = fingerprint_cases(self._cases, *settings)
        self._previews: list[Preview | None] = [None] * len(cases)
        self._measurable, self._derived = find_measurable(self._cases)
        self._held_out = choose_held_out(self._measurable, config.held_out_share, self._random)
        self._partial_previews = self._previews
        labelled = sum(int((case.annotation > 0).sum()) for case in self._cases)
        held = sum(len(voxels) for voxels in self._held_out)
        self._returns = held > _LASTING_SHARE * labelled
        self._final = held == 0
        self._class_weights = balance_classes(self._cases, len(table)).to(self._device)
        self.steps = 0
        self._next_check = 1 / _CHECKS
        self._scores: dict[str, float] = {}
        self._best: dict[str, Tensor] = {}

    def _build_learner(self, initial: Model | None, encoder: EncoderCheckpoint | None) -> None:
        config = self._config
        self._device = choose_device(config.device)
        self._channels = self._cases[0].image.shape[0]
        if initial:
            self._plan, self._position = initial.plan, initial.position
            network = initial.build()
        else:
            # One volume of thick slices: where a voxel lies says much that its surroundings do not.
            self._position = len(self._cases) == 1 and max(self._spacing) > _THICK_SLICES * min(self._spacing)
            shape = to_triple(np.median([c.annotation.shape for c in self._cases], axis=0).round())
            voxels = config.patch_voxels or default_patch_voxels(self._device)
            self._plan = plan_network(shape, self._spacing, self._network_config, voxels)
            network = self._new_network()
        if encoder is not None and initial is not None:
            raise InputError("training starts from a model or from an encoder; give one of the two.")
        self.encoder_taken, self._gently, self._encoder_hash = "", None, hash_encoder(encoder)
        if encoder is not None:
            check_encoder(encoder, self._network_config, self._channels)
            taken = take_over(encoder, network, self._plan, self._spacing)
            self.encoder_taken = taken.sentence
            self._gently = Gentleness(taken.names, config.encoder_rate, config.encoder_share)
        channels = self._channels + 3 * self._position
        self._precision = choose_precision(config.precision, network, self._plan, channels, self._device)
        self._learner = self._new_learner(network)

    def _new_learner(self, network: torch.nn.Module) -> Learner:
        return Learner(network, self._device, self._precision, self._config.learning_rate, self._gently)

    def _new_network(self) -> torch.nn.Module:
        channels = self._channels + 3 * self._position
        return build_network(self._network_config, self._plan, channels, len(self._table))

    @property
    def progress(self) -> float:
        """Share of the training done, by steps or by the clock."""
        if self._config.steps:
            return min(self.steps / self._config.steps, 1.0)
        return min((time.monotonic() - self._start) / self._config.seconds, 1.0)

    def make_previews(self) -> Generator[Event, None, None]:
        """Fit the instant classifiers: to all labels, and to those not held out."""
        if self._config.preview_weight == 0:
            return
        self._partial_previews = list(self._previews)
        choice = None
        for case, (data, held_out) in enumerate(zip(self._cases, self._held_out, strict=True)):
            if self._out_of_preview_time():
                yield Noted(f"There was time for the previews of {case} of {len(self._cases)} volumes.")
                return
            teacher = PreviewTeacher(data.image, data.spacing, len(self._table), self._config.seed)
            choice = choice or teacher.choose(self._measurable[case], self._out_of_preview_time)
            truth = data.annotation.reshape(-1)[held_out].astype(np.int64) - 1
            check = (held_out, truth) if len(held_out) else None
            partial = teacher.picture(without(data.annotation, held_out), choice, check)
            choice = partial.choice if partial else choice
            preview = teacher.picture(data.annotation, choice) if check else partial
            self._previews[case], self._partial_previews[case] = preview, partial
            if preview is not None:
                channels = preview.probabilities.argmax(0).astype(np.uint8)
                yield PreviewReady(case, channels, choice.name, choice.held_out_dice)

    def _out_of_preview_time(self) -> bool:
        return not self._config.steps and self.progress > _PREVIEW_SHARE

    def start_phase(self) -> None:
        """Lay out the labels to learn from: all of them in the final phase, else without those held out."""
        previews = self._previews if self._final else self._partial_previews
        self._arrays = []
        for case, preview, held_out in zip(self._cases, previews, self._held_out, strict=True):
            annotation = case.annotation if self._final else without(case.annotation, held_out)
            self._arrays.append(lay_out_case(case, annotation, preview, self._class_weights, self._device))
        self._make_sampler()

    def _make_sampler(self) -> None:
        flips = self._config.allow_flips
        self._sampler = PatchSampler(self._arrays, self._plan.patch, self._random, flips=flips)

    def step(self) -> Generator[Event, None, None]:
        """Take one training step; when the GPU's memory is too small, with less, and say so."""
        while True:
            try:
                loss = take_step(
                    self._learner, self._sampler, self._arrays, self._plan.patch, self._class_weights,
                    self._config, position=self._position, progress=self.progress,
                )  # fmt: skip
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
            yield Noted(self._shrink())
        self.steps += 1
        yield StepDone(self.steps, loss, self.progress)

    def _shrink(self) -> str:
        """Make the next step need less memory; return what was done in a sentence."""
        smaller = with_smaller_patch(self._plan)
        if smaller is not None:
            self._plan = smaller
            self._make_sampler()
            return f"The GPU's memory is too small; going on with patches of {smaller.patch} voxels."
        self._device = torch.device("cpu")
        self._class_weights = self._class_weights.cpu()
        self._learner = self._learner.on_cpu()
        self._precision = self._learner.precision
        self.start_phase()
        return "The GPU's memory is too small for any patch; going on with the CPU."

    def check_held_out(self) -> Generator[Event, None, None]:
        """Measure on the held-out labels when it is time, and let them return when theirs has come."""
        ends = self._returns and self.progress >= 1 - self._config.final_share
        if self._final or not (ends or self.progress >= self._next_check):
            return
        self._next_check = (int(self.progress * _CHECKS) + 1) / _CHECKS
        counters = self._score()
        scores = {name: counter.mean_dice() for name, counter in counters.items()}
        if self._returns:
            self._scores = scores
        elif scores["network"] >= self._scores.get("network", 0.0):
            self._scores, self._best = scores, self._learner.average_weights()
        per_class = zip(self._table.names[1:], counters["network"].dice().tolist(), strict=True)
        yield HeldOutScored(self.steps, scores["network"], {n: d for n, d in per_class if d == d})
        if ends:
            self._final = True
            self.start_phase()

    def _score(self) -> dict[str, OverlapCounter]:
        network = self._new_network()
        network.load_state_dict(self._learner.average_weights())
        placed = PlacedNetwork(
            self._precision.place(network, self._device).eval(),
            self._plan, self._device, self._precision, self._position, len(self._table),
        )  # fmt: skip
        return score_held_out(placed, self._cases, self._partial_previews, self._held_out)

    def result(self) -> TrainingResult:
        """Return the trained model: the best weights where that was measured to the end, else the last."""
        weights = self._best or self._learner.average_weights()
        summary = {
            "steps": self.steps,
            "seconds": round(time.monotonic() - self._start, 1),
            "cases": [case.name for case in self._cases],
            "labelled_voxels": sum(int((case.annotation > 0).sum()) for case in self._cases),
            "held_out_dice": self._scores,
            "measured_by_derived": self._derived,
            "encoder": self.encoder_taken,
            "settings": self._config.to_json(),
            "device": str(self._device),
            "precision": self._precision.dtype,
        }
        model = Model(
            self._network_config, self._plan, self._channels, self._position, self._table,
            self._spacing, self._normalisation, weights, summary,
        )  # fmt: skip
        return TrainingResult(model, tuple(self._previews), self._scores, self._derived)

    def save_state(self, folder: Path) -> None:
        """Write all that `load_state` needs to go on exactly here."""
        tensors = {f"learner.{name}": tensor for name, tensor in self._learner.state().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        description = {
            "format": _STATE_FORMAT,
            "data": self._fingerprint,
            "encoder": self._encoder_hash,
            "plan": self._plan.to_json(),
            "steps": self.steps,
            "elapsed": time.monotonic() - self._start,
            "final": self._final,
            "next_check": self._next_check,
            "scores": self._scores,
            "random": self._random.bit_generator.state,
            "precision": [self._precision.dtype, self._precision.channels_last],
        }
        write_tensors(folder / "state", tensors, description)

    def read_state(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read what `save_state` wrote and check that it belongs to this data and these settings."""
        tensors, description = read_tensors(folder / "state")
        encoder = description.get("encoder", self._encoder_hash)  # which old states lack
        wanted = (_STATE_FORMAT, self._fingerprint, self._encoder_hash)
        if (description.get("format"), description.get("data"), encoder) != wanted:
            raise InputError(
                f"{folder} holds a training of other volumes, labels or settings, or from another encoder; "
                "train anew, or start from its model with --init."
            )
        return tensors, description

    def load_state(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
        """Go on where `save_state` was called."""
        try:
            self._final = description["final"]
            self._plan = NetworkPlan.from_json(description["plan"])
            self.start_phase()
            self._precision = Precision(*description["precision"])
            self._learner = self._new_learner(self._new_network())
            self._learner.load_state(with_prefix(tensors, "learner."))
            self._best = with_prefix(tensors, "best.")
            self.steps = int(description["steps"])
            self._start = time.monotonic() - float(description["elapsed"])
            self._next_check = float(description["next_check"])
            self._scores = dict(description["scores"])
            self._random.bit_generator.state = description["random"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"the saved state of the training is damaged ({error}); train anew.") from error
