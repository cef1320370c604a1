"""What long work reports while it runs: small frozen events, yielded by generators.

Long work is a generator that yields these events and returns its result.  It can be stopped at
each yield by closing it.  `finish` runs one to its end.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.cohort_events import BatchCaseDone, BatchFinished, CaseJudged, CohortTrained

Result = TypeVar("Result")


@dataclass(frozen=True)
class Noted:
    """Something the user should know, in one sentence."""

    text: str


@dataclass(frozen=True, eq=False)
class PreviewReady:
    """The instant classifier's picture of one case.

    Attributes
    ----------
    case
        Index of the case.
    channels
        ``(Z, Y, X)`` class channels, 0 = background.
    name
        Which classifier was chosen.
    held_out_dice
        Its mean Dice on slices left out of its own fit; None with fewer than two labelled slices.
    """

    case: int
    channels: NDArray[np.uint8]
    name: str
    held_out_dice: float | None


@dataclass(frozen=True)
class StepDone:
    """One training step: its number (from 1), its loss, and the share of the budget spent (0–1)."""

    step: int
    loss: float
    progress: float


@dataclass(frozen=True)
class HeldOutScored:
    """Dice of the network on labels held out of training: mean over classes, and per class by name."""

    step: int
    dice: float
    per_class: dict[str, float]


@dataclass(frozen=True)
class WindowDone:
    """Inference has finished `done` of `total` windows."""

    done: int
    total: int


@dataclass(frozen=True)
class WorkDone:
    """A share (0–1) of a long piece of work is done; `words` say what is being done."""

    share: float
    words: str


@dataclass(frozen=True, eq=False)
class BoxRoundMade:
    """Labels were made from boxes.

    Attributes
    ----------
    case
        Index of the case.
    number
        0 for the method's own labels, from 1 on for those that a network made.
    region
        The box looked at, ``(first, last + 1)`` per axis; outside it is background.
    labels
        ``(Z, Y, X)`` of the region: 0 ignore, 1 background, 2… classes; what the next round learns from, and
        the user's own labels.
    channels
        ``(Z, Y, X)`` of the region: class channels, 0 = background; the dense answer.
    quality
        Dice by class name against what is known; empty where nothing is.
    agreement
        Mean intersection over union of each box with that of the object that was found in it.
    """

    case: int
    number: int
    region: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    labels: NDArray[np.uint8]
    channels: NDArray[np.uint8]
    quality: dict[str, float]
    agreement: float


@dataclass(frozen=True)
class BoxesLabelled:
    """All rounds of box-to-mask are made; in the boxes at `fallen_back` the method found too little."""

    fallen_back: tuple[int, ...]


@dataclass(frozen=True)
class ClassifierScored:
    """How well a classifier tells, on parts of volumes held out of training, what is in them.

    Attributes
    ----------
    step
        Training steps so far.
    balanced_accuracy, auc
        By class name, 0 to 1; 0.5 is guessing.  A class with only one kind of answer held out is missing.
    within_volume
        Whether these are slices of the volumes learnt from, so that the figures are optimistic.
    """

    step: int
    balanced_accuracy: dict[str, float]
    auc: dict[str, float]
    within_volume: bool


@dataclass(frozen=True)
class ClassifierTrained:
    """A classifier was written to `folder`."""

    folder: str


@dataclass(frozen=True)
class ClassMapMade:
    """A class map was written to the shared array: 0 to 255, 255 its largest value.

    Attributes
    ----------
    label
        The class as the annotation has it, 2 for the first one after background.
    score
        How sure the network is that the class is there, 0 to 1.
    is_empty
        Whether the map is 0 everywhere.
    """

    label: int
    score: float
    is_empty: bool


@dataclass(frozen=True)
class ClassMapChecked:
    """A class map was compared with those of networks whose weights are random (Adebayo et al. 2018).

    Attributes
    ----------
    similarity
        Mean rank correlation with them, 0 to 1: near 1 the map does not depend on what was learnt.
    depends
        Whether it depends on what was learnt.
    text
        That in a sentence.
    """

    similarity: float
    depends: bool
    text: str


@dataclass(frozen=True)
class PretextScored:
    """How well a pretext task is solved, and how good the features are, on what is not learnt from.

    Attributes
    ----------
    step
        Training steps so far.
    figure
        "accuracy" (larger is better) or "error" (smaller is better).
    value, trivial
        The task's own figure, and what it is by chance or for the trivial answer.
    alignment, uniformity
        Of the features of two views of the same pieces (Wang & Isola 2020): smaller is better.
    spread
        How far apart features lie, 0 to 1.
    collapsed
        Whether the features say nearly the same of everything.
    within_volume
        Whether the volumes are those learnt from, for there are too few to keep one aside.
    """

    step: int
    figure: str
    value: float
    trivial: float
    alignment: float
    uniformity: float
    spread: float
    collapsed: bool
    within_volume: bool


@dataclass(frozen=True, eq=False)
class PretextPictured:
    """What a pretext task sees.

    Attributes
    ----------
    names
        Of the pictures: "input", "target", "prediction", or words of the task's own.
    images
        ``(N, Z, Y, X)``: the picture of each name; normalised intensities.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    """

    names: tuple[str, ...]
    images: NDArray[np.float32]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class EncoderTrained:
    """A pre-trained encoder was written to `folder`."""

    folder: str


@dataclass(frozen=True)
class EncoderProbed:
    """How well labels can be told from an encoder's features by a linear classifier.

    Attributes
    ----------
    folder
        Of the encoder; empty for one with random weights.
    dice
        Mean Dice over the classes, on labels that it was not fitted to.
    per_class
        The same by class name.
    """

    folder: str
    dice: float
    per_class: dict[str, float]


@dataclass(frozen=True)
class WorkerReady:
    """The worker process has loaded its libraries and computes on `device`."""

    device: str


@dataclass(frozen=True)
class ImageReady:
    """The live session knows the image: a stroke will be answered at once."""


@dataclass(frozen=True)
class Waiting:
    """The live session has nothing to do until it is told more; `reason` in words, empty when paused."""

    reason: str


@dataclass(frozen=True)
class StrokeLearnt:
    """The label change with this number has reached training."""

    number: int


@dataclass(frozen=True)
class RoundStarted:
    """A network is learning from the labels as they are.

    Attributes
    ----------
    number
        Counted from 1 in a session.
    labelled, held_out
        Voxels labelled, and of these kept out of training to measure it.
    slices
        Number of slices that the labels lie in.
    """

    number: int
    labelled: int
    held_out: int
    slices: int


@dataclass(frozen=True)
class PictureChanged:
    """The prediction is new in the box ``(first, last + 1)`` per axis; `shown` as in `PictureCompleted`."""

    region: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    shown: str


@dataclass(frozen=True)
class PictureCompleted:
    """The prediction is up to date everywhere.

    Attributes
    ----------
    shown
        Whose answer it is: "preview", "network" or "both" (their mean probability).
    reason
        Why, in a sentence.
    region
        The box looked at, ``(first, last + 1)`` per axis; outside it is background.
    """

    shown: str
    reason: str
    region: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class ModelSaved:
    """The network was written to `folder`."""

    folder: str


@dataclass(frozen=True)
class Failed:
    """What was asked for could not be done.

    Attributes
    ----------
    text
        Why, in a sentence.
    fatal
        Whether the worker ends because of it.
    ended
        Whether the work on the image was ended by an error of the program; opening it again begins anew.
    """

    text: str
    fatal: bool = False
    ended: bool = False


Event = (
    Noted
    | PreviewReady
    | StepDone
    | HeldOutScored
    | WindowDone
    | WorkDone
    | BoxRoundMade
    | BoxesLabelled
    | ClassifierScored
    | ClassifierTrained
    | ClassMapMade
    | ClassMapChecked
    | PretextScored
    | PretextPictured
    | EncoderTrained
    | EncoderProbed
    | BatchCaseDone
    | BatchFinished
    | CohortTrained
    | CaseJudged
    | WorkerReady
    | ImageReady
    | Waiting
    | StrokeLearnt
    | RoundStarted
    | PictureChanged
    | PictureCompleted
    | ModelSaved
    | Failed
)


def finish(work: Generator[Event, None, Result], on_event: Callable[[Event], None] | None = None) -> Result:
    """Run `work` to its end and return its result, handing each event to `on_event`."""
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        if on_event is not None:
            on_event(event)
