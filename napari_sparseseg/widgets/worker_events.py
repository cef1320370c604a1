"""What each event of the worker changes in the session."""

from collections.abc import Callable
from typing import Any

from napari_sparseseg.events import (
    HeldOutScored,
    PictureChanged,
    PictureCompleted,
    RoundStarted,
    StepDone,
    Waiting,
    WindowDone,
    WorkerReady,
)
from napari_sparseseg.widgets.session import Learning, Session
from napari_sparseseg.widgets.states import describe_shown


def take_event(session: Session, event: object) -> None:
    """Bring the session up to date with an event; events that change nothing to be shown are passed over."""
    take = _TAKERS.get(type(event))
    if take is not None:
        take(session, event)


def _on_ready(session: Session, event: WorkerReady) -> None:
    session.worker = "ready"


def _on_waiting(session: Session, event: Waiting) -> None:
    session.busy = False
    session.waiting = event.reason


def _on_round(session: Session, event: RoundStarted) -> None:
    if session.resuming and session.learning.slices:
        session.learning.slices = max(1, event.slices)
    else:
        session.learning = Learning(slices=max(1, event.slices))
    session.resuming = False
    session.learning.run(session.running)
    session.busy, session.waiting = True, ""


def _on_step(session: Session, event: StepDone) -> None:
    session.busy, session.waiting = True, ""
    if event.step < session.learning.steps:  # its state had not been kept
        session.learning = Learning(slices=session.learning.slices, record=session.learning.record)
        session.learning.run(session.running)
    session.learning.steps, session.learning.progress = event.step, event.progress
    session.learning.losses.add(event.step, event.loss)
    if event.progress >= 1:
        session.learning.run(False)


def _on_score(session: Session, event: HeldOutScored) -> None:
    session.learning.agreement = event.dice
    session.learning.agreements.add(event.step, event.dice)


def _on_changed(session: Session, event: PictureChanged) -> None:
    session.busy = session.pictured = True


def _on_completed(session: Session, event: PictureCompleted) -> None:
    session.pictured = True
    session.region = event.region
    session.shown = describe_shown(event.shown, event.reason)


def _on_window(session: Session, event: WindowDone) -> None:
    session.busy = True


_TAKERS: dict[type, Callable[[Session, Any], None]] = {
    WorkerReady: _on_ready,
    Waiting: _on_waiting,
    RoundStarted: _on_round,
    StepDone: _on_step,
    HeldOutScored: _on_score,
    PictureChanged: _on_changed,
    PictureCompleted: _on_completed,
    WindowDone: _on_window,
}
