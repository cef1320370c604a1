"""From the session to what the Class maps panel shows: a pure function, and its sentences."""

from collections.abc import Sequence

from napari_sparseseg.project_records import ImageLabelRecord
from napari_sparseseg.widgets.box_states import class_of_new_box
from napari_sparseseg.widgets.job_words import why_no_worker, why_wait
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.snapshots import ORIENTATIONS, ClassMapsState, ImageLabelRow, ScoreRow
from napari_sparseseg.widgets.work import CamWork

_NO_LABELS = "Say first where a class is, and where it is not."
_NO_SUBJECT = "There is no network to ask yet: let one learn from these labels first."
_NO_NETWORK = "There is no segmentation network to ask yet: let it learn in the Train panel first."
_CHOOSE_NETWORK = "Only the segmentation network can be asked about one place; choose it."
_CLICK = "Click the place in the image."
_NO_MAP = "There is no class map yet."


def class_maps_state(session: Session) -> ClassMapsState:
    """Return what the Class maps panel shows."""
    work, axis = session.cam, session.orientation
    value = labelled_class(session)
    begun = work.begun.get(value)
    subjects = find_subjects(session)
    return ClassMapsState(
        table=session.table,
        selected=value,
        orientation=axis,
        slice_index=session.slice_index,
        slice_count=session.slice_count,
        rows=tuple(_describe_label(record) for record in work.labels),
        begun=begun[1] if begun is not None and begun[0] == axis else None,
        classifier=session.classifier_config,
        cam=session.cam_config,
        seeds=session.seed_config,
        crf=session.crf,
        running=work.running,
        asking=work.asking,
        progress=work.progress,
        sentence=work.doing if work.running else _CLICK if work.asking else work.outcome,
        notes=tuple(work.notes),
        scores=_list_scores(work),
        within_volume=work.scores is not None and work.scores.within_volume,
        subjects=subjects,
        subject=find_subject(session),
        mapped=work.mapped,
        score=work.score,
        check=work.check,
        check_passed=work.check_passed,
        points=len(work.points),
        marking=work.marking,
        folder=session.folder,
        why_no_label=why_no_slice(session),
        why_no_end=_why_no_end(session, begun),
        why_no_train=_why_no_train(session),
        why_no_map=_why_no_map(session),
        why_no_map_here=why_no_map_here(session),
        why_no_check=_why_no_check(session),
        why_no_seeds=_NO_MAP if work.mapped is None else "",
        why_no_clear_seeds="" if "cam" in session.apart else "No labels were made from a class map.",
        why_no_mark=why_no_slice(session),
        why_no_clear_points="" if work.points else "There are no points.",
    )


def labelled_class(session: Session) -> int:
    """Return the painted value of the class that words and maps are of: the selected one, not background."""
    return class_of_new_box(session)


def find_subjects(session: Session) -> tuple[str, ...]:
    """Return which networks can be asked where they look."""
    there = {"classifier": session.cam.has_classifier, "network": session.learning.steps > 0}
    return tuple(subject for subject, is_there in there.items() if is_there)


def find_subject(session: Session) -> str:
    """Return which network is asked: the one chosen, if it is there; empty where there is none."""
    subjects = find_subjects(session)
    return session.cam.subject if session.cam.subject in subjects else next(iter(subjects), "")


def why_no_slice(session: Session) -> str:
    """Return why nothing can be said of the visible slice; empty where something can."""
    if session.image is None:
        return session.doing or "The image is being read." if session.reading else "Open an image first."
    return "Show a slice first; the view is in 3D." if session.axis is None else ""


def why_no_map_here(session: Session) -> str:
    """Return why the network cannot be asked about one place; empty where it can."""
    if why := _why_no_map(session) or why_no_slice(session):
        return why
    if find_subject(session) != "network":
        return _CHOOSE_NETWORK if "network" in find_subjects(session) else _NO_NETWORK
    return ""


def _describe_label(record: ImageLabelRecord) -> ImageLabelRow:
    where = "the volume"
    if record.axis is not None and record.first is not None:
        slices = f"{ORIENTATIONS[record.axis]} slice"
        one = record.first == record.last
        where = f"{slices} {record.first}" if one else f"{slices}s {record.first} to {record.last}"
    words = f"{'' if record.present else 'not '}in {where}"
    if record.present and record.axis is not None:
        words = where
    return ImageLabelRow(record.number, record.value, words, record.present, record.axis, record.first)


def _list_scores(work: CamWork) -> tuple[ScoreRow, ...]:
    if work.scores is None:
        return ()
    accuracy, auc = work.scores.balanced_accuracy, work.scores.auc
    return tuple(ScoreRow(name, accuracy.get(name), auc.get(name)) for name in {**accuracy, **auc})


def _why_no_end(session: Session, begun: Sequence[int] | None) -> str:
    if why := why_no_slice(session):
        return why
    if begun is None:
        return "Say first where it begins."
    if begun[0] != session.orientation:
        where = f"{ORIENTATIONS[begun[0]]} slice {begun[1]}"
        return f"It begins in {where}; turn there, or say anew where it begins."
    return ""


def _why_no_train(session: Session) -> str:
    if why := why_no_worker(session) or why_wait(session):
        return why
    return "" if session.cam.labels else _NO_LABELS


def _why_no_map(session: Session) -> str:
    if why := why_no_worker(session) or why_wait(session):
        return why
    return "" if find_subject(session) else _NO_SUBJECT


def _why_no_check(session: Session) -> str:
    if why := why_no_worker(session) or why_wait(session):
        return why
    return _NO_MAP if session.cam.mapped is None else ""
