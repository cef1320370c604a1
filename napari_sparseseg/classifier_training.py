"""Training a classifier on image-level labels of volumes and slices, as a generator of events."""

import math
import time
from collections.abc import Generator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.classifier import Classifier, ClassifierNetwork, build_classifier
from napari_sparseseg.classifier_bags import BagDrawer, BagSource, whole_bag
from napari_sparseseg.classifier_cases import TaggedCase, prepare_volumes
from napari_sparseseg.classifier_held_out import hold_out
from napari_sparseseg.classifier_pooling import absence_loss, absent_features, bag_loss, pool_boxes
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoder_start import check_encoder, take_over
from napari_sparseseg.encoders import encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import ClassifierScored, Event, Noted, StepDone
from napari_sparseseg.learner import one_cycle
from napari_sparseseg.networks import (
    Precision,
    Triple,
    build_network,
    choose_device,
    choose_precision,
    default_patch_voxels,
    plan_network,
    to_triple,
)
from napari_sparseseg.settings import ClassifierConfig, NetworkConfig

__all__ = ["TaggedCase", "train_classifier"]

_CHECKS = 4
_THICKNESS = 16
_PAIRS = 8
_CLASSES_PER_STEP = 6
_ABSENCE_WEIGHT = 2.0
_THIN = 12  # below, training in bfloat16 may end the process on some CPUs; see `choose_precision`
_AVERAGE_DECAY = 0.98
_WEIGHT_DECAY = 1e-3
_GRADIENT_NORM = 5.0
_GAIN, _NOISE = 0.1, 0.05
_NOT_MEASURED = (
    "Nothing could be held out to measure the classifier by; label more volumes or slices with and without "
    "each class."
)
_MEASURED_SIZES, _MEASURED_PAIRS, _MEASURED_VOLUMES = 8, 3, 8


def train_classifier(
    cases: Sequence[TaggedCase],
    table: ClassTable,
    config: ClassifierConfig,
    network: NetworkConfig | None = None,
    *,
    initial: EncoderCheckpoint | None = None,
) -> Generator[Event, None, Classifier]:
    """Train a classifier on image-level labels.

    In each step the encoder sees whole volumes, as it will when it is asked, and its features are
    averaged over bags: boxes that show a class and boxes that lack it, as many of each and alike in
    size, so that neither tells; the volumes themselves; and, where a class is known to be absent, each
    single feature.  Some volumes, or slices where there are few, are held out to measure it.

    Parameters
    ----------
    cases
        Volumes with image-level labels.
    table
        The classes.
    config
        Steps, learning rate and the like.
    network
        The network whose encoder it gets.
    initial
        An encoder to start from; what fits of it is copied.

    Returns
    -------
    The `Classifier`; events on the way.

    Raises
    ------
    InputError
        If there is nothing to learn from, the volumes do not belong together, the encoder is of another
        network, or it diverges.
    """
    training = _Training(cases, table, config, network or NetworkConfig())
    for reason in training.not_learnt:
        yield Noted(reason)
    if config.held_out > 0 and not training.is_measured:
        yield Noted(_NOT_MEASURED)
    if initial is not None:
        yield Noted(training.start_from(initial))
    while training.steps < config.classifier_steps:
        yield from training.step()
        yield from training.check_held_out()
    return training.result()


