"""What each panel shows, as frozen snapshots: the coordinator makes them, the panels apply the difference.

A string that says why something cannot be done now is empty when it can.
"""

from dataclasses import dataclass, field

from napari_sparseseg.annotation import ClassTable
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

ORIENTATIONS = ("axial", "coronal", "sagittal")
"""Names of the slices across axes 0, 1 and 2 of a volume ``(Z, Y, X)``."""

TOOLS = ("move", "paint", "erase", "fill", "polygon")


@dataclass(frozen=True)
class AnnotateState:
    """The Annotate panel.

    Attributes
    ----------
    images, image
        Names of the image layers to choose from, and the chosen one (None before).
    table
        The classes; their `value` is what is painted, but background is painted as 1.
    selected
        The painted value in use.
    tool, brush_size
        Entry of `TOOLS` (empty while boxes are drawn), and the brush's diameter in voxels.
    orientation, slice_index, slice_count
        Axis across which the visible slice lies, its index, and how many there are.
    voxels, boxes
        Labelled voxels, and boxes of the image, by painted value.
    labelled_slices
        Per axis, the indices of slices on which the user has labelled on purpose.
    why_no_paint, why_no_accept, why_no_interpolation, why_no_clear
        Reasons.
    """

    images: tuple[str, ...] = ()
    image: str | None = None
    table: ClassTable = field(default_factory=lambda: ClassTable.from_values([2]))
    selected: int = 2
    tool: str = "move"
    brush_size: int = 8
    orientation: int = 0
    slice_index: int = 0
    slice_count: int = 0
    voxels: dict[int, int] = field(default_factory=dict)
    boxes: dict[int, int] = field(default_factory=dict)
    labelled_slices: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((), (), ())
    why_no_paint: str = "Open an image first."
    why_no_accept: str = "There is no prediction yet."
    why_no_interpolation: str = "Label two slices of this orientation first."
    why_no_clear: str = "Nothing was interpolated."


@dataclass(frozen=True)
class TrainState:
    """The Train panel.

    Attributes
    ----------
    running
        Whether learning is on.
    why_not_start
        Reason why it cannot start now.
    sentence
        What goes on, in words.
    busy
        Whether something is being computed at this moment.
    shown
        Which model is shown and why, in words; empty while there is none.
    losses, agreements
        ``(step, loss)`` and ``(step, Dice on held-out labels)`` of this round.
    training, network
        The settings.
    start
        What the network starts from, in words; empty for random weights.
    has_encoder
        Whether that is an encoder, which can be given up.
    """

    running: bool = False
    why_not_start: str = "Open an image first."
    sentence: str = ""
    busy: bool = False
    shown: str = ""
    losses: tuple[tuple[int, float], ...] = ()
    agreements: tuple[tuple[int, float], ...] = ()
    training: TrainingConfig = LIVE_TRAINING
    network: NetworkConfig = field(default_factory=NetworkConfig)
    start: str = ""
    has_encoder: bool = False


@dataclass(frozen=True)
class PredictState:
    """The Predict panel.

    Attributes
    ----------
    table
        The classes.
    hidden
        Painted values of the classes not shown.
    opacity
        Of the prediction, 0 to 1.
    uncertainty_visible
        Whether the uncertainty layer is shown.
    volumes_ml
        Millilitres by painted value, of classes other than background.
    suggestion
        The last answer to "suggest the next slice", in words.
    inference
        Post-processing.
    why_no_prediction, why_no_model
        Reasons why nothing can be shown or saved, and no model exported.
    folder
        Where to offer to save.
    """

    table: ClassTable = field(default_factory=lambda: ClassTable.from_values([2]))
    hidden: frozenset[int] = frozenset()
    opacity: float = 0.5
    uncertainty_visible: bool = False
    volumes_ml: dict[int, float] = field(default_factory=dict)
    suggestion: str = ""
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    why_no_prediction: str = "There is no prediction yet."
    why_no_model: str = "No network has learnt yet."
    folder: str = ""


@dataclass(frozen=True)
class DockState:
    """What the dock shows above the panels.

    Attributes
    ----------
    project
        Name of the project, empty before the first stroke.
    saved
        What is saved, in words ("12 changes saved"), or a warning.
    offer
        A question whether to restore an unfinished session; empty when there is none.
    """

    project: str = ""
    saved: str = ""
    offer: str = ""


@dataclass(frozen=True)
class BoxRow:
    """One box in the list of the Boxes panel.

    Attributes
    ----------
    number
        Of the box in the project.
    value
        Painted value of its class.
    size
        Its size in words ("42 × 38 × 20 mm").
    first, last
        Slices of the visible orientation that it reaches over, both included, counted from 0.
    warning
        What should be mended, in words ("only 1 slice deep"); empty when nothing is wrong.
    """

    number: int
    value: int
    size: str
    first: int
    last: int
    warning: str = ""


@dataclass(frozen=True)
class RoundRow:
    """One set of labels made from the boxes: round 0 is the method's own, the others a network's.

    Attributes
    ----------
    number
        Of the round.
    words
        What it is ("GrabCut, before training", "round 2").
    agreement
        Its mean Dice against what is known (0–1), None where nothing is.
    """

    number: int
    words: str
    agreement: float | None = None


