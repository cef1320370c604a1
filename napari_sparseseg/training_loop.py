"""What all processes of a training do: steps, and measuring; the first one of them says when."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sparseseg.annotation import OverlapCounter
from napari_sparseseg.case_store import CaseStore, StoredCase
from napari_sparseseg.events import Event, WorkDone, finish
from napari_sparseseg.inference import PlacedNetwork
from napari_sparseseg.learner import Gentleness, Learner
from napari_sparseseg.networks import (
    NetworkPlan,
    Precision,
    build_network,
    choose_device,
    with_smaller_patch,
)
from napari_sparseseg.patch_step import take_step
from napari_sparseseg.ranks import Order, Ranks
from napari_sparseseg.sampling import PatchSampler
from napari_sparseseg.settings import NetworkConfig, TrainingConfig
from napari_sparseseg.training_data import CHECKED_CASES, TrainingData

_NAMES = ("network", "preview", "both")


@dataclass(frozen=True)
class Lesson:
    """What is learnt, and how: what all processes must agree on.

    Attributes
    ----------
    config, network, plan
        Settings, and geometry of the network.
    channels, classes, position
        Of the image and of the class table, and whether the network takes the position channels.
    precision
        Number format and memory format.
    gently
        Which parameters learn at another rate at first, if any.
    """

    config: TrainingConfig
    network: NetworkConfig
    plan: NetworkPlan
    channels: int
    classes: int
    position: bool
    precision: Precision
    gently: Gentleness | None = None

    def build(self) -> torch.nn.Module:
        """Build the network with random weights."""
        return build_network(self.network, self.plan, self.channels + 3 * self.position, self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        gently = self.gently and [sorted(self.gently.names), self.gently.factor, self.gently.share]
        return {
            "config": self.config.to_json(),
            "network": self.network.to_json(),
            "plan": self.plan.to_json(),
            "channels": self.channels,
            "classes": self.classes,
            "position": self.position,
            "precision": [self.precision.dtype, self.precision.channels_last],
            "gently": gently,
        }

    @classmethod
    def from_json(cls, values: Any) -> "Lesson":
        """Make it of what `to_json` returned."""
        gently = values["gently"]
        return cls(
            TrainingConfig.from_json(values["config"]),
            NetworkConfig.from_json(values["network"]),
            NetworkPlan.from_json(values["plan"]),
            values["channels"],
            values["classes"],
            values["position"],
            Precision(*values["precision"]),
            gently and Gentleness(frozenset(gently[0]), *gently[1:]),
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """How well labels that were held out are met.

    Attributes
    ----------
    overlaps
        Of all cases that were measured: of the "network", and where every one of them has a preview of the
        "preview" and of "both" (their mean probability).
    case_dice
        By index of the case: the network's mean Dice.
    """

    overlaps: dict[str, OverlapCounter]
    case_dice: dict[int, float]

    def dice(self) -> dict[str, float]:
        """Return the mean Dice of each of `overlaps`."""
        return {name: counter.mean_dice() for name, counter in self.overlaps.items()}


class TrainingLoop:
    """A network, what it learns from, and the steps that it takes.

    Parameters
    ----------
    lesson
        What is learnt, and how.
    data
        What from.
    device
        Where.
    random
        Draws the patches; alike in all processes.
    ranks
        The processes.
    """

    def __init__(
        self,
        lesson: Lesson,
        data: TrainingData,
        device: torch.device,
        random: np.random.Generator,
        ranks: Ranks,
    ) -> None:
        self.lesson, self.data, self.device, self.random = lesson, data, device, random
        self._ranks = ranks
        self.learner: Learner

    def set_network(self, network: torch.nn.Module | None = None) -> None:
        """Let a network learn; None: one with random weights."""
        lesson, share = self.lesson, self._ranks.share_gradients
        self.learner = Learner(
            network or lesson.build(), self.device, lesson.precision, lesson.config.learning_rate,
            lesson.gently, share,
        )  # fmt: skip

    def make_sampler(self) -> None:
        """Draw from the labels as they are laid out now."""
        flips = self.lesson.config.allow_flips
        self.arrays = self.data.arrays
        self._sampler = PatchSampler(self.arrays, self.lesson.plan.patch, self.random, flips=flips)

    def step(self, progress: float) -> float:
        """Take one step, all processes together, and return this one's loss."""
        lesson = self.lesson
        with self._ranks.together():
            return take_step(
                self.learner, self._sampler, self.arrays, lesson.plan.patch, self.data.class_weights,
                lesson.config, position=lesson.position, progress=progress, share=self._ranks.share,
            )  # fmt: skip

    def shrink(self) -> str:
        """Make the next step need less memory; return what was done in a sentence."""
        smaller = with_smaller_patch(self.lesson.plan)
        if smaller is not None:
            self.lesson = replace(self.lesson, plan=smaller)
            self.make_sampler()
            return f"The GPU's memory is too small; going on with patches of {smaller.patch} voxels."
        self.device = torch.device("cpu")
        self.learner = self.learner.on_cpu()
        self.lesson = replace(self.lesson, precision=self.learner.precision)
        self.data.place(self.device)
        self.make_sampler()
        return "The GPU's memory is too small for any patch; going on with the CPU."

    def place(self, weights: dict[str, Tensor]) -> PlacedNetwork:
        """Return a network of these weights, to be asked."""
        network = self.lesson.build()
        network.load_state_dict(weights)
        lesson = self.lesson
        return PlacedNetwork(
            lesson.precision.place(network, self.device).eval(),
            lesson.plan, self.device, lesson.precision, lesson.position, lesson.classes,
        )  # fmt: skip

    def score(
        self, *, every: bool, weights: dict[str, Tensor] | None = None
    ) -> Generator[Event, None, Scores]:
        """Measure weights by the labels held out.

        Parameters
        ----------
        every
            By all cases; else, of very many, a part.
        weights
            Measured by this process alone; None for the averaged ones, which each process measures by some of
            the cases.
        """
        ranks = self._ranks if weights is None else Ranks()
        cases, classes = self.data.choose_checked(every=every), self.lesson.classes
        counts = np.zeros((len(_NAMES), classes, classes), np.int64)
        dice, without_preview = np.zeros(len(cases)), np.zeros(1, np.int64)
        with ranks.together():
            placed = self.place(weights or self.learner.average_weights())
            for number in range(ranks.rank, len(cases), ranks.world):
                if len(cases) > CHECKED_CASES:
                    yield WorkDone(number / len(cases), "Measuring")
                counters = self.data.score(placed, cases[number])
                for row, name in enumerate(_NAMES[: len(counters)]):
                    counts[row] += counters[name].counts
                dice[number] = counters["network"].mean_dice()
                without_preview += len(counters) == 1
            counts, dice, without_preview = (ranks.add_up(part) for part in (counts, dice, without_preview))
        overlaps = {name: OverlapCounter(classes) for name in (_NAMES[:1] if without_preview else _NAMES)}
        for counter, table in zip(overlaps.values(), counts, strict=False):
            counter.counts[...] = table
        return Scores(overlaps, dict(zip(cases, dice.tolist(), strict=True)))


