"""What the worker process is asked for: small frozen requests, the counterparts of `events`.

Together with the events they are the seam between front end and computation: whoever carries them,
a pipe to a process on this machine or a connection to another one, changes neither side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.box_geometry import Box
from napari_sparseseg.cohort_requests import JudgeCases, LearnFrom, PredictBatch, TrainCohort
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.settings import (
    BoxConfig,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)


@dataclass(frozen=True)
class SharedHandle:
    """Where an array lies that both processes see: file of a `shared_array.SharedArray`, type and shape."""

    path: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class OpenImage:
    """Begin a live session on an image; ends the one before.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` float32, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    prediction
        ``(Z, Y, X)`` uint8, written by the worker: painted values, 1 = background, 0 = not looked at yet.
    uncertainty
        ``(Z, Y, X)`` uint8, written by the worker: entropy of the class probabilities, 0 to 255.
    table
        The classes.
    name
        For messages.
    state_folder
        Where to keep what going on later needs; a state found there that fits is gone on with.  Empty: keep
        nothing.
    """

    image: SharedHandle
    spacing: tuple[float, float, float]
    prediction: SharedHandle
    uncertainty: SharedHandle
    table: ClassTable
    name: str
    state_folder: str = ""


@dataclass(frozen=True)
class KeepState:
    """Keep what going on later needs in `state_folder` from now on; go on with what is there if it fits."""

    state_folder: str


@dataclass(frozen=True, eq=False)
class Paint:
    """Labels have changed.

    Attributes
    ----------
    number
        Counted by the sender; comes back in `events.StrokeLearnt`.
    voxels
        ``(N,)`` int64 flat indices ``(Z, Y, X)``.
    values
        ``(N,)`` uint8 painted values: 0 erased, 1 background, else `LabelClass.value`.
    source
        Key of `annotation.SOURCE_WEIGHTS` for all of them.
    """

    number: int
    voxels: NDArray[np.int64]
    values: NDArray[np.uint8]
    source: str = "stroke"


@dataclass(frozen=True)
class Look:
    """The user looks at this slice: compute it first."""

    axis: int
    index: int


@dataclass(frozen=True)
class Train:
    """Start or pause learning; the preview answers strokes either way."""

    running: bool


@dataclass(frozen=True)
class Restart:
    """Forget the network and learn anew from the labels."""


@dataclass(frozen=True)
class SetClasses:
    """The class table has changed; labels of a value that it lacks count as unlabelled."""

    table: ClassTable


@dataclass(frozen=True)
class Configure:
    """The settings have changed."""

    training: TrainingConfig
    network: NetworkConfig
    inference: InferenceConfig


@dataclass(frozen=True)
class SaveModel:
    """Write the network to `folder`."""

    folder: str


@dataclass(frozen=True, eq=False)
class LabelBoxes:
    """Make labels of boxes; ends the live session before it.

    Attributes
    ----------
    image, spacing, table, name
        As `OpenImage` has them.
    boxes
        One per object; `Box.label` is the row of its class in the table, from 2 on for the first class.
    stroke_voxels, stroke_values
        ``(N,)`` flat indices and painted values of the user's own labels.
    truth_voxels, truth_values
        ``(N,)`` likewise, of a dense annotation to measure by; empty for none.
    config, recursion, crf, network
        The settings.
    encoder
        Folder of the encoder that each round's network starts from; empty: random weights.
    """

    image: SharedHandle
    spacing: tuple[float, float, float]
    table: ClassTable
    name: str
    boxes: tuple[Box, ...]
    stroke_voxels: NDArray[np.int64]
    stroke_values: NDArray[np.uint8]
    truth_voxels: NDArray[np.int64]
    truth_values: NDArray[np.uint8]
    config: BoxConfig
    recursion: RecursionConfig
    crf: CrfConfig
    network: NetworkConfig
    encoder: str = ""


@dataclass(frozen=True)
class LabelImage:
    """The image-level labels of the live session's image are these; they join in where a setting lets them.

    Attributes
    ----------
    labels
        All of them.
    outside
        As `settings.ClassifierConfig` has it.
    """

    labels: tuple[ImageLabel, ...]
    outside: str


@dataclass(frozen=True)
class TrainClassifier:
    """Let a classifier learn from image-level labels; ends the live session before it.

    Attributes
    ----------
    image, spacing, table, name
        As `OpenImage` has them.
    labels
        What is said of the image.
    config, network
        The settings.
    folder
        Where to write the classifier.
    encoder
        Folder of the encoder that it starts from; empty: random weights.
    """

    image: SharedHandle
    spacing: tuple[float, float, float]
    table: ClassTable
    name: str
    labels: tuple[ImageLabel, ...]
    config: ClassifierConfig
    network: NetworkConfig
    folder: str
    encoder: str = ""


@dataclass(frozen=True)
class MapClass:
    """Make a class map, or check one; ends the live session before it.

    Attributes
    ----------
    image, spacing, name
        As `OpenImage` has them.
    target
        ``(Z, Y, X)`` uint8, written by the worker: the map, 0 to 255.
    value
        Painted value of the class.
    folder
        Of a classifier, or of a segmentation network.
    voxel
        Ask a segmentation network about its answer here; None: about all that it calls this class.
    check
        Compare the map with those of networks that have learnt nothing, and leave `target` alone.
    config, crf
        The settings.
    """

    image: SharedHandle
    spacing: tuple[float, float, float]
    name: str
    target: SharedHandle
    value: int
    folder: str
    voxel: tuple[int, int, int] | None
    check: bool
    config: CamConfig
    crf: CrfConfig


@dataclass(frozen=True)
class StartFrom:
    """The live session's network shall start from the encoder or network in `folder`; empty: random weights.

    It is learnt anew where that changes.
    """

    folder: str


@dataclass(frozen=True, eq=False)
class Pretrain:
    """Let an encoder learn without labels; ends the live session before it.

    Attributes
    ----------
    image, spacing, name
        As `OpenImage` has them: the open image, which joins in if `uses_image`, and whose labels serve.
    uses_image
        Whether it is learnt from.
    files
        Further volumes; those that cannot be read are left out, with a note.
    table
        The classes.
    voxels, values
        ``(N,)`` flat indices and painted values of the user's own labels of the open image; they serve the
        linear probe, and the task that learns from whatever labels there are.
    config, pretext, network
        The settings.
    folder
        Where to write the encoder, and what going on later needs; a state found there that fits is gone on
        with.
    """

    image: SharedHandle
    spacing: tuple[float, float, float]
    name: str
    uses_image: bool
    files: tuple[str, ...]
    table: ClassTable
    voxels: NDArray[np.int64]
    values: NDArray[np.uint8]
    config: PretrainingConfig
    pretext: PretextConfig
    network: NetworkConfig
    folder: str


@dataclass(frozen=True, eq=False)
class ProbeEncoders:
    """Measure encoders by a linear classifier on labels; ends the live session before it.

    Attributes
    ----------
    image, spacing, table, name
        As `OpenImage` has them.
    voxels, values
        As `Pretrain` has them.
    folders
        Of the encoders; one with random weights is measured beside them.
    network
        What the random one is like.
    """

    image: SharedHandle
    spacing: tuple[float, float, float]
    table: ClassTable
    name: str
    voxels: NDArray[np.int64]
    values: NDArray[np.uint8]
    folders: tuple[str, ...]
    network: NetworkConfig


@dataclass(frozen=True)
class CloseImage:
    """End the live session; its state is written first."""


Request = (
    OpenImage
    | KeepState
    | Paint
    | Look
    | Train
    | Restart
    | SetClasses
    | Configure
    | SaveModel
    | LabelBoxes
    | LabelImage
    | TrainClassifier
    | MapClass
    | StartFrom
    | Pretrain
    | ProbeEncoders
    | LearnFrom
    | TrainCohort
    | JudgeCases
    | PredictBatch
    | CloseImage
)