class _Training:
    """The prepared volumes, the network, and how far it has come."""

    def __init__(
        self,
        cases: Sequence[TaggedCase],
        table: ClassTable,
        config: ClassifierConfig,
        network_config: NetworkConfig,
    ) -> None:
        self._start = time.monotonic()
        self._table, self._config, self._network_config = table, config, network_config
        self._data = prepare_volumes(cases, table, network_config, outside_absent=config.outside == "absent")
        self._random = np.random.default_rng(config.seed)
        self._noise = torch.Generator().manual_seed(config.seed)
        sources = [BagSource.without_limits(volume.presence) for volume in self._data.volumes]
        self._labels, self.not_learnt = _choose_classes(BagDrawer(sources, self._random, (1, 1, 1)), table)
        self._held_out = hold_out(sources, config.held_out, self._random)
        self._drawer = BagDrawer(self._held_out.learnt, self._random, self._thickness)
        with torch.random.fork_rng(devices=()):  # what else draws from the generator of all goes on as it was
            torch.default_generator.manual_seed(config.seed)
            self._build()
        self.steps = 0
        self._queue: list[int] = []
        self._batch = config.classifier_batch
        self._scores: dict[str, Any] = {}

    @property
    def is_measured(self) -> bool:
        """Whether something is held out to measure the classifier by."""
        return bool(self._held_out.measured)

    @property
    def _thickness(self) -> Triple:
        """Least size of a bag: the same length in mm along all axes."""
        finest = min(self._data.spacing)
        return to_triple(max(1, round(_THICKNESS * finest / length)) for length in self._data.spacing)

    def _build(self) -> None:
        config, data = self._config, self._data
        self._device = choose_device(config.device)
        self._channels = int(data.volumes[0].image.shape[0])
        self._shape = to_triple(np.median([v.presence.shape for v in data.volumes], axis=0).round())
        voxels = default_patch_voxels(torch.device("cpu"))
        self._plan = plan_network(self._shape, data.spacing, self._network_config, voxels)
        whole = build_network(self._network_config, self._plan, self._channels, len(self._table))
        self._level = encoder_of(whole, self._plan).deepest_level(config.stride)
        network = build_classifier(self._network_config, self._plan, self._level, self._channels, self._table)
        thin = min(min(v.presence.shape) for v in data.volumes) <= _THIN
        name = "float32" if thin and self._device.type == "cpu" else "auto"
        self._precision = choose_precision(name, network, self._plan, self._channels, self._device)
        self._place(network)

    def _place(self, network: ClassifierNetwork) -> None:
        self._network = network
        self._precision.place(network, self._device).train()
        self._average = AveragedModel(network, avg_fn=_average)
        self._optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=self._config.classifier_rate,
            weight_decay=_WEIGHT_DECAY,
            fused=self._device.type != "mps",
        )

    def start_from(self, initial: EncoderCheckpoint) -> str:
        """Take over the weights of an encoder; return in a sentence how much of them."""
        check_encoder(initial, self._network_config, self._channels)
        taken = take_over(initial, self._network.encoder, self._plan, self._data.spacing)
        self._average = AveragedModel(self._network, avg_fn=_average)
        return taken.sentence

    def step(self) -> Generator[Event, None, None]:
        """Take one training step; when the GPU's memory is too small, with less, and say so."""
        if not self._queue:
            self._queue = self._random.permutation(self._labels).tolist()
        chosen = [self._queue.pop() for _ in range(min(len(self._queue), _CLASSES_PER_STEP))]
        while True:
            volumes = self._choose_volumes(chosen[0])
            try:
                loss = self._learn(chosen, volumes)
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
            yield Noted(self._shrink())
        if not math.isfinite(loss):
            raise InputError("the training of the classifier diverged; lower the learning rate.")
        self.steps += 1
        yield StepDone(self.steps, loss, self.steps / self._config.classifier_steps)

    def _choose_volumes(self, label: int) -> list[int]:
        """Return volumes for one step: by turns one that can show a class, and one that can lack it.

        The turns go on from step to step, so that also single volumes are of both kinds.
        """
        volumes: list[int] = []
        for turn in range(self.steps * self._batch, (self.steps + 1) * self._batch):
            able = self._drawer.lacking(label) if turn % 2 else self._drawer.showing(label)
            left = np.setdiff1d(able, volumes)
            if len(left):
                volumes.append(int(self._random.choice(left)))
        return volumes

    def _learn(self, labels: Sequence[int], volumes: Sequence[int]) -> float:
        progress = self.steps / self._config.classifier_steps
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.classifier_rate * one_cycle(progress)
        self._optimizer.zero_grad(set_to_none=True)  # first: a step that ran out of memory leaves some
        bags = [bag for label in labels for bag in self._drawer.draw(label, _PAIRS, volumes)]
        wholes = [whole_bag(self._held_out.learnt[n], n, label) for n in volumes for label in labels]
        bags += [bag for bag in wholes if bag is not None]
        logits, used, absences = [], [], []
        for volume in volumes:
            start = to_triple(-int(self._random.integers(stride)) for stride in self._strides)
            features = self._see(self._network, volume, start, augment=True)
            inside = [bag for bag in bags if bag.source == volume]
            if inside:
                logits.append(self._network.head(pool_boxes(features, inside, self._strides, start)))
                used += inside
            absences.append(self._absence(features, volume, start, labels))
        loss = _ABSENCE_WEIGHT * torch.stack(absences).mean()
        if used:
            loss = loss + bag_loss(torch.cat(logits), used)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), _GRADIENT_NORM)
        self._optimizer.step()
        self._average.update_parameters(self._network)
        return float(loss.detach() if norm.isfinite() else norm)

    @property
    def _strides(self) -> Triple:
        return self._network.encoder.strides[-1]

    def _see(self, network: ClassifierNetwork, volume: int, start: Triple, *, augment: bool) -> Tensor:
        """Return the features ``(F, z, y, x)`` of a volume, the first at the voxel `start`, at most 0."""
        image = self._data.volumes[volume].image
        pads = [size for first in reversed(start) for size in (-first, 0)]
        image = nn.functional.pad(image[None], pads, mode="replicate")
        if augment:
            gain = 1 + self._random.uniform(-_GAIN, _GAIN, (image.shape[1], 1, 1, 1))
            noise = torch.randn(image.shape, generator=self._noise)
            image = image * torch.from_numpy(gain).float() + _NOISE * noise
        batch = self._precision.arrange(image.to(self._device))
        with self._precision.autocast(self._device):
            features = network.features(batch)
        return features[0].float()

    def _absence(self, features: Tensor, volume: int, start: Triple, labels: Sequence[int]) -> Tensor:
        head = self._network.head
        maps = torch.einsum("kf,fzyx->kzyx", head.weight, features) + head.bias[:, None, None, None]
        source = self._held_out.learnt[volume]
        absent = absent_features(source, to_triple(features.shape[1:]), self._strides, start)
        return absence_loss(maps, absent, [label - 2 for label in labels])

    def _shrink(self) -> str:
        """Make the next step need less memory; return what was done in a sentence."""
        if self._batch > 1:
            self._batch = 1
            return "The GPU's memory is too small; going on with one volume at a time."
        self._device, self._precision = torch.device("cpu"), Precision("float32", channels_last=False)
        self._place(self._network)
        return "The GPU's memory is too small for a volume; going on with the CPU."

    def check_held_out(self) -> Generator[Event, None, None]:
        """Measure on what is held out, when it is time."""
        if not self._held_out.measured or not self._is_due():
            return
        while True:
            try:
                score = self._score()
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
            yield Noted(self._shrink())
        if score.auc:
            self._scores = {"balanced_accuracy": score.balanced_accuracy, "auc": score.auc}
            yield score

    def _is_due(self) -> bool:
        total = self._config.classifier_steps
        return self.steps * _CHECKS // total > (self.steps - 1) * _CHECKS // total

    def _score(self) -> ClassifierScored:
        random = np.random.default_rng(self._config.seed)
        drawer = BagDrawer(self._held_out.measured, random, self._thickness)
        labels = [
            label for label in self._labels if len(drawer.showing(label)) and len(drawer.lacking(label))
        ]
        thresholds = self._find_thresholds()
        accuracies, areas = {}, {}
        answers = self._answer(drawer, labels, range(len(self._held_out.measured)), self._held_out.indices)
        for label, (shown, logits) in answers.items():
            name = self._table.names[label - 1]
            accuracies[name] = float(balanced_accuracy_score(shown, logits > thresholds[label - 2]))
            areas[name] = float(roc_auc_score(shown, logits))
        return ClassifierScored(self.steps, accuracies, areas, self._held_out.within_volume)

    def _find_thresholds(self) -> NDArray[np.float64]:
        """Return ``(K - 1,)``: from which logit on bags to learn from are best said to show a class."""
        thresholds = np.zeros(len(self._table) - 1)
        random = np.random.default_rng(self._config.seed)
        volumes = range(len(self._data.volumes))
        few = sorted(random.permutation(len(volumes))[:_MEASURED_VOLUMES].tolist())
        drawer = BagDrawer(self._held_out.learnt, random, self._thickness)
        for label, (shown, logits) in self._answer(drawer, self._labels, few, volumes).items():
            if 0 < shown.sum() < len(shown):
                thresholds[label - 2] = find_threshold(shown, logits)
        return thresholds

    @torch.no_grad()
    def _answer(
        self, drawer: BagDrawer, labels: Sequence[int], among: Sequence[int], indices: Sequence[int]
    ) -> dict[int, tuple[NDArray[np.bool_], NDArray[np.float64]]]:
        """Return for each class which of some bags show it, and their logits.

        `among` are the drawer's volumes to use, and `indices` tells which of the data each of its volumes is.
        """
        sizes = range(_MEASURED_SIZES)
        bags = [bag for v in labels for _ in sizes for bag in drawer.draw(v, _MEASURED_PAIRS, among)]
        network = self._averaged()
        logits = np.zeros(len(bags))
        for number in sorted({bag.source for bag in bags}):
            rows = [row for row, bag in enumerate(bags) if bag.source == number]
            features = self._see(network, indices[number], (0, 0, 0), augment=False)
            answers = network.head(pool_boxes(features, [bags[row] for row in rows], self._strides))
            logits[rows] = [answers[i, bags[row].label - 2].item() for i, row in enumerate(rows)]
        shown, labelled = np.array([bag.shown for bag in bags]), np.array([bag.label for bag in bags])
        return {v: (shown[labelled == v], logits[labelled == v]) for v in labels}

    def _averaged(self) -> ClassifierNetwork:
        return cast(ClassifierNetwork, self._average.module)

    def result(self) -> Classifier:
        """Return the trained classifier."""
        state = self._averaged().state_dict()
        weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        weights["head.bias"] -= torch.from_numpy(self._find_thresholds()).float()
        for row in {*range(len(self._table) - 1)} - {label - 2 for label in self._labels}:
            weights["head.weight"][row] = 0  # what was not learnt shall not look as if it were
            weights["head.bias"][row] = 0
        summary = {
            "steps": self.steps,
            "seconds": round(time.monotonic() - self._start, 1),
            "cases": [volume.name for volume in self._data.volumes],
            "learnt": [self._table.names[label - 1] for label in self._labels],
            "held_out": self._scores,
            "within_volume": self._held_out.within_volume,
            "settings": self._config.to_json(),
            "device": str(self._device),
            "precision": self._precision.dtype,
        }
        return Classifier(
            self._network_config, self._plan, self._level, self._channels, self._table,
            self._data.spacing, self._data.normalisation, self._shape, weights, summary,
        )  # fmt: skip


