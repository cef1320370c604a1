"""What is known of each panel's own work at this moment; a part of the `session.Session`."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar

from napari_sparseseg.cohort_advice import Advice
from napari_sparseseg.cohort_events import BatchCaseDone
from napari_sparseseg.cohort_records import CohortCase
from napari_sparseseg.cohort_requests import PredictBatch
from napari_sparseseg.events import BoxRoundMade, ClassifierScored, PretextScored
from napari_sparseseg.project_encoders import EncoderSummary, ProbeRecord
from napari_sparseseg.project_records import BoxRecord, ImageLabelRecord, PointRecord
from napari_sparseseg.saved_networks import SavedNetwork
from napari_sparseseg.widgets.cohort_snapshots import MINUTES

_MOST_POINTS = 600


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
    outlasts_image
        Whether it goes on while the image in work is closed and another one opened.
    """

    outlasts_image: ClassVar[bool] = False

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
class BatchWork(Job):
    """Many volumes that are segmented with one network.

    Attributes
    ----------
    sources, found, looking
        What is to be segmented, as `batch_inputs.find_inputs` takes it; how many volumes that is (None while
        it is not known), and whether they are being looked for.
    network, folder
        The chosen network: "project", "live", "folder", or empty for whichever there is; and the folder for
        the third.
    saved
        The networks that are saved, by these names.
    out, suggested
        Folder for the results, and whether it was proposed, not chosen.
    highdicom
        Whether DICOM segmentations can be written.
    asked, saving
        What was asked for last, and whether the network in work has to be saved before.
    done, total, window
        How many volumes are done, of how many, and the share of the next one.
    computed, began, left
        How many of them were computed in this run, when that began (`time.monotonic`; None before), and about
        how many seconds it will still take (None while that is not known).
    results
        Of the volumes, as they came.
    report
        The HTML report.
    """

    outlasts_image: ClassVar[bool] = True

    sources: tuple[str, ...] = ()
    found: int | None = None
    looking: bool = False
    network: str = ""
    folder: str = ""
    saved: dict[str, SavedNetwork] = field(default_factory=dict)
    out: str = ""
    suggested: bool = True
    highdicom: bool = field(default_factory=lambda: find_spec("highdicom") is not None)
    asked: PredictBatch | None = None
    saving: bool = False
    done: int = 0
    total: int = 0
    window: float = 0.0
    computed: int = 0
    began: float | None = None
    left: float | None = None
    results: tuple[BatchCaseDone, ...] = ()
    report: str = ""

    def choice(self) -> dict[str, Any]:
        """Return what is chosen, plain enough for JSON."""
        values: dict[str, Any] = {name: getattr(self, name) for name in ("network", "folder", "out")}
        return {**values, "sources": list(self.sources), "suggested": self.suggested}

    def take_choice(self, kept: object) -> None:
        """Bring back what `choice` returned; of anything else, nothing.  A run that goes on keeps its own."""
        if self.running or not isinstance(kept, dict):
            return
        sources, suggested = kept.get("sources"), kept.get("suggested")
        texts = [kept.get(name) for name in ("network", "folder", "out")]
        if not isinstance(sources, list) or not all(isinstance(text, str) for text in (*sources, *texts)):
            return
        self.forget_course()
        self.outcome = ""
        self.network, self.folder, self.out = map(str, texts)
        self.sources, self.found, self.suggested = tuple(sources), None, suggested is not False

    def forget_course(self) -> None:
        """Forget what was heard of the last run."""
        fresh = BatchWork()
        for name in ("done", "total", "window", "computed", "began", "left", "results", "report"):
            setattr(self, name, getattr(fresh, name))


@dataclass
class CohortWork(Job):
    """The cases of the project, and the network that learns from all of them.

    Attributes
    ----------
    cases
        All of them, but for what is labelled in the one in work, which the session knows better.
    opened, opening
        Keys of the case in work and of the one that is being read; empty for none.
    filter, search
        Which ones the list shows, as `CasesState` has it.
    looking
        What is being looked for, in words; empty for nothing.
    advice
        Which one to label next; None before that was asked.
    trained, dice
        Whether a network has learnt from all cases, and its Dice on labels held out (None if not measured).
    minutes
        How long it learns.
    """

    outlasts_image: ClassVar[bool] = True

    cases: tuple[CohortCase, ...] = ()
    opened: str = ""
    opening: str = ""
    filter: str = "all"
    search: str = ""
    looking: str = ""
    advice: Advice | None = None
    trained: bool = False
    dice: float | None = None
    minutes: int = MINUTES

    def find(self, key: str) -> CohortCase | None:
        """Return the case known by a key; None where there is none."""
        return next((case for case in self.cases if case.key == key), None)


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
