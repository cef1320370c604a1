"""Box-to-mask as a job of the worker process."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.box_cases import BoxedCase
from napari_sparseseg.box_training import train_from_boxes
from napari_sparseseg.encoder_checkpoint import load_encoder
from napari_sparseseg.events import BoxesLabelled, BoxRoundMade, Event, Noted, WorkDone
from napari_sparseseg.job_labels import make_annotation
from napari_sparseseg.requests import LabelBoxes
from napari_sparseseg.settings import TrainingConfig


class BoxJob:
    """Makes labels of boxes, round by round, as a request asks.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities.
    request
        What is asked for.
    """

    def __init__(self, image: NDArray[np.float32], request: LabelBoxes) -> None:
        self._request = request
        shape = image.shape[1:]
        self._case = BoxedCase(
            image,
            request.spacing,
            request.boxes,
            make_annotation(shape, request.table, request.stroke_voxels, request.stroke_values),
            make_annotation(shape, request.table, request.truth_voxels, request.truth_values),
            request.name,
        )

    def run(self) -> Generator[Event, None, None]:
        """Work; the last event is `BoxesLabelled`."""
        asked = self._request
        training = TrainingConfig(seed=asked.config.seed, device=asked.recursion.device)
        work = train_from_boxes(
            [self._case], asked.table, asked.config, asked.recursion, asked.crf, training, asked.network,
            encoder=load_encoder(Path(asked.encoder)) if asked.encoder and asked.recursion.rounds else None,
        )  # fmt: skip
        try:
            while True:
                event = next(work)
                if isinstance(event, WorkDone | BoxRoundMade | Noted):  # the rest is of the network's inside
                    yield event
        except StopIteration as end:
            yield BoxesLabelled(end.value.fallen_back[0])

    def close(self) -> None:
        """Keep nothing: the rounds were sent as they were made."""
