"""Segmenting many volumes as a job of the worker process."""

from collections.abc import Generator

from napari_sparseseg.batch import run_batch
from napari_sparseseg.cohort_requests import PredictBatch
from napari_sparseseg.events import Event


class BatchJob:
    """Segments the volumes that a request names; what is done when it is closed stays.

    Parameters
    ----------
    request
        What is asked for.
    """

    def __init__(self, request: PredictBatch) -> None:
        self._request = request

    def run(self) -> Generator[Event, None, None]:
        """Work; the last event is `BatchFinished`."""
        asked = self._request
        yield from run_batch(asked.sources, asked.model, asked.out, asked.config, asked.inference)

    def close(self) -> None:
        """Keep nothing more: each volume's results were written when it was done."""
