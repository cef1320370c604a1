"""What the Pre-train panel asks for: volumes, an encoder that learns without labels, and its use."""

import math
from datetime import datetime
from pathlib import Path

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    EncoderProbed,
    EncoderTrained,
    ImageReady,
    Noted,
    PretextPictured,
    PretextScored,
    StepDone,
    WorkDone,
)
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.project_encoders import ProbeRecord, delete_encoder, folder_to_learn_in, save_probe
from napari_sparseseg.project_store import DATABASE_NAME
from napari_sparseseg.requests import Pretrain, ProbeEncoders, StartFrom
from napari_sparseseg.volume_files import find_volumes
from napari_sparseseg.widgets.job_actions import JobActions
from napari_sparseseg.widgets.pretext_layers import PretextLayers
from napari_sparseseg.widgets.pretrain_states import (
    list_comparable,
    why_no_delete,
    why_no_probe,
    why_no_train,
    why_no_use,
)
from napari_sparseseg.widgets.pretrain_words import describe_encoder
from napari_sparseseg.widgets.session import Learning
from napari_sparseseg.widgets.work import PretrainWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_STOPPED = "Stopped. With the same volumes and settings, learning goes on from here."
_TRAINED = "The encoder has learnt; use it for training, or compare it."


class PretrainActions(JobActions):
    """Carries out what the user asks for of learning without labels, and of encoders."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self._layers: PretextLayers | None = None
        self._run = ""
        """Which comparison is being made, as `ProbeRecord.run` has it."""
        self._last, self._noted = "", False
        """Folder of the encoder that is measured last, and whether a note was the last that was heard."""
        place.closing.connect(self._image_closing)
        place.viewed.connect(self._follow_view)

    @property
    def job(self) -> PretrainWork:
        """The learning, or the comparison."""
        return self.place.session.pretrain

    # -- volumes --

    def image_opened(self) -> None:
        """Take in which other images the project has."""
        self._find_project_files()
        self.place.touch()

    @tells
    def use_image(self, joins_in: bool) -> None:
        """Learn from the image in work too, or do not."""
        self.place.session.volumes.uses_image = joins_in

    @tells
    def use_project(self, joins_in: bool) -> None:
        """Learn from the project's other images too, or do not."""
        self._find_project_files()
        self.place.session.volumes.uses_project = joins_in

    @tells
    def choose_folder(self, folder: str) -> None:
        """Learn from the volumes in a folder too; from none if it is empty."""
        volumes = self.place.session.volumes
        volumes.folder, volumes.folder_files, volumes.looking = folder, (), bool(folder)
        if not folder:
            return

        def found(files: tuple[Path, ...]) -> None:
            if volumes.folder == folder:
                volumes.folder_files, volumes.looking = tuple(map(str, files)), False
                if not files:
                    self.place.inform(f"{folder} holds no volume that can be read; choose another folder.")
            self.place.touch()

        def failed() -> None:
            if volumes.folder == folder:
                volumes.folder, volumes.looking = "", False
            self.place.touch()

        words = f"Looking through {Path(folder).name}…"
        self.place.background.run(words, lambda: _find_volumes(Path(folder)), found, failed)

    def _find_project_files(self) -> None:
        desk = self.place.desk
        files = [record.source for record in desk.records() if record.number != desk.case and record.source]
        self.place.session.volumes.project_files = tuple(file for file in files if Path(file).exists())

    def _files(self) -> tuple[str, ...]:
        """Return all files to learn from, none twice, and the image's own only if the image is left out."""
        volumes = self.place.session.volumes
        files = [*(volumes.project_files if volumes.uses_project else ()), *volumes.folder_files]
        by_place = {Path(file).resolve(): file for file in reversed(files)}
        own = self.place.require_case().source.path
        if volumes.uses_image and own:
            by_place.pop(Path(own).resolve(), None)
        return tuple(reversed(by_place.values()))

    # -- learning --

    @tells
    def change_settings(self, config: PretrainingConfig, pretext: PretextConfig) -> None:
        """Learn otherwise from the next time on."""
        session = self.place.session
        if config.task != session.pretraining.task and not self.job.running:
            self.job.outcome = ""  # it is of another task
        session.pretraining, session.pretext = config, pretext
        self.place.desk.save_settings(session)

    @tells
    def train(self) -> None:
        """Let an encoder learn without labels; learning from strokes rests meanwhile."""
        place, session = self.place, self.place.session
        if self.job.running == "pretrain":
            return  # a second click came before the panel showed the first
        opened = place.require_case().request(session.table, "")
        self._find_project_files()
        if why := why_no_train(session):
            raise InputError(why)
        files = self._files()
        if not files and not session.volumes.uses_image:
            raise InputError("The folder holds nothing but the image itself; let that join in.")
        place.ensure_hints()  # from now on there is a project
        folder = place.desk.encoder_folder
        assert folder is not None
        request = Pretrain(
            opened.image, opened.spacing, opened.name, session.volumes.uses_image, files, session.table,
            *place.desk.strokes(), session.pretraining, session.pretext, session.network,
            str(folder_to_learn_in(folder, session.pretraining.task)),
        )  # fmt: skip
        self.job.forget_course()
        self.begin(request, "pretrain", "Looking at the volumes…")

    @tells
    def cancel(self) -> None:
        """Stop what is being done; an encoder that was learning can go on later."""
        self.end(_STOPPED if self.job.running == "pretrain" else "Stopped.")

    def take_event(self, event: object) -> bool:
        """Take in what the worker says of this work; return False for what is not of it."""
        job = self.job
        if isinstance(event, ImageReady) and not job.running:
            # What was stopped before it has written its state by now.
            self.place.desk.list_encoders(self.place.session)
            return False
        if not job.running:
            return False
        known = super().take_event(event) or self._take(event)
        if job.running == "probe" and self._is_last(event):
            self.end(self._compared())
        return known

    def _take(self, event: object) -> bool:
        """Take in what only these jobs say; return False for what they do not."""
        job = self.job
        if isinstance(event, StepDone):
            job.losses.add(event.step, event.loss)
            steps = f"{event.step:,} step{'s' * (event.step != 1)}"
            job.progress, job.doing = event.progress, f"Learning: {steps}."
        elif isinstance(event, PretextScored):
            self._take_score(event)
        elif isinstance(event, PretextPictured):
            self._show_pictures(event)
        elif isinstance(event, EncoderTrained):
            self.place.desk.list_encoders(self.place.session, chosen=event.folder)
            self.end(_TRAINED)
        elif isinstance(event, EncoderProbed):
            self._keep_probe(event)
        else:
            return False
        return True

    def _is_last(self, event: object) -> bool:
        """Tell whether the last encoder was measured with this event, or could not be."""
        if isinstance(event, EncoderProbed):
            return event.folder == self._last
        is_last = self._noted and isinstance(event, WorkDone) and event.share >= 1
        self._noted = isinstance(event, Noted)
        return is_last

    def _take_score(self, event: PretextScored) -> None:
        job = self.job
        job.score = event
        job.figures.add(event.step, event.value)
        job.alignments.add(event.step, event.alignment)
        job.uniformities.add(event.step, event.uniformity)

    def _stop(self, outcome: str) -> None:
        super()._stop(outcome)
        self.place.desk.list_encoders(self.place.session)

    # -- pictures --

    @tells
    def clear_pictures(self) -> None:
        """Take the pictures of the task out of the viewer."""
        if self._layers is not None:
            self._layers.clear()
        self.job.pictured = False

    def _show_pictures(self, event: PretextPictured) -> None:
        case = self.place.case
        if case is None:
            return
        if self._layers is None:
            self._layers = PretextLayers(self.place.viewer, case.source, case.layers.annotation)
            self._layers.removed.connect(self._take_pictured)
        self._layers.show(event)
        self._take_pictured()

    def _take_pictured(self) -> None:
        self.job.pictured = self._layers is not None and bool(self._layers.names)
        self.place.touch()

    def _follow_view(self) -> None:
        if self._layers is not None and self.place.case is not None:
            self._layers.place(self.place.case.source.placement)

    def _image_closing(self) -> None:
        layers, self._layers = self._layers, None
        if layers is not None:
            layers.close()
        self.place.session.volumes.project_files = ()

    # -- encoders --

    @tells
    def choose_encoder(self, folder: str) -> None:
        """Mark an encoder."""
        encoders = self.place.session.encoders
        if encoders.find(folder) is not None:
            encoders.chosen = folder

    @tells
    def use_encoder(self, folder: str) -> None:
        """Let networks start from an encoder, from random weights if `folder` is empty; they learn anew."""
        session = self.place.session
        if folder and (why := why_no_use(session, folder)):
            raise InputError(why)
        if folder != session.encoders.used:
            session.encoders.used = folder
            session.learning = Learning()
            self.place.desk.save_settings(session)
            self.place.send(StartFrom(self.place.desk.find_start(session)))

    @tells
    def delete_encoder(self, folder: str) -> None:
        """Delete an encoder; where training starts from it, it does so no longer."""
        session = self.place.session
        if why := why_no_delete(session, folder):
            raise InputError(why)
        if session.encoders.used == folder:
            self.use_encoder("")
        self.job.outcome = ""  # it may be of this one
        try:
            delete_encoder(Path(folder))
        finally:
            self.place.desk.list_encoders(session)

    @tells
    def probe(self) -> None:
        """Compare all encoders by how well the labels are told from what they see."""
        place, session = self.place, self.place.session
        if self.job.running == "probe":
            return
        opened = place.require_case().request(session.table, "")
        if why := why_no_probe(session):
            raise InputError(why)
        request = ProbeEncoders(
            opened.image, opened.spacing, session.table, opened.name, *place.desk.strokes(),
            tuple(str(each.folder) for each in list_comparable(session)), session.network,
        )  # fmt: skip
        self.begin(request, "probe", "Comparing…")
        self._run, self._last = datetime.now().astimezone().isoformat(), request.folders[-1]
        self._noted = False
        session.encoders.probes = ()

    def _keep_probe(self, event: EncoderProbed) -> None:
        """Keep how well an encoder did; a folder that cannot be written must not end the comparison."""
        desk, session = self.place.desk, self.place.session
        if not math.isfinite(event.dice) or desk.encoder_folder is None:
            return
        probe = ProbeRecord(self._run, event.dice, event.per_class)
        folder = Path(event.folder) if event.folder else desk.encoder_folder
        session.encoders.probes += ((Path(event.folder).name, probe),)
        try:
            save_probe(folder, probe)
        except InputError as error:
            self.place.tell(str(error))

    def _compared(self) -> str:
        """Return what came of the comparison, in words."""
        dice = {name: probe.dice for name, probe in self.place.session.encoders.probes}
        if not dice:
            return "Nothing could be measured: see the notes."
        best = max(dice, key=lambda name: dice[name])
        if not best:
            return "Random weights did best on these labels: no encoder that was compared helps here."
        gain = f", {dice[best] - dice['']:+.2f} against random weights" if "" in dice else ""
        return f"{describe_encoder(best)} did best: Dice {dice[best]:.2f}{gain}."


def _find_volumes(folder: Path) -> tuple[Path, ...]:
    """Return the volumes in a folder, without the copies that projects keep, for these lack a spacing."""
    return tuple(file for file in find_volumes(folder) if not (file.parent.parent / DATABASE_NAME).exists())
