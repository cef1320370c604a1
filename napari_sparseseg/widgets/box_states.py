"""From the session to what the Boxes panel shows: a pure function, and its sentences."""

from napari_sparseseg.events import BoxRoundMade
from napari_sparseseg.project import BoxRecord
from napari_sparseseg.widgets.job_words import why_no_worker, why_wait
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.snapshots import ORIENTATIONS, BoxesState, BoxRow, RoundRow
from napari_sparseseg.widgets.work import BoxWork

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
        rows=tuple(_describe_box(record, session) for record in work.records),
        chosen=work.chosen,
        orientation=axis,
        slice_index=session.slice_index,
        slice_count=session.slice_count,
        boxes=session.box_config,
        recursion=session.recursion,
        crf=session.crf,
        running=bool(work.running),
        progress=work.progress,
        sentence=_describe_work(work),
        rounds=tuple(
            RoundRow(made.number, name_round(made, work.method), mean_dice(made)) for made in work.rounds
        ),
        shown_round=work.shown,
        kept_round=work.kept,
        truths=("strokes", *session.truths),
        truth=work.truth,
        notes=tuple(work.notes),
        folder=session.folder,
        why_no_draw=why_no_draw(session),
        why_no_run=_why_no_run(session),
        why_no_keep=_why_no_keep(work),
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


def _describe_work(work: BoxWork) -> str:
    if work.running:
        return work.doing
    if work.rounds and _corners(work.asked) != _corners(work.records):
        return "The boxes have changed; make the masks again to see it."
    return work.outcome


def _corners(records: tuple[BoxRecord, ...]) -> list[tuple[object, ...]]:
    return sorted((record.value, record.start, record.stop) for record in records)


def _describe_box(record: BoxRecord, session: Session) -> BoxRow:
    axis = session.orientation
    lengths = [b - a for a, b in zip(record.start, record.stop, strict=True)]
    sides = [_words_of_mm(n * mm) for n, mm in zip(lengths[::-1], session.spacing[::-1], strict=True)]
    thin = [
        name
        for name, length, most in zip(ORIENTATIONS, lengths, session.shape, strict=True)
        if length == 1 < most
    ]
    return BoxRow(
        record.number, record.value, f"{' × '.join(sides)} mm", record.start[axis], record.stop[axis] - 1,
        f"Only one {thin[0]} slice deep: draw it on its last slice too, or type the slices." if thin else "",
    )  # fmt: skip


def _words_of_mm(size: float) -> str:
    if size >= 1:
        return f"{size:.0f}"
    return f"{size:.1f}" if size >= 0.1 else f"{size:.1g}"


def _why_no_keep(work: BoxWork) -> str:
    if work.shown is not None:
        return ""
    return "Choose a round first." if work.rounds else "There are no labels from boxes yet."


def why_no_draw(session: Session) -> str:
    """Return why no box can be drawn now; empty where one can."""
    if session.reading:
        return session.doing or "The image is being read."
    if session.image is None:
        return "Open an image first."
    return "Show a slice first; the view is in 3D." if session.axis is None else ""


def _why_no_run(session: Session) -> str:
    if why := why_no_worker(session):
        return why
    if not session.boxes.running and (why := why_wait(session)):
        return why
    return "" if session.boxes.records else "Draw a box first."
