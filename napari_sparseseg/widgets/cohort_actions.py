"""One network for all cases of the project, and which case to label next, as jobs of the worker."""

import math
from collections.abc import Iterator
from dataclasses import replace

from qtpy.QtCore import QTimer

from napari_sparseseg.cohort_advice import advise, needs_judging
from napari_sparseseg.cohort_events import CaseJudged, CohortTrained
from napari_sparseseg.cohort_records import CohortCase, Judgement, key_of
from napari_sparseseg.cohort_requests import JudgeCases, LabelledCase, TrainCohort
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import HeldOutScored, PreviewReady, StepDone, WindowDone
from napari_sparseseg.project import Project
from napari_sparseseg.project_cohort import (
    case_names,
    keep_judgement,
    keep_quality,
    kept_image,
    labelled_cases,
    network_folder,
)
from napari_sparseseg.settings import LIVE_TRAINING, TrainingConfig
from napari_sparseseg.widgets.case_browsing import MINUTES_KEY, CaseBrowsing
from napari_sparseseg.widgets.cohort_states import known_cases, why_no_advice, why_no_train
from napari_sparseseg.widgets.job_actions import JobActions
from napari_sparseseg.widgets.pretrain_states import find_encoder
from napari_sparseseg.widgets.work import CohortWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_STOPPED = "Stopped. With the same labels and settings, learning goes on from here."
_NO_SPACING = (1.0, 1.0, 1.0)
_SWALLOWED = (PreviewReady, WindowDone)


