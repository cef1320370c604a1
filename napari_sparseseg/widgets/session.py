"""What is known of the work at this moment, gathered in one place to be shown."""

import time
from dataclasses import dataclass, field

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.events import BoxRoundMade, ClassifierScored, PretextScored
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.project_encoders import EncoderSummary, ProbeRecord
from napari_sparseseg.project_records import BoxRecord, ImageLabelRecord, PointRecord
from napari_sparseseg.settings import (
    LIVE_TRAINING,
    BoxConfig,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    SeedConfig,
    TrainingConfig,
)
from napari_sparseseg.widgets.pretrain_snapshots import SECONDS

_MOST_POINTS = 600
Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""A box of a volume: ``(first, last + 1)`` per axis."""


@dataclass
class Curve:
    """Points of a plot; a long curve keeps every second point, so that it never grows without end."""

    _points: list[tuple[int, float]] = field(default_factory=list, init=False)
    _stride: int = field(default=1, init=False)
    _seen: int = field(default=0, init=False)

    def add(self, step: int, value: float) -> None:
        """Append a point."""
        if self._seen % self._stride == 0:
            self._points.append((step, value))
        self._seen += 1
        if len(self._points) > _MOST_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    @property
    def points(self) -> tuple[tuple[int, float], ...]:
        """All points kept."""
        return tuple(self._points)


@dataclass
class Learning:
    """A round of training: what has been heard of it, and how long it has been running.

    Attributes
    ----------
    slices
        That the labels lie in; 0 before the round began.
    steps, progress
        Taken so far, and the share of the schedule done (0–1).
    agreement
        Dice on held-out labels, None before it was measured.
    record
        Number of the round in the project; 0 when it is not kept.
    """

    slices: int = 0
    steps: int = 0
    progress: float = 0.0
    agreement: float | None = None
    record: int = 0
    losses: Curve = field(default_factory=Curve)
    agreements: Curve = field(default_factory=Curve)
    _seconds: float = 0.0
    _since: float | None = None

    def run(self, running: bool) -> None:
        """Let the clock run, or hold it."""
        self._seconds = self.seconds
        self._since = time.monotonic() if running else None

    @property
    def seconds(self) -> float:
        """For how long it has been learning."""
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)


@dataclass
class Job:
    """What the worker may do in place of learning from strokes.

    Attributes
    ----------
    running
        What is being done, a key of `job_words.JOB_WORDS`; empty when nothing is.
    progress, doing
        The share done, None where that is not known, and what is being done, in words.
    outcome
        What came of it, in words.
    notes
        Sentences that came on the way.
    """

    running: str = ""
    progress: float | None = None
    doing: str = ""
    outcome: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class BoxWork(Job):
    """The boxes of an image, and what was made of them.

    Attributes
    ----------
    records, chosen
        The boxes, and the number of the one that is marked.
    drawing
        Whether the rectangle tool is in the user's hand.
    rounds, shown, kept
        What was made, and the numbers of the rounds that are shown and kept as labels.
    asked, values
        The boxes that the rounds were made of, and the painted values of the classes then, as in the table.
    truth
        What the rounds are compared with: "strokes", or the name of a Labels layer.
    method
        By which the rounds were begun.
    """

    records: tuple[BoxRecord, ...] = ()
    chosen: int | None = None
    drawing: bool = False
    rounds: list[BoxRoundMade] = field(default_factory=list)
    shown: int | None = None
    kept: int | None = None
    asked: tuple[BoxRecord, ...] = ()
    values: tuple[int, ...] = ()
    truth: str = "strokes"
    method: str = ""


@dataclass
class CamWork(Job):
    """What was said of an image in words and by points, and the class maps that came of it.

    Attributes
    ----------
    labels, points
        The image-level labels and the points.
    begun
        Axis and slice on which a range has begun, by the painted value of its class.
    marking
        Whether a click sets a point.
    has_classifier
        Whether one has learnt.
    scores
        How well it did so last.
    subject
        Which network is asked: "classifier" or "network".
    asking
        Whether the next click says about which place it is asked.
    mapped, score
        Painted value of the class whose map was made last, and how sure the network is that it is there.
    check, check_passed
        What the last check of a map said.
    """

    labels: tuple[ImageLabelRecord, ...] = ()
    points: tuple[PointRecord, ...] = ()
    begun: dict[int, tuple[int, int]] = field(default_factory=dict)
    marking: bool = False
    has_classifier: bool = False
    scores: ClassifierScored | None = None
    subject: str = "classifier"
    asking: bool = False
    mapped: int | None = None
    score: float | None = None
    check: str = ""
    check_passed: bool | None = None


@dataclass
class PretrainWork(Job):
    """An encoder that learns without labels, or encoders that are compared.

    Attributes
    ----------
    losses, figures, alignments, uniformities
        What was heard of the learning.
    score
        How well the task is solved, and how good the features are, as measured last.
    pictured
        Whether layers show what the task sees.
    """

    losses: Curve = field(default_factory=Curve)
    figures: Curve = field(default_factory=Curve)
    alignments: Curve = field(default_factory=Curve)
    uniformities: Curve = field(default_factory=Curve)
    score: PretextScored | None = None
    pictured: bool = False

    def forget_course(self) -> None:
        """Forget what was heard of learning."""
        fresh = PretrainWork()
        for name in ("losses", "figures", "alignments", "uniformities", "score"):
            setattr(self, name, getattr(fresh, name))


@dataclass
class VolumeChoice:
    """Which volumes an encoder learns from.

    Attributes
    ----------
    uses_image, uses_project
        Whether the image in work joins in, and whether the files of the project's other images do.
    project_files
        These files, as far as they are there.
    folder, folder_files
        A folder that joins in, empty for none, and the volumes that were found in it.
    looking
        Whether it is being looked through.
    """

    uses_image: bool = True
    uses_project: bool = False
    project_files: tuple[str, ...] = ()
    folder: str = ""
    folder_files: tuple[str, ...] = ()
    looking: bool = False


@dataclass
class EncoderList:
    """The encoders of the project.

    Attributes
    ----------
    known
        All of them.
    chosen, used
        Folders of the one that is marked, and of the one that training starts from; empty for none.
    probes
        Name and figures of each in the last comparison, random weights (no name) first.
    """

    known: tuple[EncoderSummary, ...] = ()
    chosen: str = ""
    used: str = ""
    probes: tuple[tuple[str, ProbeRecord], ...] = ()

    def find(self, folder: str) -> EncoderSummary | None:
        """Return the encoder in a folder; None where there is none."""
        return next((each for each in self.known if str(each.folder) == folder), None)


@dataclass
class Session:
    """The state of one window; the coordinator alone changes it, `states` turns it into snapshots."""

    # image and labels
    images: tuple[str, ...] = ()
    image: str | None = None
    doing: str = ""
    """What files are read or written, in words; empty when none are."""
    reading: bool = False
    paintable: bool = False
    is_flat: bool = False
    table: ClassTable = field(default_factory=lambda: ClassTable.from_values([2]))
    selected: int = 2
    tool: str = "move"
    brush_size: int = 8
    axis: int | None = 0
    orientation: int = 0
    slice_index: int = 0
    slice_count: int = 0
    voxels: dict[int, int] = field(default_factory=dict)
    labelled_slices: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((), (), ())
    apart: frozenset[str] = frozenset()
    """Sources shown in layers of their own that there are labels of."""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shape: tuple[int, int, int] = (1, 1, 1)
    channels: int = 1
    # boxes
    boxes: BoxWork = field(default_factory=BoxWork)
    box_config: BoxConfig = field(default_factory=BoxConfig)
    recursion: RecursionConfig = field(default_factory=RecursionConfig)
    crf: CrfConfig = field(default_factory=CrfConfig)
    truths: tuple[str, ...] = ()
    """Names of Labels layers of the image's shape."""
    # image-level labels, points and class maps
    cam: CamWork = field(default_factory=CamWork)
    classifier_config: ClassifierConfig = field(default_factory=ClassifierConfig)
    cam_config: CamConfig = field(default_factory=CamConfig)
    seed_config: SeedConfig = field(default_factory=SeedConfig)
    # encoders that learn without labels
    pretrain: PretrainWork = field(default_factory=PretrainWork)
    volumes: VolumeChoice = field(default_factory=VolumeChoice)
    encoders: EncoderList = field(default_factory=EncoderList)
    pretraining: PretrainingConfig = field(default_factory=lambda: PretrainingConfig(seconds=SECONDS))
    pretext: PretextConfig = field(default_factory=PretextConfig)
    # worker and learning
    worker: str = "starting"
    """One of "starting", "ready", "gone"."""
    running: bool = False
    resuming: bool = False
    """Whether the worker was started anew, and goes on with what it had learnt."""
    busy: bool = False
    waiting: str = ""
    shown: str = ""
    learning: Learning = field(default_factory=Learning)
    training: TrainingConfig = LIVE_TRAINING
    network: NetworkConfig = field(default_factory=NetworkConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    # prediction
    pictured: bool = False
    """Whether there is a prediction of at least a part."""
    region: Region | None = None
    hidden: frozenset[int] = frozenset()
    opacity: float = 0.5
    uncertainty_visible: bool = False
    volumes_ml: dict[int, float] = field(default_factory=dict)
    suggestion: str = ""
    folder: str = ""
    # project
    project: str = ""
    changes: int = 0
    offer: str = ""

    @property
    def job(self) -> Job | None:
        """What the worker does in place of learning from strokes; None where it does not."""
        return next((job for job in (self.boxes, self.cam, self.pretrain) if job.running), None)

    @property
    def has_box_labels(self) -> bool:
        """Whether labels from boxes are kept."""
        return "box" in self.apart

    def forget_image(self) -> None:
        """Forget what belonged to one image."""
        fresh = Session()
        for name in (
            "image", "paintable", "is_flat", "tool", "axis", "orientation", "slice_index", "slice_count",
            "voxels", "labelled_slices", "apart", "spacing", "shape", "channels", "boxes", "cam", "pretrain",
            "truths", "suggestion", "folder",
        ):  # fmt: skip
            setattr(self, name, getattr(fresh, name))
        self.forget_picture()

    def forget_picture(self) -> None:
        """Forget what the worker has said."""
        fresh = Session()
        for name in ("busy", "waiting", "shown", "learning", "pictured", "region", "volumes_ml"):
            setattr(self, name, getattr(fresh, name))
