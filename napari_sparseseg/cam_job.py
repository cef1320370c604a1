"""Classifiers and class maps as jobs of the worker process."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.cam import map_class
from napari_sparseseg.cam_check import check_map
from napari_sparseseg.classifier import load_subject, save_classifier
from napari_sparseseg.classifier_training import TaggedCase, train_classifier
from napari_sparseseg.encoder_checkpoint import load_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import ClassifierTrained, ClassMapMade, Event, StepDone, WorkDone
from napari_sparseseg.requests import MapClass, TrainClassifier

_LEARNING = "Learning what the slices show"


class ClassifierJob:
    """Lets a classifier learn as a request asks, and writes it.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities.
    request
        What is asked for.
    """

    def __init__(self, image: NDArray[np.float32], request: TrainClassifier) -> None:
        self._image, self._request = image, request

    def run(self) -> Generator[Event, None, None]:
        """Work; the last event is `ClassifierTrained`."""
        asked = self._request
        case = TaggedCase(self._image, asked.spacing, asked.labels, asked.name)
        initial = load_encoder(Path(asked.encoder)) if asked.encoder else None
        work = train_classifier([case], asked.table, asked.config, asked.network, initial=initial)
        try:
            while True:
                event = next(work)
                yield WorkDone(event.progress, _LEARNING) if isinstance(event, StepDone) else event
        except StopIteration as end:
            save_classifier(Path(asked.folder), end.value)
            yield ClassifierTrained(asked.folder)

    def close(self) -> None:
        """Keep nothing: a classifier that has not learnt to the end is of no use."""


class MapJob:
    """Makes a class map as a request asks, or checks one.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities.
    target
        ``(Z, Y, X)`` uint8: where to write the map, 0 to 255.
    request
        What is asked for.
    """

    def __init__(self, image: NDArray[np.float32], target: NDArray[np.uint8], request: MapClass) -> None:
        self._image, self._target, self._request = image, target, request

    def run(self) -> Generator[Event, None, None]:
        """Work; the last event is `ClassMapMade` or `ClassMapChecked`."""
        asked = self._request
        subject = load_subject(Path(asked.folder))
        values = subject.table.mask_values
        if asked.value not in values[1:]:
            raise InputError(
                "the network does not know this class; let it learn again now that the classes have changed."
            )
        label = values.index(asked.value) + 1
        if asked.check:
            work = check_map(subject, self._image, asked.spacing, label, asked.config, voxel=asked.voxel)
            yield (yield from work)
            return
        made = yield from map_class(
            subject, self._image, asked.spacing, label, asked.config, asked.crf, voxel=asked.voxel
        )
        np.copyto(self._target, np.rint(made.values * 255).astype(np.uint8))
        yield ClassMapMade(label, made.score, not made.values.any())

    def close(self) -> None:
        """Keep nothing: the map lies in the target."""
