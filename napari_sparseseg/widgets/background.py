"""Reading and writing files beside the window, so that it never freezes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from qtpy.QtCore import QObject, Qt, Signal

from napari_sparseseg.errors import InputError

Result = TypeVar("Result")


class Background(QObject):
    """Runs one job after the other in a thread, and hands results to the thread of the window.

    Jobs get all they need as arguments, and touch neither layers nor widgets.
    """

    failed = Signal(str)
    """One sentence for the user."""

    busy_changed = Signal(str)
    """What is being done, in words; empty when nothing is."""

    _finished = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sparseseg-files")
        self._waiting: list[str] = []
        self._open = True
        self._finished.connect(self._on_finished, Qt.ConnectionType.QueuedConnection)

    def run(
        self,
        words: str,
        job: Callable[[], Result],
        done: Callable[[Result], None],
        stopped: Callable[[], None] = lambda: None,
    ) -> None:
        """Run `job`, described by `words`; then call `done` with its result, in the window's thread.

        An `InputError` of the job or of `done` becomes `failed`, after `stopped` was called.
        """
        self._waiting.append(words)
        self.busy_changed.emit(self._waiting[0])
        future = self._executor.submit(job)
        future.add_done_callback(lambda finished: self._announce(finished, _Ending(done, stopped)))

    def close(self) -> None:
        """Wait for what is being written, and drop the rest."""
        self._open = False
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _announce(self, future: "Future[Any]", ending: "_Ending") -> None:
        if self._open:
            self._finished.emit(future, ending)

    def _on_finished(self, future: "Future[Any]", ending: "_Ending") -> None:
        self._waiting.pop(0)
        self.busy_changed.emit(self._waiting[0] if self._waiting else "")
        if not self._open or future.cancelled():
            return
        error = future.exception()
        if error is None:
            try:
                ending.done(future.result())
            except InputError as mistake:
                error = mistake
        if error is None:
            return
        ending.stopped()
        if isinstance(error, InputError):
            self.failed.emit(str(error))
        elif isinstance(error, OSError | MemoryError):
            self.failed.emit(f"a file could not be read or written ({error}); try another place.")
        else:
            raise error


@dataclass(frozen=True)
class _Ending:
    done: Callable[[Any], None]
    stopped: Callable[[], None]
