"""The project behind one window: made at the first stroke, and asked for everything that must last."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.errors import InputError
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.project import BoxRecord, CaseRecord, LabelChange, Project
from napari_sparseseg.project_cohort import network_folder
from napari_sparseseg.project_encoders import ENCODERS, last_probes, list_encoders
from napari_sparseseg.project_hints import ProjectHints
from napari_sparseseg.project_records import ImageLabelRecord, PointRecord
from napari_sparseseg.settings import (
    BoxConfig,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    SeedConfig,
    TrainingConfig,
)
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.pretrain_states import find_encoder
from napari_sparseseg.widgets.recording import LabelRecorder, is_apart
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.work import EncoderList

_CONFIGS = {
    "training": TrainingConfig,
    "network": NetworkConfig,
    "inference": InferenceConfig,
    "box_config": BoxConfig,
    "recursion": RecursionConfig,
    "crf": CrfConfig,
    "classifier_config": ClassifierConfig,
    "cam_config": CamConfig,
    "seed_config": SeedConfig,
    "pretraining": PretrainingConfig,
    "pretext": PretextConfig,
    "batch": BatchConfig,
}


class ProjectDesk:
    """Holds the open project and the case in work, both of which may not be there yet.

    Parameters
    ----------
    project_type
        `Project`, or what behaves like it.
    """

    def __init__(self, project_type: type[Project] = Project) -> None:
        self._type = project_type
        self.project: Project | None = None
        self._case: int | None = None
        self.recorder: LabelRecorder | None = None

    @property
    def case(self) -> int | None:
        """Number of the case in work; None before its first stroke."""
        return self._case

    def open(self, folder: Path) -> Project:
        """Open a project instead of the one before."""
        project = self._type.open(folder)
        self.close()
        self.project = project
        return project

    def create(self, folder: Path | None, session: Session) -> Project:
        """Make a project instead of the one before; it takes over the table and settings of the session."""
        project = self._type.create(folder)
        self.close()
        self.project = project
        project.set_table(session.table)
        self.save_settings(session)
        return project

    def find_start(self, session: Session) -> str:
        """Return what networks start from now: the folder of the network of all cases, or of an encoder.

        Empty for random weights.
        """
        folder = None if self.project is None else network_folder(self.project)
        if folder is not None and (folder / "model.json").exists():
            return str(folder)
        return find_encoder(session)

    def ensure_project(self, session: Session) -> Project:
        """Return the project; make one where there is none yet."""
        return self.project or self.create(None, session)

    def close(self) -> None:
        """Close the project, on purpose."""
        self.leave_case()
        project, self.project = self.project, None
        if project is not None:
            project.close()

    def leave_case(self) -> None:
        """Leave the case in work; its labels are read again when it comes back."""
        if self.project is not None and self._case is not None:
            self.project.forget_labels(self._case)
        self._case = self.recorder = None

    def find(self, source: ImageSource) -> bool:
        """Take up the case of an image; return whether the project has one."""
        self.leave_case()
        record = None if self.project is None else self.project.find_case(source.fingerprint)
        if record is None or record.shape != source.shape:
            return False
        self._take(record.number)
        return True

    def ensure(self, source: ImageSource, session: Session) -> bool:
        """Make the project and the case where they are missing; return whether the case is new."""
        if self._case is not None:
            return False
        project = self.ensure_project(session)
        volume = source.volume
        number = project.add_case(
            source.name, source.shape, volume.spacing, volume.affine, source=source.path,
            fingerprint=source.fingerprint, image=None if source.path else volume.data,
        )  # fmt: skip
        self._take(number)
        return True

    def record(
        self, voxels: NDArray[np.int64], values: NDArray[np.uint8], how: str, source: str
    ) -> LabelChange | None:
        """Record a change of the annotation layer, as `LabelRecorder.record` does."""
        return None if self.recorder is None else self.recorder.record(voxels, values, how, source)

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """Live painted values ``(Z, Y, X)`` of the case in work."""
        if self.project is None or self._case is None:
            return None
        return self.project.labels(self._case)

    @property
    def sources(self) -> NDArray[np.uint8] | None:
        """Live source codes ``(Z, Y, X)`` of the case in work."""
        if self.project is None or self._case is None:
            return None
        return self.project.sources(self._case)

    def apart(self) -> NDArray[np.bool_] | None:
        """Return where the labels of the case in work are shown in layers of their own."""
        return None if self.sources is None else is_apart(self.sources)

    def voxels_of(self, source: str) -> NDArray[np.int64]:
        """Return the flat indices of the labels that come from a source."""
        nothing = np.zeros(0, np.int64)
        return nothing if self.sources is None else np.flatnonzero(self.sources == source_code(source))

    def differing(self, labels: NDArray[np.uint8], source: str) -> NDArray[np.int64]:
        """Return the flat indices at which the labels of a source are not `labels` ``(Z, Y, X)``."""
        if self.labels is None or self.sources is None:
            return np.flatnonzero(labels)
        return np.flatnonzero(labels != self.labels * (self.sources == source_code(source)))

    def boxes(self) -> tuple[BoxRecord, ...]:
        """Return the boxes of the case in work."""
        return () if self._case is None else self.hints()[0].boxes(self._case)

    def points(self) -> tuple[PointRecord, ...]:
        """Return the points of the case in work."""
        return () if self._case is None else self.hints()[0].points(self._case)

    def image_labels(self) -> tuple[ImageLabelRecord, ...]:
        """Return the image-level labels of the case in work, the newest last."""
        return () if self._case is None else self.hints()[0].image_labels(self._case)

    def remove_hints_of(self, value: int) -> tuple[str, ...]:
        """Forget boxes, points and image-level labels of a class in all cases; return how many, in words."""
        if self.project is None:
            return ()
        hints = self.project.hints
        kinds = (
            ("box", "boxes", hints.boxes, hints.remove_box),
            ("point", "points", hints.points, hints.remove_point),
            ("image-level label", "image-level labels", hints.image_labels, hints.remove_image_label),
        )
        words = []
        for one, many, find, remove in kinds:
            found = [r for case in self.project.cases() for r in find(case.number) if r.value == value]
            for record in found:
                remove(record.case, record.number)
            if found:
                words.append(f"1 {one}" if len(found) == 1 else f"{len(found)} {many}")
        return tuple(words)

    def hints(self) -> tuple[ProjectHints, int]:
        """Return boxes, points and image-level labels of the project, and the number of the case in work.

        Raises
        ------
        InputError
            If there is no case yet.
        """
        if self.project is None or self._case is None:
            raise InputError("No image is open; choose one in the Annotate panel.")
        return self.project.hints, self._case

    @property
    def state_folder(self) -> str:
        """Where the worker keeps what it has learnt of the case in work; empty when there is none."""
        if self.project is None or self._case is None:
            return ""
        return str(self.project.checkpoint_folder(self._case))

    def strokes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return flat indices and painted values ``(N,)`` of what the user has labelled in the case."""
        labels, apart = self.labels, self.apart()
        if labels is None or apart is None:
            return np.zeros(0, np.int64), np.zeros(0, np.uint8)
        voxels = np.flatnonzero((labels > 0) & ~apart)
        return voxels, labels.reshape(-1)[voxels]

    @property
    def encoder_folder(self) -> Path | None:
        """Where the project keeps its encoders; None when there is no project."""
        return None if self.project is None else self.project.folder / ENCODERS

    def list_encoders(self, session: Session, *, chosen: str = "") -> None:
        """Tell the session which encoders the project has, and mark `chosen` if it is there."""
        encoders, folder = session.encoders, self.encoder_folder
        encoders.known = () if folder is None else list_encoders(folder)
        encoders.probes = () if folder is None else last_probes(folder)
        there = [str(each.folder) for each in encoders.known]
        if encoders.used not in there:
            encoders.used = ""
        wanted = (chosen, encoders.chosen, encoders.used, *there[-1:])
        encoders.chosen = next((folder for folder in wanted if folder in there), "")

    def records(self) -> tuple[CaseRecord, ...]:
        """Return the cases of the project."""
        return () if self.project is None else self.project.cases()

    def describe(self, session: Session) -> None:
        """Tell the session what is saved, and the classes and counts that the project has."""
        session.project = "" if self.project is None else self.project.name
        session.changes = 0 if self.project is None else self.project.label_count()
        if self.project is not None:
            session.table = self.project.table
        counts = {} if self.project is None or self._case is None else self.project.voxel_counts(self._case)
        session.voxels = dict(counts)

    def save_table(self, table: ClassTable) -> None:
        """Keep the class table."""
        if self.project is not None:
            self.project.set_table(table)

    def free_value(self, table: ClassTable) -> int:
        """Return a painted value for a new class."""
        if self.project is not None:
            return self.project.free_value()
        return next(value for value in range(2, 256) if value not in table.mask_values)

    def save_settings(self, session: Session) -> None:
        """Keep the settings, the encoder that training starts from, and whether learning is on."""
        if self.project is not None:
            for key in _CONFIGS:
                self.project.save_setting(key, getattr(session, key).to_json())
            self.project.save_setting("running", session.running)
            self.project.save_setting("encoder", Path(session.encoders.used).name)
            self.project.save_setting("batch_choice", session.batching.choice())

    def restore_settings(self, session: Session) -> None:
        """Bring back what `save_settings` kept."""
        if self.project is None:
            return
        for key, config in _CONFIGS.items():
            kept = self.project.setting(key)
            if kept is not None:
                try:
                    setattr(session, key, config.from_json(kept))  # type: ignore[attr-defined]
                except InputError:
                    continue  # of another version: the default will do
        session.running = self.project.setting("running", False) is True
        session.batching.take_choice(self.project.setting("batch_choice"))
        used = self.project.setting("encoder")
        known = isinstance(used, str) and used
        session.encoders = EncoderList(used=str(self.project.folder / ENCODERS / used) if known else "")
        self.list_encoders(session)

    def save_view(self, view: dict[str, Any]) -> None:
        """Keep how the case in work is looked at."""
        if self.project is not None and self._case is not None:
            self.project.save_view(self._case, view)

    def view(self) -> dict[str, Any]:
        """Return what `save_view` kept."""
        return {} if self.project is None or self._case is None else self.project.view(self._case)

    def add_round(self, figures: dict[str, Any]) -> int:
        """Keep the figures of a round of training; return its number, 0 when there is no project."""
        if self.project is None or self._case is None:
            return 0
        return self.project.add_round(self._case, figures)

    def update_round(self, number: int, figures: dict[str, Any]) -> None:
        """Add figures to a round."""
        if self.project is not None and number:
            self.project.update_round(number, figures)

    def _take(self, number: int) -> None:
        assert self.project is not None
        self._case = number
        self.recorder = LabelRecorder(self.project, number)
