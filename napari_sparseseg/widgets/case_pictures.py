"""Small pictures of the cases that the list shows, and which files have vanished; made beside the window."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QObject

from napari_sparseseg.cohort_pictures import write_picture
from napari_sparseseg.cohort_records import CohortCase
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import Project
from napari_sparseseg.project_cohort import kept_image, thumbnail_path
from napari_sparseseg.widgets.background import Background
from napari_sparseseg.widgets.case_reading import is_there
from napari_sparseseg.widgets.work import CohortWork

GONE = "The file is not there any more; put it back, or remove the case from the list."


class CasePictures(QObject):
    """Makes one picture after the other, of those that are wanted at that moment.

    It has a thread of its own, so that opening a case need not wait for the pictures of others.

    Parameters
    ----------
    work
        Returns the list, whose lines it changes.
    changed
        Called when it has changed.
    rests
        Tells whether no picture is to be begun now.
    parent
        Its owner in Qt.
    """

    def __init__(
        self,
        work: Callable[[], CohortWork],
        changed: Callable[[], None],
        rests: Callable[[], bool],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._work, self._changed, self._rests = work, changed, rests
        self._thread = Background(self)
        self._project: Project | None = None
        self._wanted: tuple[str, ...] = ()
        self._busy = False
        self._problems: dict[str, str] = {}
        self._looked: set[str] = set()

    def close(self) -> None:
        """Finish the picture in work, and make no more."""
        self._project, self._wanted = None, ()
        self._thread.close()

    def follow(self, project: Project | None) -> None:
        """Make pictures for another project from now on."""
        self._project, self._wanted = project, ()
        self._problems.clear()
        self._looked.clear()

    def annotate(self, cases: Sequence[CohortCase]) -> tuple[CohortCase, ...]:
        """Return the cases with the problems that were found."""
        return tuple(
            replace(case, problem=self._problems[case.key]) if case.key in self._problems else case
            for case in cases
        )

    def note(self, key: str, problem: str) -> None:
        """Take in why a case cannot be opened; empty where it can."""
        if problem:
            self._problems[key] = problem
        else:
            self._problems.pop(key, None)

    def look(self, cases: Sequence[CohortCase]) -> None:
        """Find out which files are there, of the cases not looked at yet."""
        fresh = [case for case in cases if case.key not in self._looked and case.files]
        self._looked |= {case.key for case in fresh}
        if not fresh:
            return
        project = self._project

        def done(gone: set[str]) -> None:
            if project is self._project and gone:
                self._problems |= dict.fromkeys(gone, GONE)
                self._work().cases = self.annotate(self._work().cases)
                self._changed()

        self._thread.run("", lambda: _find_gone(fresh), done)

    def look_again(self, case: CohortCase) -> None:
        """Find out whether the files of a case are there, which could not be opened."""
        self._looked.discard(case.key)
        self.look([case])

    def want(self, keys: Sequence[str]) -> None:
        """Make pictures of these cases next, in this order, in place of those wanted before."""
        self._wanted = tuple(keys)
        self.go_on()

    def go_on(self) -> None:
        """Begin the next picture, if none is being made."""
        project = self._project
        if project is None or self._busy or self._rests():
            return
        work = self._work()
        known = {case.key: case for case in work.cases if not case.thumbnail and not case.problem}
        case = next((known[key] for key in self._wanted if key in known), None)
        if case is None:
            return
        files, spacing = case.files, None
        if case.number is not None:
            record = project.case(case.number)
            files, spacing = files or (str(kept_image(project, case.number)),), record.spacing
        target = thumbnail_path(project, case.key)

        def done(problem: str) -> None:
            self._busy = False
            if project is self._project:
                self._take(case.key, problem, target)
            self.go_on()

        self._busy = True
        self._thread.run("", lambda: _try_to_write(files, spacing, target), done, self._stopped)

    def _take(self, key: str, problem: str, target: Path) -> None:
        work = self._work()
        self.note(key, problem)
        made = "" if problem else str(target)
        work.cases = tuple(
            replace(case, problem=problem, thumbnail=made) if case.key == key else case for case in work.cases
        )
        self._changed()

    def _stopped(self) -> None:
        self._busy = False


def _find_gone(cases: Sequence[CohortCase]) -> set[str]:
    return {case.key for case in cases if not all(map(is_there, case.files))}


def _try_to_write(files: tuple[str, ...], spacing: tuple[float, float, float] | None, target: Path) -> str:
    """Make a picture; return why there is none, in a sentence."""
    if not all(map(is_there, files)):
        return GONE
    try:
        write_picture(files, spacing, target)
    except InputError as error:
        return str(error)
    except (OSError, MemoryError) as error:
        return f"The file cannot be read ({error})."
    return ""
