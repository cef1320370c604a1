"""From the session to what the Batch panel shows: a pure function, and its sentences."""

import os
from pathlib import Path

from napari_sparseseg.batch_command import write_command
from napari_sparseseg.cohort_events import BatchCaseDone
from napari_sparseseg.setting import split_several
from napari_sparseseg.widgets.batch_snapshots import BatchRow, BatchState
from napari_sparseseg.widgets.batch_words import (
    describe_case,
    describe_network,
    describe_progress,
    describe_results,
    describe_sources,
)
from napari_sparseseg.widgets.job_words import why_wait
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.work import BatchWork

LIVE = "live"
PROJECT = "project"
FOLDER = "folder"

_NO_NETWORK = (
    "There is no network yet: let one learn (Train or Cases), or choose the folder of one that is saved."
)
_NO_DICOM = "Needs highdicom: install it with pip install 'napari-sparseseg[dicom]', and start napari again."
_AMONG = "The results would lie among the volumes themselves; choose another folder."
_LIVE_SAVED = "It is saved with the results."
_NETWORK_FOLDER = "network"


def batch_state(session: Session) -> BatchState:
    """Return what the Batch panel shows."""
    work = session.batching
    network = find_network(session)
    failed = sum(bool(event.error) for event in work.results)
    warned = sum(bool(event.warnings) and not event.error for event in work.results)
    return BatchState(
        sources=work.sources,
        sources_words=describe_sources(work.sources, work.found, work.looking),
        networks=list_networks(session),
        network=network,
        network_words=_describe_network(session, network),
        out=work.out,
        out_warning=_AMONG if _lies_among(work) else "",
        config=session.batch,
        inference=session.inference,
        why_no_dicom="" if work.highdicom else _NO_DICOM,
        running=bool(work.running),
        progress=work.progress,
        sentence=_describe_work(work, failed),
        notes=tuple(work.notes),
        command=_write_command(session, network),
        rows=_list_rows(work),
        results_words=describe_results(failed, warned, len(work.results)) if work.results else "",
        report=work.report,
        why_no_run=why_no_run(session),
        why_no_change="Volumes are being segmented." if work.running else "",
        why_no_folder="" if work.out else BatchState().why_no_folder,
    )


def list_networks(session: Session) -> dict[str, str]:
    """Return the networks that can be chosen, by name and in words."""
    saved = session.batching.saved
    networks = {}
    if PROJECT in saved:
        networks[PROJECT] = "The project's network"
    if _can_be_saved(session):
        networks[LIVE] = "The network in work, as it is now"
    if FOLDER in saved:
        folder = Path(saved[FOLDER].folder)
        inside = folder.name == _NETWORK_FOLDER and folder.parent.name
        networks[FOLDER] = f"{folder.parent.name}/{folder.name}" if inside else folder.name
    return networks


def find_network(session: Session) -> str:
    """Return the name of the network that is used: the chosen one, or whichever there is; else empty."""
    networks = list_networks(session)
    return session.batching.network if session.batching.network in networks else next(iter(networks), "")


def find_model(session: Session) -> str:
    """Return the folder that the network is read from: for that in work, where it is to be saved."""
    work, network = session.batching, find_network(session)
    return str(Path(work.out) / _NETWORK_FOLDER) if network == LIVE else work.saved[network].folder


def why_no_run(session: Session) -> str:
    """Return why the volumes cannot be segmented now; empty where they can."""
    work = session.batching
    if why := why_wait(session):
        return why
    if not work.sources:
        return "Choose the volumes first."
    if work.looking:
        return "The volumes are being looked for."
    if work.found == 0:
        return "There is no volume to segment; choose others."
    if not find_network(session):
        return _NO_NETWORK
    if not work.out:
        return "Choose a folder for the results."
    if _lies_among(work):
        return _AMONG
    formats = split_several(session.batch.formats)
    if not formats:
        return "Choose at least one kind of file for the masks, in the settings."
    if "dicom_seg" in formats and not work.highdicom:
        return f"DICOM segmentations cannot be written. {_NO_DICOM}"
    return ""


def _can_be_saved(session: Session) -> bool:
    return session.image is not None and session.learning.steps > 0


def _describe_network(session: Session, network: str) -> str:
    if not network:
        return _NO_NETWORK
    if network == LIVE:
        agreement = session.learning.agreement
        dice = "not measured" if agreement is None else f"{agreement:.2f}"
        return f"Learnt from {session.image}. Dice {dice}. {_LIVE_SAVED}"
    return describe_network(session.batching.saved[network])


def _describe_work(work: BatchWork, failed: int) -> str:
    if not work.running:
        return work.outcome
    if not work.done:
        return work.doing
    return describe_progress(work.done, work.total, work.left, failed)


def _write_command(session: Session, network: str) -> str:
    work = session.batching
    if not (work.sources and network and work.out):
        return ""
    return write_command(work.sources, find_model(session), work.out, session.batch, session.inference)


def _list_rows(work: BatchWork) -> tuple[BatchRow, ...]:
    events, sources = work.results, () if work.asked is None else work.asked.sources
    if not work.running:  # the most urgent ones first; while they come, nothing may jump
        events = tuple(sorted(events, key=_urgency))
    return tuple(BatchRow(e.name, describe_case(e, sources), _kind(e), e.warnings) for e in events)


def _urgency(event: BatchCaseDone) -> tuple[int, float]:
    return {"failed": 0, "look": 1, "fine": 2}[_kind(event)], -event.uncertainty


def _kind(event: BatchCaseDone) -> str:
    if event.error:
        return "failed"
    return "look" if event.warnings else "fine"


def _lies_among(work: BatchWork) -> bool:
    return bool(work.out) and os.path.abspath(work.out) in {os.path.abspath(s) for s in work.sources}
