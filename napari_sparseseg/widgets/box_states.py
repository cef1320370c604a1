"""From the session to what the Boxes panel shows: a pure function, and its sentences."""

from napari_sparseseg.events import BoxRoundMade
from napari_sparseseg.project import BoxRecord
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.snapshots import BoxesState, BoxRow, RoundRow

_METHOD_WORDS = {
    "box": "whole boxes",
    "box_inner": "middle of the boxes",
    "grabcut": "GrabCut",
    "grabcut_plus": "GrabCut with edges",
    "grabcut_plus_i": "GrabCut, many votes",
    "proposals": "region proposals",
    "consensus": "proposals and GrabCut",
}


def boxes_state(session: Session) -> BoxesState:
    """Return what the Boxes panel shows."""
    work, axis = session.boxes, session.orientation
    return BoxesState(
        table=session.table,
        selected=class_of_new_box(session),
        drawing=work.drawing,
        rows=tuple(_describe_box(record, axis, session.spacing) for record in work.records),
        chosen=work.chosen,
        orientation=axis,
        slice_index=session.slice_index,
        slice_count=session.slice_count,
        boxes=session.box_config,
        recursion=session.recursion,
        crf=session.crf,
        running=work.running,
        progress=work.progress,
        sentence=work.doing if work.running else work.outcome,
        rounds=tuple(
            RoundRow(made.number, name_round(made, work.method), mean_dice(made)) for made in work.rounds
        ),
        shown_round=work.shown,
        kept_round=work.kept,
        truths=("strokes", *session.truths),
        truth=work.truth,
        notes=tuple(work.notes),
        folder=session.folder,
        why_no_draw=_why_no_draw(session),
        why_no_run=_why_no_run(session),
        why_no_keep="" if work.shown is not None else "There are no labels from boxes yet.",
        why_no_clear="" if session.has_box_labels else "No labels from boxes are kept.",
    )


def class_of_new_box(session: Session) -> int:
    """Return the painted value that a new box gets: the selected one, but never background."""
    values = session.table.mask_values[1:]
    return session.selected if session.selected in values else values[0]


def name_round(made: BoxRoundMade, method: str) -> str:
    """Return what a round is called."""
    if made.number:
        return f"round {made.number}"
    return f"{_METHOD_WORDS.get(method, method)}, before learning"


def mean_dice(made: BoxRoundMade) -> float | None:
    """Return the mean Dice of a round over the classes known; None where none is."""
    return sum(made.quality.values()) / len(made.quality) if made.quality else None


def _describe_box(record: BoxRecord, axis: int, spacing: tuple[float, float, float]) -> BoxRow:
    lengths = [b - a for a, b in zip(record.start, record.stop, strict=True)]
    sides = [f"{n * mm:.0f}" for n, mm in zip(reversed(lengths), reversed(spacing), strict=True)]
    return BoxRow(
        record.number,
        record.value,
        f"{' × '.join(sides)} mm",
        record.start[axis],
        record.stop[axis] - 1,
        "Only one slice deep: draw it on its last slice too, or type the slices."
        if min(lengths) == 1
        else "",
    )


def _why_no_draw(session: Session) -> str:
    if session.reading:
        return session.doing or "The image is being read."
    if session.image is None:
        return "Open an image first."
    return "Show a slice first; the view is in 3D." if session.axis is None else ""


def _why_no_run(session: Session) -> str:
    if session.image is None:
        return "Open an image first."
    if session.worker == "starting":
        return "Getting ready to compute…"
    if session.worker == "gone":
        return "The computing process has stopped; press Start in the Train panel."
    return "" if session.boxes.records else "Draw a box first."