@dataclass(frozen=True)
class BoxesState:
    """The Boxes panel.

    Attributes
    ----------
    table, selected
        The classes, and the painted value (≥ 2) that a new box gets.
    drawing
        Whether the rectangle tool is in the user's hand.
    rows, chosen
        The boxes, and the number of the one that is marked (None for none).
    orientation, slice_index, slice_count
        Axis across which the visible slice lies, its index, and how many there are.
    boxes, recursion, crf
        The settings.
    running
        Whether masks are being made.
    progress
        Share done, 0–1; None while it is not known.
    sentence
        What goes on or what came of it, in words; may be empty.
    rounds, shown_round, kept_round
        What was made, which of it the layer shows, and which was kept as labels (None for none).
    truths, truth
        What the rounds can be compared with (the first entry is "strokes"; the others are names of Labels
        layers), and the chosen one.
    notes
        Sentences that the user should read, as "box 2 (liver): … its middle is taken instead".
    folder
        Where to offer files.
    why_no_draw, why_no_run, why_no_keep, why_no_clear
        Reasons why not; empty when it can be done.
    """

    table: ClassTable = field(default_factory=lambda: ClassTable.from_values([2]))
    selected: int = 2
    drawing: bool = False
    rows: tuple[BoxRow, ...] = ()
    chosen: int | None = None
    orientation: int = 0
    slice_index: int = 0
    slice_count: int = 0
    boxes: BoxConfig = field(default_factory=BoxConfig)
    recursion: RecursionConfig = field(default_factory=RecursionConfig)
    crf: CrfConfig = field(default_factory=CrfConfig)
    running: bool = False
    progress: float | None = None
    sentence: str = ""
    rounds: tuple[RoundRow, ...] = ()
    shown_round: int | None = None
    kept_round: int | None = None
    truths: tuple[str, ...] = ("strokes",)
    truth: str = "strokes"
    notes: tuple[str, ...] = ()
    folder: str = ""
    why_no_draw: str = "Open an image first."
    why_no_run: str = "Draw a box first."
    why_no_keep: str = "There are no labels from boxes yet."
    why_no_clear: str = "No labels from boxes are kept."


@dataclass(frozen=True)
class ImageLabelRow:
    """One thing said of the volume as a whole, or of slices of it, in the list of the Class maps panel.

    Attributes
    ----------
    number
        Of the label in the project.
    value
        Painted value of its class.
    words
        Where, without the class's name ("axial slices 40 to 92", "whole volume").
    present
        Whether the class is there.
    axis, index
        Across which axis the slices lie, and the first of them; None where the whole volume is meant.
    """

    number: int
    value: int
    words: str
    present: bool
    axis: int | None = None
    index: int | None = None


@dataclass(frozen=True)
class ScoreRow:
    """How well the classifier tells where a class is, on what it has not learnt from.

    Attributes
    ----------
    name
        Of the class.
    accuracy
        Balanced accuracy, 0–1; None where it could not be measured.
    auc
        Area under the receiver operating characteristic, 0–1; None where it could not be measured.
    """

    name: str
    accuracy: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class ClassMapsState:
    """The Class maps panel.

    Attributes
    ----------
    table, selected
        The classes, and the painted value (≥ 2) of the one that is labelled and asked about.
    orientation, slice_index, slice_count
        Axis across which the visible slice lies, its index, and how many there are.
    rows, begun
        What was said of the volume, and the slice on which a range has begun (None for none).
    classifier, cam, seeds, crf
        The settings.
    running
        What is being done: "", "classifier", "map" or "check".
    asking
        Whether the next click in the image says about which place the network is asked.
    progress
        Share done, 0–1; None while it is not known.
    sentence
        What goes on or what came of it, in words; may be empty.
    notes
        Sentences that the user should read.
    scores, within_volume
        How good the classifier is, and whether that was measured on slices of a volume it has learnt from.
    subjects, subject
        Which networks can be asked ("classifier", "network"), and the one that is ("" for none).
    mapped, score
        Painted value of the class whose map is shown (None for none), and how sure the network is, 0–1, that
        it is there (None where that is not known).
    check, check_passed
        What came of the sanity check, in words, and whether it speaks for the map; None: neither for it nor
        against it, or not checked yet.
    points, marking
        How many points there are, and whether clicks set them now.
    folder
        Where to offer files.
    why_no_label, why_no_end, why_no_train, why_no_map, why_no_map_here, why_no_check
        Reasons why not; empty when it can be done.
    why_no_seeds, why_no_clear_seeds, why_no_mark, why_no_clear_points
        Likewise.
    """

    table: ClassTable = field(default_factory=lambda: ClassTable.from_values([2]))
    selected: int = 2
    orientation: int = 0
    slice_index: int = 0
    slice_count: int = 0
    rows: tuple[ImageLabelRow, ...] = ()
    begun: int | None = None
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    cam: CamConfig = field(default_factory=CamConfig)
    seeds: SeedConfig = field(default_factory=SeedConfig)
    crf: CrfConfig = field(default_factory=CrfConfig)
    running: str = ""
    asking: bool = False
    progress: float | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    scores: tuple[ScoreRow, ...] = ()
    within_volume: bool = False
    subjects: tuple[str, ...] = ()
    subject: str = ""
    mapped: int | None = None
    score: float | None = None
    check: str = ""
    check_passed: bool | None = None
    points: int = 0
    marking: bool = False
    folder: str = ""
    why_no_label: str = "Open an image first."
    why_no_end: str = "Say first where it begins."
    why_no_train: str = "Open an image first."
    why_no_map: str = "There is no network to ask yet."
    why_no_map_here: str = "There is no segmentation network to ask yet."
    why_no_check: str = "There is no class map yet."
    why_no_seeds: str = "There is no class map yet."
    why_no_clear_seeds: str = "No labels were made from a class map."
    why_no_mark: str = "Open an image first."
    why_no_clear_points: str = "There are no points."
