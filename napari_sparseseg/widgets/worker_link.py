"""The worker process as the window sees it: events arrive in the window's thread, a death is mended."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from qtpy.QtCore import QObject, Qt, Signal

from napari_sparseseg.errors import InputError
from napari_sparseseg.requests import Request

MOST_RESTARTS = 3
_WITHIN_SECONDS = 60.0


class Worker(Protocol):
    """What is needed of `worker_client.WorkerClient`; its callbacks are run by `dispatch`."""

    def start(self) -> None:
        """Start the process."""

    def send(self, request: Request) -> None:
        """Ask for something, without waiting."""

    def restart(self) -> None:
        """End the process and start another."""

    def close(self) -> None:
        """End the process."""


class MakeWorker(Protocol):
    """Makes a worker, as `worker_client.WorkerClient` is made."""

    def __call__(
        self,
        on_event: Callable[[Any], None],
        on_exit: Callable[[str], None],
        *,
        dispatch: Callable[[Callable[[], None]], None],
    ) -> Worker:
        """Return a worker that runs its callbacks by `dispatch`."""


class WorkerLink(QObject):
    """Carries requests to the worker and its events to the thread of the window.

    A worker that died is started again, up to `MOST_RESTARTS` times in a minute.

    Parameters
    ----------
    make_worker
        Makes the worker.
    parent
        Its owner in Qt.
    """

    arrived = Signal(object)
    """An event of the worker."""

    died = Signal(str)
    """It ended unasked: why, in a sentence.  `alive` says whether another one was started."""

    _called = Signal(object)

    def __init__(self, make_worker: MakeWorker, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._called.connect(self._run, Qt.ConnectionType.QueuedConnection)
        self._worker = make_worker(self._on_event, self._on_exit, dispatch=self._called.emit)
        self._restarts: list[float] = []
        self._open = True
        self.alive = False

    def start(self) -> None:
        """Start the worker; raises `InputError` where no process can be started."""
        self._worker.start()
        self.alive = True

    def revive(self) -> None:
        """Start a worker that was given up, because the user asks for it."""
        self._restarts.clear()
        self._worker.restart()
        self.alive = True

    def send(self, request: Request) -> None:
        """Ask the worker; while there is none, nothing is asked: all is told again to the next one."""
        if self._open and self.alive:
            self._worker.send(request)

    def close(self) -> None:
        """End the worker; nothing arrives any more."""
        if self._open:
            self._open = False
            self.alive = False
            self._worker.close()

    def _run(self, callback: Callable[[], None]) -> None:
        if self._open:
            callback()

    def _on_event(self, event: object) -> None:
        self.arrived.emit(event)

    def _on_exit(self, sentence: str) -> None:
        now = time.monotonic()
        self._restarts = [each for each in self._restarts if now - each < _WITHIN_SECONDS]
        self.alive = len(self._restarts) < MOST_RESTARTS
        if self.alive:
            self._restarts.append(now)
            try:
                self._worker.restart()
            except InputError as error:
                self.alive = False
                sentence = str(error)
        self.died.emit(sentence)