class CohortActions(JobActions):
    """Carries out what the user asks of the network of all cases.

    Parameters
    ----------
    place
        The workplace.
    browsing
        The list of cases.
    """

    def __init__(self, place: Workplace, browsing: CaseBrowsing) -> None:
        super().__init__(place)
        self._browsing = browsing
        self._project: Project | None = None
        """Whose cases the job is about."""
        self._keys: dict[str, str] = {}
        """Key of the case by what the worker calls it."""
        self._left: set[str] = set()
        """What the worker has not answered yet."""
        self._gathering: Iterator[LabelledCase] | None = None
        self._gathered: list[LabelledCase] = []
        self._dice: float | None = None

    @property
    def job(self) -> CohortWork:
        """The list of cases, and what is done with all of them."""
        return self.place.session.cohort

    # -- one network --

    @tells
    def set_minutes(self, minutes: int) -> None:
        """Let the network learn that long from the next time on."""
        self.job.minutes = max(1, minutes)
        if self.place.desk.project is not None:
            self.place.desk.project.save_setting(MINUTES_KEY, self.job.minutes)

    @tells
    def train(self) -> None:
        """Let one network learn from all labelled cases; learning from strokes rests meanwhile."""
        place = self.place
        if self.job.running == "cohort":
            return  # a second click came before the panel showed the first
        if place.case is not None:
            place.case.watch.look()
        project = place.desk.project
        if why := why_no_train(place.session):
            raise InputError(why)
        assert project is not None
        self.announce("cohort", "Gathering the labels…")
        self._project, self._dice, self._gathered = project, None, []
        self._gathering = labelled_cases(project, place.session.table, in_work=place.desk.case)
        QTimer.singleShot(0, self._gather)

    @tells
    def _gather(self) -> None:
        """Take the labels of one more case, so that the window never waits for those of all."""
        gathering, place = self._gathering, self.place
        if gathering is None or not self._is_open():
            return
        try:
            case = next(gathering, None)
        except InputError as error:
            self.end(f"Nothing was made: {error}")
            raise
        if case is not None:
            self._gathered.append(case)
            self.job.doing = f"Gathering the labels: {len(self._gathered)} cases so far…"
            QTimer.singleShot(0, self._gather)
            return
        self._gathering, cases = None, tuple(self._gathered)
        self._gathered = []
        if not cases:
            self.end("")
            raise InputError("No label of the classes in the table is there; label a few slices first.")
        assert self._project is not None
        self._keys = self._keys_by_name(self._project)
        session = place.session
        folder, encoder = str(network_folder(self._project)), find_encoder(session)
        request = TrainCohort(cases, session.table, self._training(), session.network, folder, encoder)
        self._send(request)
        self.job.doing = "Looking at the cases…"

    def _training(self) -> TrainingConfig:
        """Return the settings of the Train panel, but for what only a live session begins with."""
        asked, usual = self.place.session.training, TrainingConfig()
        seconds = self.job.minutes * 60.0
        kept = {
            name: getattr(usual, name)
            for name in ("learning_rate", "preview_weight")
            if getattr(asked, name) == getattr(LIVE_TRAINING, name)
        }
        return replace(asked, seconds=seconds, steps=0, **kept)

    def _keys_by_name(self, project: Project) -> dict[str, str]:
        keys = {case.number: case.key for case in self.job.cases if case.number is not None}
        return {name: keys[number] for number, name in case_names(project).items() if number in keys}

    # -- which next --

    @tells
    def ask_which_next(self) -> None:
        """Recommend a case to label next; the network is asked about those that it has not seen yet."""
        session, work = self.place.session, self.job
        if work.running == "judge":
            return
        if why := why_no_advice(session):
            raise InputError(why)
        work.advice = None
        project = self.place.desk.project
        cases = needs_judging(work.cases) if work.trained else ()
        if not cases or project is None:
            self._advise()
            return
        named = [self._source(project, case) for case in cases]
        self._project = project
        self._keys = {source: case.key for (source, _), case in zip(named, cases, strict=True)}
        self._left = set(self._keys)
        request = JudgeCases(
            tuple(source for source, _ in named), tuple(spacing for _, spacing in named),
            str(network_folder(project)), session.inference,
        )  # fmt: skip
        self.begin(request, "judge", "Looking at the cases…")

    def _source(self, project: Project, case: CohortCase) -> tuple[str, tuple[float, float, float]]:
        """Return what the worker reads a case from, and its voxel size where its file holds none."""
        if case.number is None:
            return key_of(case.files), _NO_SPACING
        spacing = project.case(case.number).spacing
        return (key_of(case.files) or str(kept_image(project, case.number))), spacing

    def _advise(self) -> None:
        work = self.job
        work.advice = advise(known_cases(self.place.session), work.trained, work.opened)
        work.outcome = ""

    # -- what the worker says --

    @tells
    def cancel(self) -> None:
        """Stop what is being done; a network that was learning can go on later."""
        self.end(_STOPPED if self.job.running == "cohort" else "Stopped; what was seen so far is kept.")

    def take_event(self, event: object) -> bool:
        """Take in what the worker says of this work; return False for what is not of it."""
        if not self.job.running or self._gathering is not None:  # the worker was not asked yet
            return False
        return super().take_event(event) or self._take(event)

    def _take(self, event: object) -> bool:
        """Take in what only these jobs say; return False for what they do not."""
        job = self.job
        if isinstance(event, StepDone):
            told = "" if self._dice is None else f" Dice {self._dice:.2f} on labels held out so far."
            job.progress = event.progress
            job.doing = f"Learning: {event.step:,} step{'s' * (event.step != 1)}.{told}"
        elif isinstance(event, HeldOutScored):
            self._dice = event.dice if math.isfinite(event.dice) else None
        elif isinstance(event, CohortTrained):
            self._keep_trained(event)
        elif isinstance(event, CaseJudged):
            self._keep_judged(event)
        else:
            return isinstance(event, _SWALLOWED)
        return True

    @tells
    def _keep_trained(self, event: CohortTrained) -> None:
        dice = {self._keys[name]: value for name, value in event.case_dice.items() if name in self._keys}
        try:
            if self._is_open() and self._project is not None:
                keep_quality(self._project, dice, event.dice)
        finally:
            self.end("The network has learnt from all labelled cases.")
            self.job.advice = None
            self._browsing.refresh()

    @tells
    def _keep_judged(self, event: CaseJudged) -> None:
        key = self._keys.get(event.source, "")
        case = self.job.find(key)
        self._left.discard(event.source)
        if event.error:
            self.job.notes.append(f"{case.name if case else event.source}: {event.error}")
            self._browsing.pictures.note(key, event.error)
        try:
            if case is not None and self._is_open() and self._project is not None:
                judgement = None if event.error else Judgement(event.uncertainty, event.warnings)
                if judgement is not None:
                    keep_judgement(self._project, key, judgement)
                self.job.cases = tuple(
                    replace(each, judgement=judgement, problem=event.error) if each.key == key else each
                    for each in self.job.cases
                )
        finally:
            if not self._left:
                self.end("")
                self._advise()

    def _stop(self, outcome: str) -> None:
        super()._stop(outcome)
        self._gathering, self._gathered = None, []

    def _is_open(self) -> bool:
        """Tell whether the project that the job is about is open still."""
        return self._project is not None and self._project is self.place.desk.project
