"""Showing long work on the terminal: a bar with the time left and the running held-out Dice."""

import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from napari_sparseseg.cohort_events import BatchCaseDone
from napari_sparseseg.events import (
    ClassifierScored,
    Event,
    HeldOutScored,
    Noted,
    PretextScored,
    PreviewReady,
    StepDone,
    WindowDone,
    WorkDone,
)

Result = TypeVar("Result")

_SAME_SECONDS = 0.5
_LOG_SECONDS = 60.0  # between two lines on a batch where no bar can be drawn, as in the log of a cluster


class ProgressDisplay:
    """Draws events on standard error; on something else than a terminal it only prints sentences.

    Parameters
    ----------
    work
        What a command does in its `WorkDone` events, in a word.
    """

    def __init__(self, work: str = "Boxes") -> None:
        self._work = work
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._detail = ""
        self._cases = ""
        self._failed = 0
        self._share = 0.0
        self._logged = time.monotonic()

    def run(self, work: Generator[Event, None, Result]) -> Result:
        """Run `work` to its end and return its result.

        Ctrl-C lets the running step end and then closes `work`, so that what it saves is whole.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C.
        """
        with self._bar, _interrupt_noted() as interrupted:
            while True:
                try:
                    event = next(work)
                except StopIteration as stop:
                    result: Result = stop.value
                    return result
                self._show(event)
                if interrupted:
                    work.close()
                    raise KeyboardInterrupt

    def say(self, text: str) -> None:
        """Print a sentence."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _show(self, event: Event) -> None:
        match event:
            case Noted(text):
                self.say(text)
            case PreviewReady(_, _, name, dice):
                agreement = "" if dice is None else f", held-out Dice {dice:.2f}"
                self.say(f"Preview: {name}{agreement}.")
            case HeldOutScored(_, dice, _):
                self._detail = f"held-out Dice {dice:.2f}"
            case ClassifierScored(_, accuracy) if accuracy:
                self._detail = f"held-out balanced accuracy {sum(accuracy.values()) / len(accuracy):.2f}"
            case PretextScored():
                words = f"{event.figure} {event.value:.2f} (trivial {event.trivial:.2f})"
                self._detail = f"{words}  spread {event.spread:.2f}"
            case StepDone(step, loss, progress):
                self._update("Training", progress, f"step {step}  loss {loss:.3f}  {self._detail}")
            case BatchCaseDone():
                self._count(event)
            case WorkDone(share, words):
                in_batch = (self._share, f"{self._cases}, {words}")
                self._update(self._work, *(in_batch if self._cases else (share, words)))
            case WindowDone(done, total):
                self._update("Predicting", done / total, "")

    def _count(self, case: BatchCaseDone) -> None:
        """Tell how far a batch is."""
        self._failed += bool(case.error)
        self._share = case.done / case.total
        self._cases = f"{case.done} of {case.total}" + (f", {self._failed} failed" if self._failed else "")
        self._update(self._work, self._share, self._cases)
        if not self._console.is_terminal and time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            self.say(f"{self._work}: {self._cases}.")

    def _update(self, name: str, progress: float, detail: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=1.0, detail="")
        task = self._tasks[name]
        if self._bar.tasks[task].completed > progress:  # the next volume
            self._bar.reset(task)
        self._bar.update(task, completed=progress, detail=detail)


@contextmanager
def _interrupt_noted() -> Iterator[list[float]]:
    """Collect the first Ctrl-C instead of raising in the middle of a step; a second one raises.

    What follows at once is the same one: torchrun passes on what the terminal has sent already.
    """
    received: list[float] = []

    def note(_: int, __: FrameType | None) -> None:
        if received and time.monotonic() - received[0] > _SAME_SECONDS:
            raise KeyboardInterrupt
        received.append(time.monotonic())

    before = signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, before)
