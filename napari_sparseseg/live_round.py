"""One network's life inside a live session: it learns while labels keep coming."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.annotation import (
    ClassTable,
    choose_held_out,
    split_by_slices,
    without_weak_labels,
)
from napari_sparseseg.case_arrays import move_arrays
from napari_sparseseg.cases import Region
from napari_sparseseg.checkpoint import Model, read_tensors, write_tensors
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import Presence
from napari_sparseseg.inference import PlacedNetwork, predict_box
from napari_sparseseg.learner import Learner, with_prefix
from napari_sparseseg.live_arrays import LiveArrays
from napari_sparseseg.live_network import begin_network, go_on_with
from napari_sparseseg.networks import (
    NetworkPlan,
    Precision,
    build_network,
    choose_device,
    choose_precision,
    to_triple,
    with_smaller_patch,
)
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.patch_step import take_step
from napari_sparseseg.regions import relative
from napari_sparseseg.round_state import check_voxels, describe_round, is_state_of
from napari_sparseseg.sampling import PatchSampler, TrainingArrays
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

HORIZON = 500
"""Steps after the last label change until the learning rate has run out."""

_BACK_TO = 0.3  # of the schedule, when labels change
_FOCUS_DRAWS = 24
_ANYWHERE = 0.3
_OWN_SHARE = 0.25  # of the patches at least, where there are many other cases
_LASTING_SHARE = 0.15
_CHECK_STEPS = 50


class LiveRound:
    """A network that learns from labels that change.

    Some labelled slices or strokes of the first moment are held out to measure it; where they are a
    large part of all labels they return after the first third of the schedule.  Labels that come later
    are learnt at once: every second one of the next patches lies round them.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` of the whole volume, normalised.
    normalisation
        How.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    region
        Learn only inside this box.
    annotation, sources
        ``(Z, Y, X)`` of the whole volume: 0 unlabelled, 1 background, 2… classes; and `source_code` of each.
    table
        The classes.
    config, network_config
        Settings; the number of steps is `HORIZON` where `config.steps` is 0.
    presence
        What image-level labels say of the whole volume.
    encoder
        What the network starts from, if `encoder_start.check_encoder` lets it pass; None: random weights.
    initial
        A network of the same classes, channels and settings to go on with; then no encoder is needed.

    Attributes
    ----------
    presence
        May be changed at any time.
    encoder_taken
        What became of the encoder, or is to be told of the network to go on with, in words.
    is_taught
        Whether the network knew the classes when it began.
    speaks_from
        Steps before which its answers are not worth showing.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        normalisation: Normalisation,
        spacing: tuple[float, float, float],
        region: Region,
        annotation: NDArray[np.uint8],
        sources: NDArray[np.uint8],
        table: ClassTable,
        config: TrainingConfig,
        network_config: NetworkConfig,
        presence: Presence | None = None,
        encoder: EncoderCheckpoint | None = None,
        initial: Model | None = None,
    ) -> None:
        self.table = table
        self.presence = presence
        self.config = config
        self.network_config = network_config
        self.normalisation = normalisation
        self.steps = 0
        self.scores: dict[str, float] = {}
        self.scored_at = 0
        self._schedule = 0
        self._spacing = spacing
        self._channels = int(image.shape[0])
        self._whole = to_triple(image.shape[1:])
        self._random = np.random.default_rng(config.seed)
        torch.manual_seed(config.seed)
        self._device = choose_device(config.device)
        self._others: tuple[TrainingArrays, ...] = ()
        self.is_taught = initial is not None
        if initial is None:
            shape = to_triple(edge.stop - edge.start for edge in region)
            began = begin_network(shape, self._channels, len(table), spacing, config, network_config, encoder)
        else:
            began = go_on_with(initial, spacing, config)
        self._plan, self._position, self._gently = began.plan, began.position, began.gently
        self.encoder_taken, self._start_hash = began.encoder_taken, began.encoder_hash
        self.speaks_from = began.speaks_from
        channels = self._channels + 3 * self._position
        precision = choose_precision(config.precision, began.network, self._plan, channels, self._device)
        self._learner = self._new_learner(began.network, precision)
        self._began = time.monotonic()
        strong = without_weak_labels(annotation, sources)
        held_out = choose_held_out([strong], config.held_out_share, self._random)[0]
        self._units = split_by_slices(annotation, held_out)
        labelled = int((annotation > 0).sum())
        self._returns = len(held_out) > _LASTING_SHARE * labelled
        self.labelled_at_start = labelled
        self._placed: PlacedNetwork | None = None
        self.set_region(image, region, annotation, sources)

    @property
    def channels(self) -> int:
        """Number of the image's channels."""
        return self._channels

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm ``(Z, Y, X)`` that it learns at."""
        return self._spacing

    @property
    def held_out(self) -> NDArray[np.int64]:
        """Flat indices of the labels held out."""
        return np.concatenate([np.zeros(0, np.int64), *self._units])

    def _new_network(self) -> torch.nn.Module:
        channels = self._channels + 3 * self._position
        return build_network(self.network_config, self._plan, channels, len(self.table))

    def _new_learner(self, network: torch.nn.Module, precision: Precision) -> Learner:
        return Learner(network, self._device, precision, self.config.learning_rate, self._gently)

    @property
    def progress(self) -> float:
        """Share of the schedule done since labels last changed, 0 to 1."""
        return min(self._schedule / (self.config.steps or HORIZON), 1.0)

    @property
    def measuring(self) -> bool:
        """Whether labels are held out now."""
        return len(self._units) > 0

    def without_held_out(self, annotation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a copy of an annotation of the whole volume without the labels held out."""
        kept = annotation.copy()
        kept.reshape(-1)[self.held_out] = 0
        return kept

    def set_region(
        self,
        image: NDArray[np.float32],
        region: Region,
        annotation: NDArray[np.uint8],
        sources: NDArray[np.uint8],
    ) -> None:
        """Learn inside another box from now on; the arrays are those of the whole volume."""
        self._own = LiveArrays(image, region, self._spacing, self._device)
        self._lay_out(annotation, sources)

    def learn(
        self,
        annotation: NDArray[np.uint8],
        sources: NDArray[np.uint8],
        fresh: NDArray[np.int64],
    ) -> None:
        """Take in labels that have changed at the flat indices `fresh`; arrays of the whole volume."""
        # What is painted anew is learnt at once, and with it all that was held out in the same go.
        self._units = [unit for unit in self._units if not np.isin(unit, fresh).any()]
        self._lay_out(annotation, sources)
        labelled_anew = fresh[annotation.reshape(-1)[fresh] > 0]
        self._sampler.focus(0, self._own.find_inside(labelled_anew), _FOCUS_DRAWS)
        self._schedule = min(self._schedule, round(_BACK_TO * (self.config.steps or HORIZON)))

    def _lay_out(self, annotation: NDArray[np.uint8], sources: NDArray[np.uint8]) -> None:
        region = self._own.region
        part = np.ascontiguousarray(self.without_held_out(annotation)[region])
        if not part.any():  # the others were erased
            self._units = []
            part = np.ascontiguousarray(annotation[region])
        self._own.lay_out(part, sources[region], len(self.table), self.config.seeding)
        self._make_sampler()

    def _make_sampler(self) -> None:
        flips = self.config.allow_flips
        anywhere = _ANYWHERE if self.config.preview_weight else 0.0
        arrays = [self._own.gather(self.presence), *self._others]
        self._sampler = PatchSampler(
            arrays, self._plan.patch, self._random, flips=flips, anywhere=anywhere,
            first=_OWN_SHARE if len(self._others) * _OWN_SHARE > 1 else 0.0,
        )  # fmt: skip

    def learn_beside(self, others: Sequence[TrainingArrays]) -> None:
        """Learn from these cases, too, from now on; they are prepared as the image is."""
        try:
            self._others = tuple(move_arrays(case, self._device) for case in others)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            self._others = tuple(others)  # patches are cut on the CPU
        before = self._sampler
        self._make_sampler()
        self._sampler.take_focus(before)

    def teach(self, box: Region, probabilities: NDArray[np.float32]) -> None:
        """Let the preview's confident voxels in `box`, a part of the region, be labels of lower weight."""
        self._own.teach(box, probabilities)

    def remind(self, known: NDArray[np.uint8]) -> None:
        """Let these ``(Z, Y, X)`` values of the region, 0 for none, be all labels of lower weight."""
        self._own.remind(known)

    def step(self) -> float:
        """Take one step and return its loss; where a GPU's memory is too small, a smaller one.

        Raises
        ------
        FloatingPointError
            If the loss is not finite; the network is of no use any more.
        """
        while True:
            try:
                arrays = [self._own.gather(self.presence), *self._others]
                loss = take_step(
                    self._learner, self._sampler, arrays, self._plan.patch, self._own.class_weights,
                    self.config, position=self._position, progress=self.progress,
                )  # fmt: skip
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                self._shrink()
        self._placed = None
        if not math.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        self.steps += 1
        self._schedule += 1
        return loss

    def _shrink(self) -> None:
        smaller = with_smaller_patch(self._plan)
        if smaller is not None:
            self._plan = smaller
            self._make_sampler()
        else:
            self._go_to_cpu()

    def _go_to_cpu(self) -> None:
        self._device = torch.device("cpu")
        self._learner = self._learner.on_cpu()
        self._placed = None
        self._own.move(self._device)
        self._others = tuple(move_arrays(case, self._device) for case in self._others)
        self._make_sampler()

    def predict(self, box: Region) -> NDArray[np.float32]:
        """Return ``(K, …)`` class probabilities in `box`, a part of the region in the volume's voxels."""
        try:
            return self._predict(relative(box, self._own.region))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            self._go_to_cpu()
            return self._predict(relative(box, self._own.region))

    def _predict(self, box: Region) -> NDArray[np.float32]:
        if self._placed is None:
            network = self._new_network()
            network.load_state_dict(self._learner.average_weights())
            precision = self._learner.precision
            network = precision.place(network, self._device).eval()
            self._placed = PlacedNetwork(
                network, self._plan, self._device, precision, self._position, len(self.table)
            )
        return predict_box(self._placed, self._own.image, box, self._own.start, self._whole)

    @property
    def check_due(self) -> bool:
        """Whether it is time to measure on the labels held out."""
        return self.measuring and self.steps > 0 and self.steps % _CHECK_STEPS == 0

    def finish_check(
        self, scores: dict[str, float], annotation: NDArray[np.uint8], sources: NDArray[np.uint8]
    ) -> None:
        """Take what was measured; let held-out labels return when their time has come."""
        self.scores, self.scored_at = scores, self.steps
        if self._returns and self.progress >= 1 - self.config.final_share:
            self.release_held_out(annotation, sources)

    def release_held_out(self, annotation: NDArray[np.uint8], sources: NDArray[np.uint8]) -> None:
        """Learn the labels held out, too."""
        self._units = []
        self._lay_out(annotation, sources)

    def model(self) -> Model:
        """Return the network as it is, with its averaged weights."""
        summary = {
            "steps": self.steps,
            "seconds": round(time.monotonic() - self._began, 1),
            "labelled_voxels": int((self._own.labels > 0).sum()),
            "held_out_dice": self.scores,
            "held_out_measured_at_step": self.scored_at,
            "settings": self.config.to_json(),
            "device": str(self._device),
            "precision": self._learner.precision.dtype,
        }
        return Model(
            self.network_config, self._plan, self._channels, self._position, self.table,
            self._spacing, self.normalisation, self._learner.average_weights(), summary,
        )  # fmt: skip

    def save_state(self, folder: Path) -> None:
        """Write all that `load_state` needs."""
        tensors = {f"learner.{name}": tensor for name, tensor in self._learner.state().items()}
        tensors |= {f"held_out.{i}": torch.from_numpy(unit) for i, unit in enumerate(self._units)}
        description = {
            **self._fingerprint(),
            "plan": self._plan.to_json(),
            "steps": self.steps,
            "schedule": self._schedule,
            "scores": self.scores,
            "scored_at": self.scored_at,
            "returns": self._returns,
            "labelled_at_start": self.labelled_at_start,
            "elapsed": time.monotonic() - self._began,
            "precision": [self._learner.precision.dtype, self._learner.precision.channels_last],
        }
        write_tensors(folder / "state", tensors, description)

    def load_state(self, folder: Path, annotation: NDArray[np.uint8], sources: NDArray[np.uint8]) -> bool:
        """Go on where `save_state` was called; return False where that was of other data or settings.

        Raises
        ------
        InputError
            If there is no state, or it is damaged; then nothing has changed.
        """
        tensors, description = read_tensors(folder / "state")
        if not is_state_of(self._fingerprint(), description):
            return False
        before = self._plan
        try:
            self._plan = NetworkPlan.from_json(description["plan"])
            learner = self._new_learner(self._new_network(), Precision(*description["precision"]))
            learner.load_state(with_prefix(tensors, "learner."))
            steps, schedule = int(description["steps"]), int(description["schedule"])
            scores = {str(name): float(dice) for name, dice in description["scores"].items()}
            returns, scored_at = bool(description["returns"]), int(description["scored_at"])
            labelled, elapsed = int(description["labelled_at_start"]), float(description["elapsed"])
            units = [check_voxels(u, annotation.size) for u in with_prefix(tensors, "held_out.").values()]
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            self._plan = before
            raise InputError("the saved state of the training is damaged.") from error
        self._learner, self._placed = learner, None
        self.steps, self._schedule, self._returns = steps, schedule, returns
        self.scores, self.scored_at, self.labelled_at_start = scores, scored_at, labelled
        self._began = time.monotonic() - elapsed
        flat = annotation.reshape(-1)
        self._units = [kept for unit in units if len(kept := unit[flat[unit] > 0])]
        self._lay_out(annotation, sources)
        return True

    def _fingerprint(self) -> dict[str, Any]:
        return describe_round(
            self.table, self._channels, self._whole, self._spacing, self.network_config, self.config,
            self.normalisation, self._start_hash,
        )  # fmt: skip


def make_round(**data: Any) -> LiveRound:
    """Make a `LiveRound`, on the CPU where a GPU's memory is too small for it."""
    try:
        return LiveRound(**data)
    except torch.cuda.OutOfMemoryError:
        return LiveRound(**{**data, "config": replace(data["config"], device="cpu")})
