"""From the session to what the Pre-train panel shows: a pure function, and its sentences."""

from napari_sparseseg.project_encoders import EncoderSummary
from napari_sparseseg.widgets.job_words import why_no_worker, why_wait
from napari_sparseseg.widgets.pretrain_snapshots import EncoderRow, PretrainState
from napari_sparseseg.widgets.pretrain_words import describe_encoder, percent
from napari_sparseseg.widgets.session import Session

_NO_ENCODER = "There is no encoder yet: let one learn first."
_NO_VOLUMES = "Choose what to learn from: this image, others of the project, or a folder of volumes."
_FEW_LABELS = (
    "Label some voxels of two classes, or of one and background, first: they are what is told apart."
)
_GO_ON = "An unfinished encoder of this task is there: with the same volumes and settings, learning goes on."


def pretrain_state(session: Session) -> PretrainState:
    """Return what the Pre-train panel shows."""
    work, volumes, encoders = session.pretrain, session.volumes, session.encoders
    score = work.score
    rated = {name: probe.dice for name, probe in encoders.probes}
    return PretrainState(
        uses_image=volumes.uses_image,
        uses_project=volumes.uses_project,
        project_count=len(volumes.project_files),
        folder=volumes.folder,
        folder_count=len(volumes.folder_files),
        config=session.pretraining,
        pretext=session.pretext,
        network=session.network,
        running=work.running,
        progress=work.progress,
        sentence=work.doing if work.running else work.outcome or _describe_unfinished(session),
        notes=tuple(work.notes),
        losses=work.losses.points,
        figures=work.figures.points,
        alignments=work.alignments.points,
        uniformities=work.uniformities.points,
        figure="accuracy" if score is None else score.figure,
        trivial=None if score is None else score.trivial,
        spread=None if score is None else score.spread,
        collapsed=score is not None and score.collapsed,
        within_volume=score is not None and score.within_volume,
        encoders=tuple(
            EncoderRow(str(each.folder), each.name, _describe(each), rated.get(each.name))
            for each in encoders.known
        ),
        chosen=encoders.chosen,
        used=encoders.used,
        probes=_list_bars(session),
        pictured=work.pictured,
        why_no_project="" if volumes.project_files else _why_no_project(session),
        why_no_train=why_no_train(session),
        why_no_probe=why_no_probe(session),
        why_no_use=why_no_use(session, encoders.chosen),
        why_no_delete=why_no_delete(session, encoders.chosen),
        why_no_clear_pictures="" if work.pictured else "There are no pictures of the task.",
    )


def why_no_train(session: Session) -> str:
    """Return why no encoder can learn now; empty where one can."""
    if why := why_no_worker(session) or why_wait(session):
        return why
    volumes = session.volumes
    if volumes.uses_image or volumes.folder_files or (volumes.uses_project and volumes.project_files):
        return ""
    return "The folder is being looked through." if volumes.looking else _NO_VOLUMES


def why_no_probe(session: Session) -> str:
    """Return why encoders cannot be compared now; empty where they can."""
    if why := why_no_worker(session) or why_wait(session):
        return why
    finished = [each for each in session.encoders.known if each.finished]
    if not finished:
        return _NO_ENCODER
    if not list_comparable(session):
        return _misfit_of_channels(session, finished[0])
    return "" if sum(count > 0 for count in session.voxels.values()) > 1 else _FEW_LABELS


def why_no_use(session: Session, folder: str) -> str:
    """Return why training cannot start from the encoder in a folder; empty where it can."""
    encoder = session.encoders.find(folder)
    return _NO_ENCODER if encoder is None else _misfit(session, encoder)


def why_no_delete(session: Session, folder: str) -> str:
    """Return why the encoder in a folder cannot be deleted now; empty where it can."""
    if session.encoders.find(folder) is None:
        return "There is no encoder to delete."
    return why_wait(session)


def list_comparable(session: Session) -> tuple[EncoderSummary, ...]:
    """Return the encoders that can look at the image in work."""
    known = session.encoders.known
    return tuple(each for each in known if each.finished and not _misfit_of_channels(session, each))


def find_encoder(session: Session) -> str:
    """Return the folder of the encoder that networks start from now; empty for random weights."""
    return session.encoders.used if not why_no_use(session, session.encoders.used) else ""


def describe_start(session: Session) -> str:
    """Return what the network starts from, in words; empty where nothing but random weights was asked for."""
    encoder = session.encoders.find(session.encoders.used)
    if encoder is None:
        return ""
    name = f"{describe_encoder(encoder.name)} ({_count(encoder.volumes, 'volume')})"
    misfit = _misfit(session, encoder)
    return (
        f"random weights, not from {name}: {misfit[:1].lower()}{misfit[1:].rstrip('.')}" if misfit else name
    )


def _misfit(session: Session, encoder: EncoderSummary) -> str:
    """Return in a sentence why the network cannot start from an encoder; empty where it can."""
    if not encoder.finished or encoder.network is None:
        return "It has not learnt to the end: let it go on learning first."
    if encoder.network != session.network:
        kind = f"{encoder.network.architecture}, {encoder.network.size}"
        return f"It is of another network ({kind}) than the one that is set in the Train panel."
    return _misfit_of_channels(session, encoder)


def _misfit_of_channels(session: Session, encoder: EncoderSummary) -> str:
    if session.image is None or encoder.channels == session.channels:
        return ""
    return f"It learnt from {_count(encoder.channels, 'channel')}, and the image has {session.channels}."


def _describe(encoder: EncoderSummary) -> str:
    """Return what an encoder learnt from, and how well, in words."""
    if not encoder.finished:
        return f"unfinished: {_count(encoder.steps, 'step')}"
    words = [_count(encoder.volumes, "volume"), _count(encoder.steps, "step")]
    if encoder.value is not None:
        share = percent(encoder.value) if encoder.figure == "accuracy" else f"{encoder.value:.3g}"
        words.append(f"{encoder.figure} {share}")
    return ", ".join(words)


def _list_bars(session: Session) -> tuple[tuple[str, float], ...]:
    """Return the bars of the last comparison; none where it lacks random weights, or encoders are gone."""
    bars = tuple((name, probe.dice) for name, probe in session.encoders.probes)
    comparable = any(each.finished for each in session.encoders.known)
    return bars if comparable and bars and not bars[0][0] else ()


def _describe_unfinished(session: Session) -> str:
    """Return that learning can go on where it was stopped; empty where it cannot."""
    last = [each for each in session.encoders.known if each.task == session.pretraining.task][-1:]
    return _GO_ON if any(not each.finished for each in last) else ""


def _why_no_project(session: Session) -> str:
    return (
        "The project has no other images that are still there." if session.image else "Open an image first."
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"