def send_loop(loop: TrainingLoop, ranks: Ranks, *, begins: bool) -> None:
    """Give the other processes what they need to take part from here; at the beginning the weights, too."""
    if ranks.world == 1:
        return
    ranks.tell(Order.LAY_OUT)
    with ranks.together():
        ranks.share_json(
            {
                "lesson": loop.lesson.to_json(),
                "data": loop.data.dispatch(),
                "random": loop.random.bit_generator.state,
                "begins": begins,
            }
        )
        if begins:
            ranks.share_tensors(loop.learner.state())


def follow_training(ranks: Ranks) -> None:
    """Take part in a training that another process leads, until that ends it.

    Raises
    ------
    InputError
        If what the leader keeps on disk cannot be read, memory runs out, or the leader has ended.
    """
    loop: TrainingLoop | None = None
    while True:
        order, value = ranks.hear()
        if order == Order.STOP:
            return
        if order == Order.LAY_OUT:
            loop = _receive_loop(ranks, loop)
            continue
        assert loop is not None
        if order == Order.STEP:
            loop.step(value)
        else:
            finish(loop.score(every=bool(value)))


def _receive_loop(ranks: Ranks, before: TrainingLoop | None) -> TrainingLoop:
    told = ranks.share_json()
    lesson = Lesson.from_json(told["lesson"])
    device = choose_device(lesson.config.device)
    data = _receive_data(told["data"], lesson.classes, device)
    random = np.random.default_rng()
    random.bit_generator.state = told["random"]
    loop = TrainingLoop(lesson, data, device, random, ranks)
    if told["begins"]:
        loop.set_network()
        loop.learner.load_state(ranks.share_tensors())
    elif before is not None:
        loop.learner = before.learner
    loop.make_sampler()
    return loop


def _receive_data(told: dict[str, Any], classes: int, device: torch.device) -> TrainingData:
    cases: Sequence[StoredCase] = [StoredCase.from_json(case) for case in told["cases"]]
    store = CaseStore.opened(Path(told["folder"]), classes, cases)
    store.counts = {index: tuple(counts) for index, counts in enumerate(told["counts"])}
    data = TrainingData(store, classes, device)
    data.class_weights = torch.tensor(told["class_weights"], dtype=torch.float32).to(device)
    data.held_out_counts = told["held_out"]
    return data
