"""Learning an encoder from volumes without labels, as a generator of events.

One loop serves all tasks.  It can be stopped at any event and gone on with; on the CPU that equals an
uninterrupted one bit for bit, when its length is given in steps.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_sparseseg.checkpoint import read_tensors, write_tensors
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, PretextPictured, PretextScored, StepDone
from napari_sparseseg.learner import lay_out_moments, one_cycle, with_prefix
from napari_sparseseg.networks import (
    NetworkPlan,
    Precision,
    Triple,
    choose_device,
    choose_precision,
    default_patch_voxels,
    plan_network,
    to_triple,
)
from napari_sparseseg.pretext import Batch, Picture, TaskBuilder, TaskContext
from napari_sparseseg.pretext_contrastive import CONTRASTIVE_TASKS
from napari_sparseseg.pretext_generative import GENERATIVE_TASKS
from napari_sparseseg.pretext_similarity import SIMILARITY_TASKS
from napari_sparseseg.pretext_spatial import SPATIAL_TASKS
from napari_sparseseg.pretext_synthetic import SYNTHETIC_TASKS
from napari_sparseseg.pretraining_settings import STATE_FORMAT, PretextConfig, PretrainingConfig
from napari_sparseseg.pretraining_survey import Survey, survey_volumes
from napari_sparseseg.representation import alignment, has_collapsed, spread, uniformity
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.views import draw_views
from napari_sparseseg.volume_pool import VolumePool, VolumeSource

PRETEXT_TASKS: Mapping[str, TaskBuilder] = {
    **GENERATIVE_TASKS,
    **SPATIAL_TASKS,
    **SIMILARITY_TASKS,
    **SYNTHETIC_TASKS,
    **CONTRASTIVE_TASKS,
}
"""Name of a task → what solves it."""

TURN_STEPS = 50
"""Steps after which volumes that do not fit into memory take turns, and pieces are grouped anew."""

_CROP_VOXELS = {"cpu": 32**3, "mps": 32**3, "cuda": 64**3}
_CHECKS = 10
_MEASURED_BATCHES = 4
_MEASURED_VOLUMES = 8
_VIEWS = 32
_MEASURED_SHARE = 0.25  # of the memory
_FEWEST_FOR_HELD_OUT = 4
_THIN = 12  # below, training in bfloat16 may end the process on some CPUs; see `choose_precision`
_SAVE_SECONDS = 30.0
_WEIGHT_DECAY = 1e-4
_GRADIENT_NORM = 5.0
_STEP, _REGROUP, _MEASURE = range(3)  # kinds of random numbers
_Made = TypeVar("_Made")


def pretrain(
    sources: Sequence[VolumeSource],
    config: PretrainingConfig,
    pretext: PretextConfig | None = None,
    network: NetworkConfig | None = None,
    *,
    state_folder: Path | None = None,
    resume: bool = False,
) -> Generator[Event, None, EncoderCheckpoint]:
    """Let an encoder learn from volumes by a pretext task.

    Parameters
    ----------
    sources
        The volumes; each is read once at the beginning, and again whenever its turn comes where not all fit
        into `PretrainingConfig.memory_mb`.
    config, pretext
        The task, length and so on, and what the task is like.
    network
        The network whose encoder learns.
    state_folder
        Where to keep what going on needs: written every half minute, on stopping and at the end.  Delete it
        by `checkpoint.delete_tensors` when the encoder is written: until then it is all there is.
    resume
        Go on from `state_folder`.

    Returns
    -------
    The encoder; events on the way: `StepDone`, `PretextScored`, `PretextPictured`, `WorkDone`, `Noted`.

    Raises
    ------
    InputError
        If no volume can be learnt from or one cannot be read any more, the task does not fit them, it
        diverges, or there is no state or it belongs to other volumes or settings.
    """
    if (config.seconds > 0) == (config.steps > 0):
        raise InputError("pre-training needs a number of seconds or a number of steps; give one of the two.")
    state = read_tensors(state_folder / "state") if resume and state_folder is not None else None
    survey = yield from survey_volumes(sources)
    training = _Pretraining(survey, config, pretext or PretextConfig(), network or NetworkConfig())
    if state is not None:
        training.load_state(*state)
    saved = time.monotonic()
    with training.reading_ahead():
        try:
            while training.progress < 1:
                yield from training.turn()
                yield from training.check()
                yield from training.step()
                if state_folder is not None and time.monotonic() - saved > _SAVE_SECONDS:
                    training.save_state(state_folder)
                    saved = time.monotonic()
            yield from training.check()
        except (GeneratorExit, KeyboardInterrupt):
            if state_folder is not None:
                training.save_state(state_folder)
            raise
    if state_folder is not None:
        training.save_state(state_folder)
    return training.result()


class _Pretraining:
    """The volumes, the task, the optimiser, and how far they have come."""

    def __init__(
        self, survey: Survey, config: PretrainingConfig, pretext: PretextConfig, network: NetworkConfig
    ) -> None:
        self._start = time.monotonic()
        self._survey, self._config, self._pretext, self._network = survey, config, pretext, network
        self._device = choose_device(config.device)
        self._plan = plan_network(
            survey.shape, survey.spacing, network, default_patch_voxels(torch.device("cpu"))
        )
        crop = self._choose_crop()
        extent = to_triple(np.maximum(crop, self._plan.patch))
        learnt, measured = _split(survey, config)
        self._within_volume = not measured
        to_measure = int(_MEASURED_SHARE * config.memory_mb)
        self._pool = self._make_pool(learnt, extent, config.memory_mb - to_measure)
        self._measured_pool = self._make_pool(measured or learnt[:_MEASURED_VOLUMES], extent, to_measure)
        labels = frozenset[int]().union(*(survey.labelled[index] for index in learnt))
        context = TaskContext(
            pretext, network, self._plan, survey.channels, survey.spacing, crop, extent, survey.shape,
            config.batch_size, len(learnt), len(labels - {1}), survey.is_ct,
        )  # fmt: skip
        with torch.random.fork_rng(devices=()):  # what else draws from the generator of all goes on as it was
            torch.default_generator.manual_seed(config.seed)
            self._task = PRETEXT_TASKS[config.task](context)
            plan, name = replace(self._plan, patch=crop), config.precision
            if name == "auto" and self._device.type == "cpu" and min(self._task.smallest) <= _THIN:
                name = "float32"
            self._precision = choose_precision(
                name, context.build_network(2), plan, survey.channels, self._device
            )
        self._place()
        self.steps = 0
        self._turn = self._grouped = -1  # the last turn begun, and that of which the task grouped the pieces
        self._next_check = 0.0
        self._collapsed = False
        self._scores: dict[str, Any] = {}

    def _choose_crop(self) -> Triple:
        survey, voxels = self._survey, self._config.crop_voxels or _CROP_VOXELS[self._device.type]
        wanted = plan_network(survey.shape, survey.spacing, self._network, voxels).patch
        return fit_to_strides(wanted, self._plan)

    def _make_pool(self, indices: Sequence[int], extent: Triple, memory_mb: int) -> VolumePool:
        survey = self._survey
        return VolumePool(
            [survey.sources[index] for index in indices],
            [survey.channels * math.prod(np.maximum(survey.shapes[i], extent).tolist()) for i in indices],
            survey.normalisation, survey.spacing, extent, memory_mb, self._config.seed,
        )  # fmt: skip

    def _place(self) -> None:
        self._precision.place(self._task, self._device).train()
        self._parameters = [p for p in self._task.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=self._config.learning_rate,
            weight_decay=_WEIGHT_DECAY,
            fused=self._device.type != "mps",
        )

    @contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Read the volumes of the next turn meanwhile."""
        with self._pool.reading_ahead():
            yield

    @property
    def progress(self) -> float:
        """Share of the learning done, by steps or by the clock."""
        if self._config.steps:
            return min(self.steps / self._config.steps, 1.0)
        return min((time.monotonic() - self._start) / self._config.seconds, 1.0)

    def turn(self) -> Generator[Event, None, None]:
        """Let volumes take turns and the task group its pieces, when it is time."""
        number = self.steps // TURN_STEPS
        if number != self._turn:
            self._pool.turn(number)
            self._turn = number
        if number != self._grouped:  # else it was grouped before the training was stopped
            notes = yield from self._with_less(self._regroup)
            self._grouped = number
            yield from map(Noted, notes)

    def _regroup(self) -> Sequence[str]:
        random = np.random.default_rng([self._config.seed, _REGROUP, self._turn])
        with self._evaluating():
            return self._task.regroup(self._pool, random)

    def step(self) -> Generator[Event, None, None]:
        """Take one step."""
        loss = yield from self._with_less(self._learn)
        if not math.isfinite(loss):
            raise InputError("the pre-training diverged; lower the learning rate.")
        self.steps += 1
        yield StepDone(self.steps, loss, self.progress)

    def _with_less(self, work: Callable[[], _Made]) -> Generator[Event, None, _Made]:
        """Return what `work` makes; when the GPU's memory is too small, of less, and say so."""
        while True:
            try:
                return work()
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
            yield Noted(self._shrink())

    def _learn(self) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * self._task.rate * one_cycle(self.progress)
        self._optimizer.zero_grad(set_to_none=True)  # first: a step that ran out of memory leaves some
        random = np.random.default_rng([self._config.seed, _STEP, self.steps])
        batch = self._bring(self._task.draw(self._pool, random))
        with self._precision.autocast(self._device):
            loss = self._task.learn(batch).loss
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters, _GRADIENT_NORM, foreach=True)
        self._optimizer.step()
        self._task.advance()
        return float(loss.detach() if norm.isfinite() else norm)

    def _bring(self, batch: Batch) -> dict[str, Tensor]:
        moved = {name: tensor.to(self._device) for name, tensor in batch.items()}
        return {name: self._precision.arrange(t) if t.ndim == 5 else t for name, t in moved.items()}

    def _shrink(self) -> str:
        """Make the next step need less memory; return what was done in a sentence."""
        half = self._task.context.batch_size // 2
        if half >= 2:
            self._task.context = replace(self._task.context, batch_size=half)
            return f"The GPU's memory is too small; going on with {half} pieces in a step."
        self._device, self._precision = torch.device("cpu"), Precision("float32", channels_last=False)
        self._place()
        return "The GPU's memory is too small for any piece; going on with the CPU."

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self._task.eval()
        try:
            with torch.no_grad(), self._precision.autocast(self._device):
                yield
        finally:
            self._task.train()

    def check(self) -> Generator[Event, None, None]:
        """Measure and picture the task on what is not learnt from, when it is time."""
        if self.progress < self._next_check:
            return
        self._next_check = min(int(self.progress * _CHECKS) + 1, _CHECKS) / _CHECKS
        if not self._measured_pool.resident:
            self._measured_pool.turn(0)
        score, pictures = yield from self._with_less(self._measure)
        self._scores = {key: value for key, value in vars(score).items() if key != "step"}
        yield score
        names = tuple(picture.name for picture in pictures)
        images = np.stack([picture.image for picture in pictures]).astype(np.float32)
        yield PretextPictured(names, images, self._survey.spacing)
        if score.collapsed and not self._collapsed and self.steps:
            yield Noted(
                "The features have collapsed: they say nearly the same of everything, and are of little use. "
                "Lower the learning rate, or choose another task."
            )
        self._collapsed = score.collapsed

    def _measure(self) -> tuple[PretextScored, Sequence[Picture]]:
        pool, seed = self._measured_pool, self._config.seed
        with self._evaluating():
            batches = [
                self._bring(self._task.draw(pool, np.random.default_rng([seed, _MEASURE, number])))
                for number in range(_MEASURED_BATCHES)
            ]
            outcomes = [self._task.learn(batch) for batch in batches]
            pictures = self._task.picture(batches[0])
            views = draw_views(pool, np.random.default_rng([seed, _MEASURE]), self._task.context.crop, _VIEWS)
            first, second = map(self._embed, views)
        score = PretextScored(
            self.steps, self._task.figure,
            float(torch.stack([o.figure.float() for o in outcomes]).mean()),
            float(torch.stack([o.trivial.float() for o in outcomes]).mean()),
            alignment(first, second), uniformity(first), spread(first),
            collapsed=has_collapsed(first), within_volume=self._within_volume,
        )  # fmt: skip
        return score, pictures

    def _embed(self, pieces: Tensor) -> Tensor:
        """Return what the encoder says of ``(N, C, Z, Y, X)``, looking at as many at once as a step does."""
        parts = torch.split(pieces, self._task.context.batch_size)
        return torch.cat([self._task.embed(self._precision.arrange(p.to(self._device))) for p in parts])

    def result(self) -> EncoderCheckpoint:
        """Return the encoder."""
        state = self._task.encoder.state_dict()
        weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        summary = {
            "steps": self.steps,
            "seconds": round(time.monotonic() - self._start, 1),
            "volumes": [source.name for source in self._survey.sources],
            "data_sha256": self._survey.data_hash,
            "scores": self._scores,
            "settings": self._config.to_json(),
            "pretext": self._pretext.to_json(),
            "device": str(self._device),
            "precision": self._precision.dtype,
        }
        return EncoderCheckpoint(
            self._config.task, self._network, self._plan, self._survey.channels, self._survey.spacing,
            self._survey.normalisation, weights, summary,
        )  # fmt: skip

    @property
    def _fingerprint(self) -> str:
        settings = [self._config.to_json(), self._pretext.to_json(), self._network.to_json()]
        description = json.dumps([self._survey.digests, *settings], sort_keys=True)
        return hashlib.sha256(description.encode()).hexdigest()

    def save_state(self, folder: Path) -> None:
        """Write all that `load_state` needs to go on exactly here."""
        tensors = {f"task.{name}": tensor for name, tensor in self._task.state_dict().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in values.items()}
        description = {
            "format": STATE_FORMAT,
            "data": self._fingerprint,
            "steps": self.steps,
            "elapsed": time.monotonic() - self._start,
            "next_check": self._next_check,
            "grouped": self._grouped,
            "batch_size": self._task.context.batch_size,
            "precision": [self._precision.dtype, self._precision.channels_last],
            "scores": self._scores,
        }
        write_tensors(folder / "state", {name: t.clone() for name, t in tensors.items()}, description)

    def load_state(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Go on where `save_state` was called, of which these were read."""
        if description.get("format") != STATE_FORMAT or description.get("data") != self._fingerprint:
            raise InputError(
                "the stopped pre-training is of other volumes or settings, or of these in another order; "
                "give what it was begun with, or another folder."
            )
        try:
            self._precision = Precision(*description["precision"])
            self._place()
            self._task.load_state_dict(with_prefix(tensors, "task."))
            self._task.context = replace(self._task.context, batch_size=int(description["batch_size"]))
            state = self._optimizer.state_dict()
            state["state"] = {}
            for name, tensor in with_prefix(tensors, "optimizer.").items():
                index, key = name.split(".")
                state["state"].setdefault(int(index), {})[key] = tensor
            self._optimizer.load_state_dict(state)
            lay_out_moments(self._optimizer)
            self.steps = int(description["steps"])
            self._start = time.monotonic() - float(description["elapsed"])
            self._next_check = float(description["next_check"])
            self._grouped = int(description["grouped"])
            self._scores = dict(description["scores"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"the saved state is damaged ({error}); begin anew.") from error


def fit_to_strides(size: Triple, plan: NetworkPlan) -> Triple:
    """Return the size nearest to `size` that a network can halve as often as it does, and twice at least."""
    divisors = [math.prod(level[axis] for level in plan.strides) for axis in range(3)]
    return to_triple(
        max(round(length / d), 2 if d > 1 else 1) * d for length, d in zip(size, divisors, strict=True)
    )


def _split(survey: Survey, config: PretrainingConfig) -> tuple[list[int], list[int]]:
    """Return the volumes to learn from and those to measure by; labelled ones are learnt from."""
    count = len(survey.sources)
    order = np.random.default_rng(config.seed).permutation(count).tolist()
    free = [index for index in order if not survey.labelled[index]]
    held = 0
    if config.held_out_share > 0 and count >= _FEWEST_FOR_HELD_OUT:
        held = min(max(1, round(config.held_out_share * count)), len(free), _MEASURED_VOLUMES)
    return sorted(set(range(count)) - set(free[:held])), sorted(free[:held])
