"""The front end's side of the worker: starts it, asks it, hears from it, and survives its end.

Nothing here waits for the worker but `WorkerClient.close`, and nothing imports what it computes with.
"""

import atexit
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, Protocol

from napari_sparseseg.cohort_requests import JudgeCases, PredictBatch, TrainCohort
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event
from napari_sparseseg.messages import NO_SESSION, Message, encode, read_message
from napari_sparseseg.requests import (
    CloseImage,
    LabelBoxes,
    MapClass,
    OpenImage,
    Pretrain,
    ProbeEncoders,
    Request,
    TrainClassifier,
)
from napari_sparseseg.worker_process import WorkerProcess

_LOGGER = logging.getLogger(__name__)
_LEAVING_SECONDS = 2.0
_BEGINNERS = (
    OpenImage, LabelBoxes, TrainClassifier, MapClass, Pretrain, ProbeEncoders, TrainCohort, JudgeCases,
    PredictBatch,
)  # fmt: skip


class Connection(Protocol):
    """A worker and the streams to it; `worker_process.WorkerProcess` is one on this machine."""

    @property
    def requests(self) -> IO[bytes]:
        """Stream to write requests to; closing it lets the worker end."""

    @property
    def events(self) -> IO[bytes]:
        """Stream to read events from; ends when the worker does."""

    @property
    def pid(self) -> int:
        """Number of its process."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    def kill(self) -> None:
        """End it at once, without waiting for that."""

    def wait(self, timeout: float) -> bool:
        """Wait `timeout` seconds for its end; tell whether it has ended."""

    def finish(self) -> str:
        """Clean up after the events have ended, and return in words how it ended."""


class WorkerClient:
    """A worker and the conversation with it.

    Each request that begins or ends a job begins a new generation; events that were made for an older
    one, or by a worker that was since restarted, are dropped.  All methods may be called from any thread.

    Parameters
    ----------
    on_event
        Called with each event, in order.
    on_exit
        Called with a sentence when the worker has ended unasked.
    connect
        Starts a worker; raises `InputError` when it cannot.
    dispatch
        How to run a callback: given a function, it runs it, at once or later, in whatever thread, in order.
        Whether an event is out of date is decided when its function runs, so that one waiting for
        the window's thread is dropped too.  By default it runs at once, in a thread of the client's.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        on_exit: Callable[[str], None],
        *,
        connect: Callable[[], Connection] = WorkerProcess,
        dispatch: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._on_event, self._on_exit = on_event, on_exit
        self._connect, self._dispatch = connect, dispatch or _run_at_once
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._generation = NO_SESSION
        self._image_open = False

    @property
    def alive(self) -> bool:
        """Whether a worker runs."""
        line = self._line
        return line is not None and line.connection.alive

    @property
    def pid(self) -> int | None:
        """Number of the worker's process; None when there is none."""
        line = self._line
        return None if line is None else line.connection.pid

    def start(self) -> None:
        """Start a worker, unless there is one.

        Raises
        ------
        InputError
            If it cannot be started.
        """
        with self._lock:
            if self._line is None:
                self._begin_line()

    def send(self, request: Request) -> None:
        """Ask for something, without waiting; arrays in the request may be changed afterwards.

        While there is no worker, nothing is asked: whoever restarts it says all that it must know.

        Raises
        ------
        InputError
            If the request does not hold what its type says.
        """
        with self._lock:
            if self._line is None:
                return
            turns = isinstance(request, (*_BEGINNERS, CloseImage))
            generation = self._generation + turns
            self._line.send(encode(request, generation))
            if turns:
                self._generation = generation
                self._image_open = isinstance(request, _BEGINNERS)

    def restart(self) -> None:
        """End the worker at once, if there is one, and start another.

        Raises
        ------
        InputError
            If it cannot be started.
        """
        with self._lock:
            self._drop_line()
            self._begin_line()

    def kill(self) -> None:
        """End the worker at once; what it has not saved is lost."""
        with self._lock:
            self._drop_line()

    def close(self, timeout: float = _LEAVING_SECONDS) -> None:
        """Let the worker save its state and end; kill it if it has not after `timeout` seconds."""
        with self._lock:
            line, self._line = self._line, None
            farewell = self._image_open
            self._image_open = False
            atexit.unregister(self.close)
        if line is not None:
            if farewell:
                line.send(encode(CloseImage(), self._generation + 1))
            line.end(timeout)

    def _begin_line(self) -> None:
        connection = self._connect()
        self._generation += 1
        self._image_open = False
        self._line = _Line(connection, self._on_message, self._on_end)
        atexit.unregister(self.close)
        atexit.register(self.close)
        self._line.start()

    def _drop_line(self) -> None:
        if self._line is not None:
            self._line.connection.kill()
            self._line = None

    # ---- from the line's thread ---------------------------------------------------------------

    def _on_message(self, line: "_Line", message: Message) -> None:
        if self._is_current(line, message):
            self._dispatch(partial(self._deliver, line, message))

    def _deliver(self, line: "_Line", message: Message) -> None:
        if self._is_current(line, message) and isinstance(message.item, Event):
            self._on_event(message.item)

    def _is_current(self, line: "_Line", message: Message) -> bool:
        with self._lock:
            return line is self._line and message.generation in (NO_SESSION, self._generation)

    def _on_end(self, line: "_Line", how: str) -> None:
        if line is self._line:
            self._dispatch(partial(self._deliver_end, line, how))

    def _deliver_end(self, line: "_Line", how: str) -> None:
        with self._lock:
            unasked = line is self._line
            if unasked:
                self._line = None
        if unasked:
            self._on_exit(f"The background worker ended unexpectedly ({how}).")


class _Line:
    """One connection, a thread that writes requests to it, and one that reads its events and sees its end."""

    def __init__(
        self,
        connection: Connection,
        on_message: Callable[["_Line", Message], None],
        on_end: Callable[["_Line", str], None],
    ) -> None:
        self.connection = connection
        self._on_message, self._on_end = on_message, on_end
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="worker events", daemon=True)
        self._writer = threading.Thread(target=self._write, name="worker requests", daemon=True)

    def start(self) -> None:
        self._reader.start()
        self._writer.start()

    def send(self, message: bytes) -> None:
        self._outbox.put(message)

    def end(self, timeout: float) -> None:
        """Hang up; kill the worker if it does not end by itself in time."""
        self._outbox.put(None)
        if not self.connection.wait(timeout):
            self.connection.kill()
        if threading.current_thread() is not self._reader:
            self._reader.join(_LEAVING_SECONDS)

    def _read(self) -> None:
        trouble = ""
        try:
            while (message := read_message(self.connection.events)) is not None:
                self._on_message(self, message)
        except (EOFError, OSError):
            pass  # how it ended says more
        except InputError as error:
            trouble = str(error).rstrip(".")
        finally:
            if trouble:
                self.connection.kill()
            self._outbox.put(None)
            how = self.connection.finish()
            self._writer.join()
        self._on_end(self, trouble or how)

    def _write(self) -> None:
        stream = self.connection.requests
        with suppress(OSError):  # it has ended; the reader sees that too
            while (message := self._outbox.get()) is not None:
                stream.write(message)
                stream.flush()
        with suppress(OSError):
            stream.close()


def _run_at_once(function: Callable[[], None]) -> None:
    try:
        function()
    except Exception:  # a mistake in a callback must not end the conversation
        _LOGGER.exception("A callback of the worker's client failed")
