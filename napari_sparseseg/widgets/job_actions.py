"""What all actions share that let the worker do a job of its own, while learning from strokes rests."""

from qtpy.QtCore import QObject

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WorkDone
from napari_sparseseg.requests import CloseImage, Request
from napari_sparseseg.widgets.job_words import why_wait
from napari_sparseseg.widgets.work import Job
from napari_sparseseg.widgets.workplace import Workplace


class JobActions(QObject):
    """Begins jobs of one kind, follows them, and goes back to learning from strokes when they end.

    Parameters
    ----------
    place
        The workplace.
    """

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self.place = place

    @property
    def job(self) -> Job:
        """Where what is known of the job is kept."""
        raise NotImplementedError

    def begin(self, request: Request, name: str, doing: str) -> None:
        """Let the worker do what `request` asks for: a job called `name`, beginning with `doing`."""
        self.announce(name, doing)
        self._send(request)

    def announce(self, name: str, doing: str) -> None:
        """Say that a job called `name` begins, with `doing`; start the worker if it was given up.

        Raises
        ------
        InputError
            If another one is being done, or no worker can be started.
        """
        place = self.place
        if why := why_wait(place.session):
            raise InputError(why)
        if not place.link.alive:
            place.session.worker = "starting"
            place.link.revive()
        job = self.job
        job.running, job.progress, job.doing, job.outcome, job.notes = name, None, doing, "", []

    def take_event(self, event: object) -> bool:
        """Take in what the worker says of this job; return False for what is not of it."""
        job = self.job
        if not job.running:
            return False
        if isinstance(event, WorkDone):
            job.progress, job.doing = event.share, f"{event.words}…"
        elif isinstance(event, Noted):
            job.notes.append(event.text)
        else:
            return False
        return True

    def end(self, outcome: str) -> None:
        """Go back to learning from strokes, if the job was being done."""
        place = self.place
        if not self.job.running:
            return
        self._stop(outcome)
        if place.case is None:
            place.link.send(CloseImage())  # nothing else would end it
        else:
            place.send_image(again=True)

    def lose(self) -> None:
        """Take in that the worker is gone, and the job with it."""
        if self.job.running:
            self._stop("Stopped: the computing process ended.")

    def _send(self, request: Request) -> None:
        self.place.session.busy = False
        self.place.link.send(request)

    def _stop(self, outcome: str) -> None:
        job = self.job
        job.running, job.progress, job.doing, job.outcome = "", None, "", outcome
