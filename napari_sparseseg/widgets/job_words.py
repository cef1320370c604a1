"""What is said of the jobs that the worker does in place of learning from strokes."""

from collections.abc import Mapping
from dataclasses import dataclass

from napari_sparseseg.widgets.session import Session


@dataclass(frozen=True)
class JobWords:
    """How a kind of job is spoken of: in napari's activity bar, in the Train panel, to who must wait."""

    title: str
    going_on: str
    wait: str


JOB_WORDS: Mapping[str, JobWords] = {
    "boxes": JobWords(
        "Masks from boxes",
        "making masks from boxes; learning from strokes rests",
        "Masks are being made from boxes; wait for them, or stop that in the Boxes panel.",
    ),
    "classifier": JobWords(
        "Learning what is where",
        "learning from image-level labels; learning from strokes rests",
        "A classifier is learning; wait for it, or stop it in the Class maps panel.",
    ),
    "map": JobWords(
        "Class map",
        "making a class map; learning from strokes rests",
        "A class map is being made; wait for it, or stop that in the Class maps panel.",
    ),
    "check": JobWords(
        "Check of a class map",
        "checking a class map; learning from strokes rests",
        "A class map is being checked; wait for it, or stop that in the Class maps panel.",
    ),
    "pretrain": JobWords(
        "Learning without labels",
        "learning without labels; learning from strokes rests",
        "An encoder is learning without labels; wait for it, or stop it in the Pre-train panel.",
    ),
    "probe": JobWords(
        "Comparing encoders",
        "comparing encoders; learning from strokes rests",
        "Encoders are being compared; wait for that, or stop it in the Pre-train panel.",
    ),
    "cohort": JobWords(
        "Learning from all cases",
        "learning from all cases; learning from strokes rests",
        "A network is learning from all cases; wait for it, or stop it in the Cases panel.",
    ),
    "judge": JobWords(
        "Looking at the cases",
        "looking at the cases; learning from strokes rests",
        "The cases are being looked at; wait for that, or stop it in the Cases panel.",
    ),
    "batch": JobWords(
        "Segmenting volumes",
        "segmenting volumes; learning from strokes rests",
        "Volumes are being segmented; wait for them, or stop that in the Batch panel.",
    ),
}
"""By `session.Job.running`."""


def describe_job(session: Session) -> str:
    """Return what the worker does in place of learning from strokes; empty where it does not."""
    job = session.job
    return "" if job is None else JOB_WORDS[job.running].going_on


def why_wait(session: Session) -> str:
    """Return what must end before the worker can do anything else; empty where nothing must."""
    job = session.job
    return "" if job is None else JOB_WORDS[job.running].wait


def why_no_worker(session: Session) -> str:
    """Return why the worker cannot be asked for a job now; empty where it can."""
    if session.image is None:
        return session.doing or "The image is being read." if session.reading else "Open an image first."
    if session.worker == "starting":
        return "Getting ready to compute…"
    if session.worker == "gone":
        return "The computing process has stopped; press Start in the Train panel."
    return ""
