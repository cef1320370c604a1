"""Work on all cases of a project, as jobs of the worker process: one network for all, and how sure it is."""

import math
from collections.abc import Generator
from functools import partial
from pathlib import Path
from statistics import fmean

from napari_sparseseg.case_checks import measure_case
from napari_sparseseg.cases import CaseSource
from napari_sparseseg.checkpoint import Model, delete_tensors, load_model, save_model
from napari_sparseseg.cohort_events import CaseJudged, CohortTrained
from napari_sparseseg.cohort_reading import known_spacing, read_labelled, read_source
from napari_sparseseg.cohort_requests import JudgeCases, TrainCohort
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint, load_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, WindowDone, WorkDone
from napari_sparseseg.inference import PlacedNetwork, place_model, predict_volume
from napari_sparseseg.resumption import go_on_or_begin
from napari_sparseseg.training import TrainingResult, train_network
from napari_sparseseg.volume import short_name


class TrainCohortJob:
    """Lets one network learn from all labelled cases as a request asks, and writes it.

    Parameters
    ----------
    request
        What is asked for.

    Raises
    ------
    InputError
        If no case has labels, or the encoder cannot be read.
    """

    def __init__(self, request: TrainCohort) -> None:
        if not request.cases:
            raise InputError("no case has labels yet; label a few slices of one first.")
        self._request = request
        self._encoder: EncoderCheckpoint | None = (
            load_encoder(Path(request.encoder)) if request.encoder else None
        )

    def run(self) -> Generator[Event, None, None]:
        """Work; the last event is `CohortTrained`.  Closing it keeps what going on later needs."""
        folder = Path(self._request.folder)
        result = yield from go_on_or_begin(self._learn, folder)
        save_model(folder, result.model)
        delete_tensors(folder / "state")
        measured = {name: dice for name, dice in result.case_dice.items() if math.isfinite(dice)}
        overall = fmean(measured.values()) if measured else math.nan
        yield CohortTrained(self._request.folder, measured, overall)

    def close(self) -> None:
        """Keep nothing more: closing the work has kept its state."""

    def _learn(self, resume: bool) -> Generator[Event, None, TrainingResult]:
        asked = self._request
        sources = [CaseSource(each.name, partial(read_labelled, each, asked.table)) for each in asked.cases]
        return train_network(
            sources, asked.table, asked.training, asked.network, encoder=self._encoder,
            state_folder=Path(asked.folder), resume=resume, memory_mb=asked.memory_mb, skip_bad=True,
        )  # fmt: skip


class JudgeCasesJob:
    """Asks a network how sure it is of each of some cases, as a request asks.

    Parameters
    ----------
    request
        What is asked for.

    Raises
    ------
    InputError
        If the network cannot be read.
    """

    def __init__(self, request: JudgeCases) -> None:
        if len(request.sources) != len(request.spacings):
            raise InputError(
                f"{len(request.sources)} cases and {len(request.spacings)} voxel sizes do not fit together."
            )
        self._request = request
        self._model: Model = load_model(request.model)

    def run(self) -> Generator[Event, None, None]:
        """Work: a `CaseJudged` for each case, in order; one that cannot be asked about says why."""
        asked = self._request
        placed = place_model(self._model, asked.inference.device)
        total = len(asked.sources)
        for number, (source, spacing) in enumerate(zip(asked.sources, asked.spacings, strict=True)):
            words = f"Looking at {short_name(Path(source))}, {number + 1} of {total}"
            yield WorkDone(number / total, words)
            try:
                for event in self._judge(source, spacing, placed):
                    if isinstance(event, WindowDone):
                        yield WorkDone((number + event.done / event.total) / total, words)
                    else:
                        yield event
            except InputError as error:
                yield CaseJudged(source, 0.0, error=str(error))

    def close(self) -> None:
        """Keep nothing: what was found was sent as it was found."""

    def _judge(
        self, source: str, spacing: tuple[float, float, float], placed: PlacedNetwork
    ) -> Generator[Event, None, None]:
        model = self._model
        volume = read_source(source)
        size = known_spacing(volume, spacing)
        prediction = yield from predict_volume(
            model, volume.data, size, self._request.inference, placed=placed
        )
        measures = measure_case(
            prediction.channels, prediction.uncertainty, size, model.table, model.summary.get("typical")
        )
        yield CaseJudged(source, min(1.0, max(0.0, measures.uncertainty)), measures.warnings)
