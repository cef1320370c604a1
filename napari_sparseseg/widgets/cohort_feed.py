"""What the network in work has of the project's other cases: their labels, told to the worker bit by bit."""

from collections.abc import Iterator

from qtpy.QtCore import QObject, QTimer

from napari_sparseseg.cohort_requests import LabelledCase, LearnFrom
from napari_sparseseg.errors import InputError
from napari_sparseseg.project_cohort import labelled_cases
from napari_sparseseg.widgets.workplace import Workplace

_MOST_CASES = 30
"""A live network that is to answer at once cannot learn from more; that of all cases does."""


class CohortFeed(QObject):
    """Gathers the labels of the other cases whenever the worker is told of an image, and tells it of them.

    Parameters
    ----------
    place
        The workplace.
    """

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self._place = place
        self._gathering: Iterator[LabelledCase] | None = None
        self._gathered: list[LabelledCase] = []
        place.sent.connect(self._begin)
        place.closing.connect(self._stop)

    def _begin(self) -> None:
        self._stop()
        place, project = self._place, self._place.desk.project
        if project is not None and len(project.cases()) > (place.desk.case is not None):
            case = place.desk.case
            self._gathering = labelled_cases(project, place.session.table, without=case, in_work=case)
            QTimer.singleShot(0, self._gather)

    def _stop(self) -> None:
        self._gathering, self._gathered = None, []

    def _gather(self) -> None:
        """Take the labels of one more case, so that the window never waits for those of all."""
        if self._gathering is None:
            return
        try:
            case = next(self._gathering, None)
        except InputError as error:  # the project is damaged, or was closed
            self._stop()
            self._place.tell(str(error))
            return
        if case is not None:
            self._gathered.append(case)
        if case is not None and len(self._gathered) < _MOST_CASES:
            QTimer.singleShot(0, self._gather)
            return
        cases = tuple(self._gathered)
        self._stop()
        if cases:
            self._place.send(LearnFrom(cases))
