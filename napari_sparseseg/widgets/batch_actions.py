"""What the Batch panel asks for: which volumes, by which network, where to; run it, look at a result."""

import os
import time
from functools import partial
from pathlib import Path

from napari_sparseseg.batch_inputs import find_inputs
from napari_sparseseg.batch_records import BatchInput
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cohort_events import BatchCaseDone, BatchFinished
from napari_sparseseg.cohort_requests import PredictBatch
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import ModelSaved, WindowDone, WorkDone
from napari_sparseseg.project_cohort import network_folder
from napari_sparseseg.requests import SaveModel
from napari_sparseseg.saved_networks import read_network
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.widgets.batch_result_layers import ResultLayers, read_result
from napari_sparseseg.widgets.batch_states import FOLDER, LIVE, PROJECT, find_model, find_network, why_no_run
from napari_sparseseg.widgets.batch_words import describe_end, describe_stop
from napari_sparseseg.widgets.job_actions import JobActions
from napari_sparseseg.widgets.work import BatchWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_MEASURED_SECONDS = 3.0  # before, nothing can be said of how long it will take
_BEGINS = "Looking for what is done already…"
_ENDED = "Stopped: the computing process ended. Run again: what is done is not done again."


class BatchActions(JobActions):
    """Carries out what the user asks for of many volumes and one network."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self._layers = ResultLayers(place)
        place.opened.connect(self.look_around)

    @property
    def job(self) -> BatchWork:
        """The batch."""
        return self.place.session.batching

    # -- what is chosen --

    @tells
    def look_around(self) -> None:
        """Take in which networks there are, and how many volumes were chosen earlier."""
        job, project = self.job, self.place.desk.project
        folders = {PROJECT: None if project is None else network_folder(project), FOLDER: job.folder or None}
        job.saved = {}
        for name, folder in folders.items():
            if folder is None or not (Path(folder) / "model.json").exists():
                continue
            try:
                job.saved[name] = read_network(folder)
            except InputError:
                continue  # where it is needed, there is none to choose
        if job.sources and job.found is None and not job.looking:
            self._look_for_volumes()

    @tells
    def choose_sources(self, sources: tuple[str, ...]) -> None:
        """Segment these files, folders or manifests; none if there are none."""
        job = self.job
        self._refuse_while_running()
        job.sources, job.found, job.looking, job.outcome = tuple(sources), None, False, ""
        job.forget_course()
        if sources:
            if job.suggested or not job.out:
                job.out, job.suggested = suggest_folder(sources[0]), True
            self._look_for_volumes()
        self._keep()

    @tells
    def choose_network(self, name: str) -> None:
        """Use the network of this name."""
        self._refuse_while_running()
        self.job.network = name
        self._keep()

    @tells
    def choose_network_folder(self, folder: str) -> None:
        """Use the network that is saved in a folder."""
        self._refuse_while_running()
        self.job.saved[FOLDER] = read_network(folder)
        self.job.network, self.job.folder = FOLDER, folder
        self._keep()

    @tells
    def choose_out(self, folder: str) -> None:
        """Write the results to a folder."""
        self._refuse_while_running()
        self.job.out, self.job.suggested = folder, False
        self._keep()

    @tells
    def change_settings(self, config: BatchConfig, inference: InferenceConfig) -> None:
        """Segment otherwise from the next time on."""
        session = self.place.session
        changed = inference != session.inference
        session.batch, session.inference = config, inference
        self._keep()
        if changed:
            self.place.send_settings()

    def _look_for_volumes(self) -> None:
        job, sources = self.job, self.job.sources
        job.looking = True

        def found(inputs: tuple[BatchInput, ...]) -> None:
            if job.sources == sources:
                job.found, job.looking = len(inputs), False
            self.place.touch()

        def failed() -> None:
            if job.sources == sources:
                job.sources, job.looking = (), False
            self.place.touch()

        self.place.background.run("Looking for volumes…", lambda: find_inputs(sources), found, failed)

    def _keep(self) -> None:
        self.place.desk.save_settings(self.place.session)

    def _refuse_while_running(self) -> None:
        if self.job.running:
            raise InputError("Volumes are being segmented; stop that first.")

    # -- the work --

    @tells
    def run(self) -> None:
        """Segment the volumes; learning from strokes rests meanwhile."""
        place, session, job = self.place, self.place.session, self.job
        if job.running:
            return  # a second click came before the panel showed the first
        self.look_around()
        if why := why_no_run(session):
            raise InputError(why)
        request = PredictBatch(job.sources, find_model(session), job.out, session.batch, session.inference)
        if find_network(session) == LIVE:
            if session.worker != "ready":
                raise InputError("The computing process is not ready; wait a moment, and run it again.")
            self._announce(request, "Saving the network…")
            job.saving = True
            place.send(SaveModel(request.model))
            return
        self._announce(request, _BEGINS)
        self._send(request)

    @tells
    def cancel(self) -> None:
        """Stop; what is done stays, and the next run goes on from there."""
        self.end(describe_stop(self.job.done, self.job.total))

    def take_event(self, event: object) -> bool:
        """Take in what the worker says of this work; return False for what is not of it."""
        job = self.job
        if not job.running:
            return False
        if job.saving:
            return self._take_saved(event)
        if isinstance(event, BatchCaseDone):
            self._take_case(event)
        elif isinstance(event, WindowDone):
            job.window = max(job.window, event.done / max(event.total, 1))
            self._measure()
        elif isinstance(event, WorkDone):
            job.doing = f"{event.words[:1].upper()}{event.words[1:]}…"
            self._measure()
        elif isinstance(event, BatchFinished):
            job.report = event.report
            warned = sum(bool(each.warnings) and not each.error for each in job.results)
            self.end(describe_end(event.done, event.skipped, event.failed, warned))
        else:
            return super().take_event(event)
        return True

    def lose(self) -> None:
        """Take in that the worker is gone, and the work with it."""
        if self.job.running:
            self._stop(_ENDED)

    def _announce(self, request: PredictBatch, doing: str) -> None:
        self.announce("batch", doing)
        self.job.forget_course()
        self.job.asked, self.job.total = request, self.job.found or 0

    def _stop(self, outcome: str) -> None:
        super()._stop(outcome)
        self.job.saving = False

    def _take_saved(self, event: object) -> bool:
        job, asked = self.job, self.job.asked
        if asked is None or not isinstance(event, ModelSaved) or event.folder != asked.model:
            return False
        # From now on the one that was saved: running again goes on with it, however the other learns.
        job.saving, job.network, job.folder = False, FOLDER, event.folder
        self.look_around()
        self._keep()
        job.doing = _BEGINS
        self._send(asked)
        return True

    def _take_case(self, event: BatchCaseDone) -> None:
        job = self.job
        job.done, job.total, job.results = event.done, event.total, (*job.results, event)
        if not event.skipped:
            job.computed, job.window = job.computed + 1, 0.0
        self._measure()

    def _measure(self) -> None:
        """Tell how far it is, and how long the rest will take if it goes on as since its beginning."""
        job, now = self.job, time.monotonic()
        if job.total:
            job.progress = max(job.progress or 0.0, min((job.done + job.window) / job.total, 1.0))
        if job.began is None:
            job.began = now
        computed, seconds = job.computed + job.window, now - job.began
        if computed and seconds > _MEASURED_SECONDS:
            job.left = seconds / computed * max(job.total - job.done - job.window, 0.0)

    # -- results --

    @tells
    def show_result(self, name: str) -> None:
        """Show a volume with its mask."""
        event = next((each for each in self.job.results if each.name == name), None)
        if event is None:
            return
        if event.error:
            raise InputError(f"{name} has no mask: {event.error}")
        asked = self.job.asked
        assert asked is not None  # there is a result of it
        self.place.background.run(
            f"Opening {name}…",
            partial(read_result, name, event.mask, asked.out, asked.model),
            self._layers.show,
        )


def suggest_folder(source: str) -> str:
    """Return where results could go: beside a folder of volumes, or a folder beside a file."""
    path = Path(os.path.abspath(source))
    return str(path.with_name(f"{path.name} masks") if path.is_dir() else path.parent / "masks")
