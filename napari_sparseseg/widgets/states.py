"""From the session to what each panel shows: pure functions, and every sentence that a panel says."""

import itertools
from collections import Counter

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.widgets.job_words import describe_job, why_wait
from napari_sparseseg.widgets.pretrain_states import describe_start
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.snapshots import AnnotateState, DockState, PredictState, TrainState

_NO_IMAGE = "Open an image first."
_WHOSE = {"preview": "the instant preview", "network": "the network", "both": "network and preview together"}


_ALL_CASES = "the network that has learnt from all cases (see the Cases panel)"


def annotate_state(session: Session) -> AnnotateState:
    """Return what the Annotate panel shows."""
    return AnnotateState(
        images=session.images,
        image=session.image,
        table=session.table,
        selected=session.selected,
        tool="" if session.boxes.drawing or session.cam.marking else session.tool,
        brush_size=session.brush_size,
        orientation=session.orientation,
        slice_index=session.slice_index,
        slice_count=session.slice_count,
        voxels=dict(session.voxels),
        boxes=dict(Counter(record.value for record in session.boxes.records)),
        labelled_slices=session.labelled_slices,
        why_no_paint=_why_no_paint(session),
        why_no_accept=_why_no_accept(session),
        why_no_interpolation=_why_no_interpolation(session),
        why_no_clear="" if "interpolated" in session.apart else "Nothing was interpolated.",
    )


def train_state(session: Session) -> TrainState:
    """Return what the Train panel shows."""
    return TrainState(
        running=session.running,
        why_not_start=_why_not_start(session),
        sentence=describe_learning(session),
        busy=session.busy,
        shown=session.shown,
        losses=session.learning.losses.points,
        agreements=session.learning.agreements.points,
        training=session.training,
        network=session.network,
        start=_ALL_CASES if session.cohort.trained else describe_start(session),
        has_encoder=not session.cohort.trained and bool(describe_start(session)),
    )


def predict_state(session: Session) -> PredictState:
    """Return what the Predict panel shows."""
    return PredictState(
        table=session.table,
        hidden=session.hidden,
        opacity=session.opacity,
        uncertainty_visible=session.uncertainty_visible,
        volumes_ml=dict(session.volumes_ml),
        suggestion=session.suggestion,
        inference=session.inference,
        why_no_prediction=_why_no_prediction(session),
        why_no_model=_why_no_model(session),
        folder=session.folder,
    )


def dock_state(session: Session) -> DockState:
    """Return what the dock shows above the panels."""
    return DockState(project=session.project, saved=_describe_saved(session), offer=session.offer)


def describe_learning(session: Session) -> str:
    """Return what goes on, in words."""
    if session.worker == "gone":
        return "The computing process has stopped; press Start to start it again."
    if session.image is None:
        return session.doing
    if session.worker == "starting":
        return "Getting ready to compute…"
    if words := describe_job(session):
        return words
    learning = session.learning
    if session.running and learning.slices and learning.progress < 1:
        return f"learning from {_words_of_round(session)}"
    if learning.slices and not session.running:
        return f"paused after {_words_of_round(session)}"
    return session.waiting or ("computing the preview…" if session.busy else "")


def describe_shown(shown: str, reason: str) -> str:
    """Return which model is shown and why, of an `events.PictureCompleted`."""
    words = reason.rstrip(".") or _WHOSE.get(shown, shown)
    return f"Shown: {words[:1].lower()}{words[1:]}."


def _words_of_round(session: Session) -> str:
    learning = session.learning
    count = sum(map(len, session.labelled_slices)) or learning.slices
    words = ["1 slice" if count == 1 else f"{count} slices", _words_of_time(learning.seconds)]
    if learning.agreement is not None:
        words.append(f"agreement on held-out strokes {learning.agreement:.2f}")
    return " · ".join(words)


def _words_of_time(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def _describe_saved(session: Session) -> str:
    if session.doing:
        return session.doing
    if not session.project:
        return "Everything is saved from the first stroke on."
    parts = [_count(session.changes, "change")] if session.changes or not session.boxes.records else []
    if session.boxes.records:
        parts.append(_count(len(session.boxes.records), "box"))
    return f"{' and '.join(parts)} saved"


def _count(number: int, thing: str) -> str:
    plural = f"{thing}es" if thing.endswith("x") else f"{thing}s"
    return f"{number} {thing if number == 1 else plural}"


def _why_no_paint(session: Session) -> str:
    if session.reading:
        return session.doing or "The image is being read."
    if session.image is None:
        return _NO_IMAGE
    if not session.paintable:
        return "The labels layer was removed; choose the image again to bring it back."
    return ""


def _why_no_accept(session: Session) -> str:
    if why := _why_no_paint(session):
        return why
    if session.axis is None:
        return "Show a slice first; the view is in 3D."
    return _why_no_prediction(session)


def _why_no_interpolation(session: Session) -> str:
    if why := _why_no_paint(session):
        return why
    if session.is_flat:
        return "A single slice has nothing to interpolate between."
    if session.axis is None:
        return "Show a slice first; the view is in 3D."
    labelled = session.labelled_slices[session.axis]
    if len(labelled) < 2:
        return "Label two slices of this orientation first."
    gaps = [(first, second) for first, second in itertools.pairwise(labelled) if second - first > 1]
    if not gaps:
        return "There is no slice between the labelled ones."
    if not any(first <= session.slice_index <= second for first, second in gaps):
        return "Go to a slice between two labelled ones first."
    return ""


def _why_not_start(session: Session) -> str:
    if session.running:
        return ""
    if session.image is None:
        return _why_no_paint(session)
    if why := why_wait(session):
        return why
    if not any(session.voxels.get(entry.value, 0) for entry in session.table.classes[1:]):
        return "Paint a few strokes of a class first."
    if sum(count > 0 for count in session.voxels.values()) < 2:
        return (
            "Paint background, or a second class, too."
            if not session.voxels.get(BACKGROUND)
            else "Paint a class too."
        )
    return ""


def _why_no_prediction(session: Session) -> str:
    if session.image is None:
        return _NO_IMAGE
    return "" if session.pictured else "There is no prediction yet."


def _why_no_model(session: Session) -> str:
    if session.image is None:
        return _NO_IMAGE
    if why := why_wait(session):
        return why
    return "" if session.learning.steps else "No network has learnt yet."
