"""Segmenting volumes in this process: one is read and another written while the network works on a third."""

import queue
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from napari_sparseseg.batch_case import (
    BatchTask,
    ReadCase,
    explain,
    memory_of,
    place_for,
    predict_case,
    read_case,
    windows_at_once,
    write_case,
    write_failure,
)
from napari_sparseseg.batch_records import BatchInput, BatchRecord
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.events import Event, WorkDone
from napari_sparseseg.inference import Prediction

_MOST_AT_ONCE = 8  # volumes in the pipeline, where memory allows that many
_WRITERS = 4  # most of the time, they wait until all is on the disk
_PATIENCE = 0.2  # seconds between two events while a volume is waited for


def run_here(
    todo: Sequence[BatchInput], task: BatchTask, model: Model
) -> Generator[Event | BatchRecord, None, None]:
    """Segment volumes in this process.

    A thread reads, some write, and the network works in the caller's.  `BatchConfig.memory_mb` bounds
    the volumes in memory, where the next one is taken to be as large as the largest so far; one always may
    be there.  Closing the generator ends the threads; what is segmented by then is still written.

    Parameters
    ----------
    todo, task
        What is to be done.
    model
        The network.

    Raises
    ------
    BatchStopped
        If nothing can be written any more.
    """
    with (
        windows_at_once(task.inference.device) as threads,
        closing(_Pipeline(todo, task, model)) as pipeline,
    ):
        placed = place_for(task, model, threads)
        for number, source in enumerate(todo):
            read = yield from pipeline.next_read(number / len(todo), source.name)
            answer = yield from pipeline.watch(read, predict_case(read, task, model, placed))
            pipeline.write(answer)
            del read, answer  # while the next one is waited for, they would not count
        yield from pipeline.finish()


@dataclass(frozen=True, eq=False)
class _Answer:
    read: ReadCase
    prediction: Prediction | None
    error: str
    seconds: float


class _Room:
    """Lets as many volumes in as memory allows."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._sizes: dict[str, int] = {}
        self._largest = 0
        self._is_open = True
        self._changed = threading.Condition()

    def enter(self, name: str) -> bool:
        """Wait for room for one more volume; False where there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_open or self._has_room())
            self._sizes[name] = self._largest
            return self._is_open

    def settle(self, name: str, size: int) -> None:
        """Note how large a volume is that was let in."""
        with self._changed:
            self._sizes[name] = size
            self._largest = max(self._largest, size)
            self._changed.notify_all()

    def leave(self, name: str) -> None:
        """Note that a volume is no longer in memory."""
        with self._changed:
            del self._sizes[name]
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing in any more."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def _has_room(self) -> bool:
        known = self._largest or self._limit  # nothing is known of the first but that it may be large
        return not self._sizes or (
            len(self._sizes) < _MOST_AT_ONCE and sum(self._sizes.values()) + known <= self._limit
        )


class _Pipeline:
    """The threads and the lines between them, which `_Room` keeps short."""

    def __init__(self, todo: Sequence[BatchInput], task: BatchTask, model: Model) -> None:
        self._todo, self._task, self._model = todo, task, model
        self._room = _Room(task.config.memory_mb * 1e6)
        self._was_read: queue.SimpleQueue[ReadCase | BaseException] = queue.SimpleQueue()
        self._to_write: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        self._was_written: queue.SimpleQueue[BatchRecord | BaseException] = queue.SimpleQueue()
        self._written = 0
        self._stopped = False
        work = [self._read_all, *[self._write_all] * _WRITERS]
        self._threads = [threading.Thread(target=each) for each in work]
        for thread in self._threads:
            thread.start()

    def next_read(self, share: float, name: str) -> Generator[Event | BatchRecord, None, ReadCase]:
        """Wait for the next volume; yield what was written meanwhile."""
        while True:
            yield from self._take_written()
            try:
                read = self._was_read.get(timeout=_PATIENCE)
            except queue.Empty:
                yield WorkDone(share, f"reading {name}")
                continue
            if isinstance(read, BaseException):
                raise read
            return read

    def watch(
        self, read: ReadCase, work: Generator[Event, None, Prediction]
    ) -> Generator[Event | BatchRecord, None, _Answer]:
        """Run the network's work; yield its events, and what was written meanwhile."""
        began = time.perf_counter()
        prediction, error = None, ""
        with closing(work):
            while True:
                try:
                    event = next(work)
                except StopIteration as stop:
                    prediction = stop.value
                    break
                except Exception as reason:  # noqa: BLE001 - whatever it is, the other volumes go on
                    error = explain(reason, read.source.name)
                    break
                yield event
                yield from self._take_written()
        return _Answer(read, prediction, error, time.perf_counter() - began)

    def write(self, answer: _Answer) -> None:
        """Let a volume's results be written."""
        self._to_write.put(answer)

    def finish(self) -> Generator[Event | BatchRecord, None, None]:
        """Wait until all is written."""
        while self._written < len(self._todo):
            yield from self._take_written(_PATIENCE)
            if self._written < len(self._todo):
                yield WorkDone(self._written / len(self._todo), "writing")

    def close(self) -> None:
        """End all threads."""
        self._room.close()
        for _ in range(_WRITERS):
            self._to_write.put(None)
        for thread in self._threads:
            thread.join()

    def _take_written(self, timeout: float = 0.0) -> Generator[BatchRecord, None, None]:
        while True:
            try:
                record = self._was_written.get(timeout=timeout) if timeout else self._was_written.get_nowait()
            except queue.Empty:
                return
            if isinstance(record, BaseException):
                raise record
            timeout = 0.0
            self._written += 1
            yield record

    def _read_all(self) -> None:
        try:
            for source in self._todo:
                if not self._room.enter(source.name):
                    return
                read = read_case(source, self._task)
                self._room.settle(source.name, memory_of(read, self._task, self._model))
                self._was_read.put(read)
                del read
        except BaseException as error:  # noqa: BLE001 - raised where the generator is
            self._was_read.put(error)

    def _write_all(self) -> None:
        while (answer := self._to_write.get()) is not None:
            name = answer.read.source.name
            try:
                if not self._stopped:
                    self._was_written.put(self._write(answer))
            except BaseException as error:  # noqa: BLE001 - raised where the generator is
                self._stopped = True
                self._was_written.put(error)
            del answer
            self._room.leave(name)

    def _write(self, answer: _Answer) -> BatchRecord:
        if answer.prediction is None:
            return write_failure(answer.read, self._task, answer.error, answer.seconds)
        return write_case(answer.read, answer.prediction, self._task, self._model, answer.seconds)
