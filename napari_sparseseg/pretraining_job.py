"""Learning without labels, and measuring what was learnt, as jobs of the worker process."""

from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.checkpoint import delete_tensors
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint, load_encoder, save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import EncoderProbed, EncoderTrained, Event, Noted, WorkDone
from napari_sparseseg.job_labels import make_annotation
from napari_sparseseg.linear_probe import probe_encoder, random_encoder
from napari_sparseseg.pretraining import pretrain
from napari_sparseseg.requests import Pretrain, ProbeEncoders
from napari_sparseseg.resumption import go_on_or_begin
from napari_sparseseg.volume import load_volume, short_name
from napari_sparseseg.volume_pool import ReadVolume, VolumeSource

_PROBING = "Measuring the encoders"


class PretrainJob:
    """Lets an encoder learn from volumes as a request asks, and writes it.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities of the open image.
    request
        What is asked for.

    Raises
    ------
    InputError
        If a label lies outside the volume.
    """

    def __init__(self, image: NDArray[np.float32], request: Pretrain) -> None:
        self._image, self._request = image, request
        self._annotation = make_annotation(image.shape[1:], request.table, request.voxels, request.values)

    def run(self) -> Generator[Event, None, None]:
        """Work; the last event is `EncoderTrained`.  Closing it keeps what going on later needs."""
        folder = Path(self._request.folder)
        encoder = yield from go_on_or_begin(self._learn, folder)
        save_encoder(folder, encoder)
        delete_tensors(folder / "state")
        yield EncoderTrained(self._request.folder)

    def close(self) -> None:
        """Keep nothing more: closing the work has kept its state."""

    def _learn(self, resume: bool) -> Generator[Event, None, EncoderCheckpoint]:
        asked = self._request
        return pretrain(
            list(self._sources()), asked.config, asked.pretext, asked.network,
            state_folder=Path(asked.folder), resume=resume,
        )  # fmt: skip

    def _sources(self) -> Iterator[VolumeSource]:
        asked = self._request
        if asked.uses_image:
            read = ReadVolume(self._image, asked.spacing, self._annotation)
            yield VolumeSource(asked.name, lambda: read)
        for file in asked.files:
            yield VolumeSource(short_name(Path(file)), partial(_read, file))


def _read(file: str) -> ReadVolume:
    volume = load_volume(file)
    return ReadVolume(volume.data, volume.spacing)


class ProbeJob:
    """Measures encoders by a linear classifier on their features, as a request asks.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities.
    request
        What is asked for.

    Raises
    ------
    InputError
        If nothing is labelled, or a label lies outside the volume.
    """

    def __init__(self, image: NDArray[np.float32], request: ProbeEncoders) -> None:
        annotation = make_annotation(image.shape[1:], request.table, request.voxels, request.values)
        if annotation is None:
            raise InputError(
                "there are no labels to measure encoders by; paint background and at least one more class."
            )
        self._image, self._request, self._annotation = image, request, annotation

    def run(self) -> Generator[Event, None, None]:
        """Work: an `EncoderProbed` for random weights and for each encoder; what fails is noted."""
        folders = ("", *self._request.folders)
        for number, folder in enumerate(folders):
            yield WorkDone(number / len(folders), _PROBING)
            try:
                for event in self._probe(folder):
                    if isinstance(event, WorkDone):
                        event = WorkDone((number + event.share) / len(folders), event.words)
                    yield event
            except InputError as error:
                name = Path(folder).name or "An encoder with random weights"
                yield Noted(f"{name} cannot be measured: {error}")
        yield WorkDone(1.0, _PROBING)

    def close(self) -> None:
        """Keep nothing: the figures were sent as they were found."""

    def _probe(self, folder: str) -> Generator[Event, None, None]:
        """Measure one encoder; the last event is `EncoderProbed`."""
        asked, image = self._request, self._image
        encoder = (
            load_encoder(Path(folder)) if folder else random_encoder(asked.network, image, asked.spacing)
        )
        probe = yield from probe_encoder(encoder, image, asked.spacing, self._annotation, asked.table)
        yield EncoderProbed(folder, probe.dice, dict(probe.per_class))