def _choose_classes(drawer: BagDrawer, table: ClassTable) -> tuple[list[int], list[str]]:
    """Return the classes that can be learnt, and for each other one a sentence why it cannot.

    Raises
    ------
    InputError
        If none can be.
    """
    labels, reasons = [], []
    for label, name in enumerate(table.names[1:], start=2):
        if not len(drawer.showing(label)):
            reasons.append(f"{name} is said to be present nowhere; say in which volumes or slices it is")
        elif not len(drawer.lacking(label)):
            reasons.append(f"{name} is said to be absent nowhere; say in which volumes or slices it is not")
        else:
            labels.append(label)
    if not labels:
        raise InputError(f"nothing can be learnt: {'; '.join(reasons)}.")
    return labels, [f"The class {reason}; it is not learnt." for reason in reasons]


def _average(average: Tensor, current: Tensor, number: Tensor | int) -> Tensor:
    """Return the moving average (Polyak & Juditsky 1992), whose memory grows in the first steps."""
    count = float(number)
    return average.lerp(current, 1 - min(_AVERAGE_DECAY, (count + 1) / (count + 10)))


def find_threshold(shown: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
    """Return the threshold of ``(N,)`` logits with the best balanced accuracy, midway between two of them."""
    wrong, right, thresholds = roc_curve(shown, logits, drop_intermediate=False)
    best = min(float(thresholds[np.argmax(right - wrong)]), float(logits.max()) + 1)
    below = logits[logits < best]
    return (best + float(below.max())) / 2 if len(below) else best - 1
