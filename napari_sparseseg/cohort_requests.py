"""Requests of the worker process for work on many volumes: the counterparts of `cohort_events`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.settings import InferenceConfig, NetworkConfig, TrainingConfig


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """A case of a project with its labels.

    Attributes
    ----------
    name
        For messages; unlike that of every other case of the request.
    source
        File or folder that `volume.load_volume` reads the image from.
    spacing
        Voxel size in mm ``(Z, Y, X)``, which a file that the project keeps itself does not have.
    voxels, values, sources
        ``(N,)`` flat indices ``(Z, Y, X)``, painted values (1 background, else `LabelClass.value`) and
        `annotation.source_code` of its labels.
    fingerprint
        What the image is known by (`fingerprint.fingerprint_volume`): where the file holds another one now,
        the labels are not of it.  Empty where that is not known.
    """

    name: str
    source: str
    spacing: tuple[float, float, float]
    voxels: NDArray[np.int64]
    values: NDArray[np.uint8]
    sources: NDArray[np.uint8]
    fingerprint: str = ""


@dataclass(frozen=True, eq=False)
class LearnFrom:
    """The live session's network shall learn from these cases, too, in place of those told before."""

    cases: tuple[LabelledCase, ...]


@dataclass(frozen=True, eq=False)
class TrainCohort:
    """Let one network learn from all labelled cases; ends the live session before it.

    Attributes
    ----------
    cases
        The cases; those that cannot be read are left out, with a note.
    table
        The classes.
    training, network
        The settings.
    folder
        Where to write the model, and what going on later needs; a state found there that fits is gone on
        with.
    encoder
        Folder of the encoder to start from; empty for none.
    memory_mb
        Megabytes of volumes that may be in memory at once; the others wait on disk.
    """

    cases: tuple[LabelledCase, ...]
    table: ClassTable
    training: TrainingConfig
    network: NetworkConfig
    folder: str
    encoder: str = ""
    memory_mb: int = 4000


@dataclass(frozen=True)
class JudgeCases:
    """Ask the project's network how sure it is of each of these cases; ends the live session before it.

    Attributes
    ----------
    sources
        Files and folders, as `LabelledCase.source`; several that are the channels of one volume are parted
        by ``;``.
    spacings
        Voxel size in mm ``(Z, Y, X)`` of each, for files that hold none.
    model
        Folder of the network.
    inference
        The settings.
    """

    sources: tuple[str, ...]
    spacings: tuple[tuple[float, float, float], ...]
    model: str
    inference: InferenceConfig


@dataclass(frozen=True)
class PredictBatch:
    """Segment many volumes; ends the live session before it.

    Attributes
    ----------
    sources
        Files, folders, patterns and manifests, as `batch_inputs.find_inputs` takes them.
    model
        Folder of the network.
    out
        Folder for the results.
    config, inference
        The settings.
    """

    sources: tuple[str, ...]
    model: str
    out: str
    config: BatchConfig
    inference: InferenceConfig
