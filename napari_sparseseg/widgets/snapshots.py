"""What each panel shows, as frozen snapshots: the coordinator makes them, the panels apply the difference.

A string that says why something cannot be done now is empty when it can.
"""

from dataclasses import dataclass, field

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.settings import LIVE_TRAINING, InferenceConfig, NetworkConfig, TrainingConfig

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
        Entry of `TOOLS`, and the brush's diameter in voxels.
    orientation, slice_index, slice_count
        Axis across which the visible slice lies, its index, and how many there are.
    voxels
        Labelled voxels by painted value.
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
