"""What is known of the work at this moment, gathered in one place to be shown."""

import time
from dataclasses import dataclass, field

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
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
from napari_sparseseg.widgets.work import (
    BatchWork,
    BoxWork,
    CamWork,
    CohortWork,
    Curve,
    EncoderList,
    Job,
    PretrainWork,
    VolumeChoice,
)

Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""A box of a volume: ``(first, last + 1)`` per axis."""


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
    # many volumes with one network
    batching: BatchWork = field(default_factory=BatchWork)
    batch: BatchConfig = field(default_factory=BatchConfig)
    # all cases of the project
    cohort: CohortWork = field(default_factory=CohortWork)
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
        jobs = (self.boxes, self.cam, self.pretrain, self.cohort, self.batching)
        return next((job for job in jobs if job.running), None)

    @property
    def worker_is_taken(self) -> bool:
        """Whether the worker does a job that goes on whichever image is opened or closed."""
        return self.job is not None and self.job.outlasts_image

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
