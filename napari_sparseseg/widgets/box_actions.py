"""What the Boxes panel asks for of masks: made by the worker, looked at round by round, kept as labels."""

from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.box_geometry import Box, surrounding_region, with_margin
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import BoxesLabelled, BoxRoundMade, Noted
from napari_sparseseg.project import BoxRecord
from napari_sparseseg.requests import LabelBoxes
from napari_sparseseg.settings import BoxConfig, CrfConfig, RecursionConfig
from napari_sparseseg.widgets.box_states import mean_dice, name_round
from napari_sparseseg.widgets.job_actions import JobActions
from napari_sparseseg.widgets.layers import is_own
from napari_sparseseg.widgets.pretrain_states import find_encoder
from napari_sparseseg.widgets.work import BoxWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_TRUTH_MARGIN = 16  # voxels round all boxes in which a comparison counts background too
_KEPT_MARGIN = (6, 6, 6)  # voxels of background round a box that are kept as labels, all of them,
_FAR_MARGIN = (28, 28, 28)  # and here every fourth along each axis: what the network looks at is background
_STROKES = "strokes"
_JARGON = " (box_inner)"  # how the settings of the command call it

Labelled = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Flat indices and painted values ``(N,)``."""


class BoxActions(JobActions):
    """Carries out what the user asks for of masks from boxes."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self._truth_layer: Labels | None = None
        for emitter in self._emitters():
            emitter.connect(self.follow_layers)

    @property
    def job(self) -> BoxWork:
        """The boxes, and what was made of them."""
        return self.place.session.boxes

    def close(self) -> None:
        """Listen to the viewer no longer."""
        for emitter in self._emitters():
            emitter.disconnect(self.follow_layers)

    @tells
    def change_settings(self, boxes: BoxConfig, recursion: RecursionConfig, crf: CrfConfig) -> None:
        """Make masks otherwise from the next time on."""
        session = self.place.session
        session.box_config, session.recursion, session.crf = boxes, recursion, crf
        self.place.desk.save_settings(session)

    @tells
    def compare_with(self, truth: str) -> None:
        """Compare rounds with strokes held out, or with a Labels layer, from the next time on."""
        self._truth_layer = next((layer for layer in self._find_truths() if layer.name == truth), None)
        self.job.truth = _STROKES if self._truth_layer is None else truth

    def follow_layers(self, _: object = None) -> None:
        """Take in which Labels layers rounds can be compared with, and whether a round is shown still."""
        case, work, viewer = self.place.case, self.job, self.place.viewer
        if case is None:
            return
        truths = self._find_truths()
        self.place.session.truths = tuple(str(layer.name) for layer in truths)
        if work.truth == _STROKES or self._truth_layer not in truths:
            self._truth_layer = None
        work.truth = _STROKES if self._truth_layer is None else str(self._truth_layer.name)
        if case.layers.round is None or case.layers.round not in viewer.layers:
            work.shown = None
        self.place.touch()

    def _emitters(self) -> tuple[Any, ...]:
        events = self.place.viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def _find_truths(self) -> list[Labels]:
        """Return the Labels layers of the image's shape, but those made here."""
        case = self.place.case
        if case is None:
            return []
        shape = case.source.shape[-case.source.placement.ndim :]
        return [
            layer
            for layer in self.place.viewer.layers
            if isinstance(layer, Labels)
            and not is_own(layer)
            and layer.name != _STROKES
            and tuple(_values_of(layer).shape) == shape
        ]

    # -- the worker makes masks --

    @tells
    def run(self) -> None:
        """Let the worker make masks; learning from strokes rests meanwhile."""
        place, work = self.place, self.job
        if work.running:
            return  # a second click came before the panel showed the first
        if not work.records:
            raise InputError("Draw a box first.")
        request = self._request()
        self.begin(request, "boxes", "Looking into the boxes…")
        place.require_case().layers.show_round(None)
        work.rounds, work.shown, work.kept = [], None, None
        work.method = place.session.box_config.method
        work.asked, work.values = work.records, tuple(place.session.table.mask_values)

    @tells
    def cancel(self) -> None:
        """Stop making masks; what was made stays."""
        self.end("Stopped.")

    def take_event(self, event: object) -> bool:
        """Take in what the worker says of its work on boxes; return False for what is not of it."""
        if isinstance(event, Noted):
            event = Noted(event.text.replace(_JARGON, ""))
        if super().take_event(event):
            return True
        if not self.job.running or not isinstance(event, BoxRoundMade | BoxesLabelled):
            return False
        if isinstance(event, BoxRoundMade):
            self.job.rounds.append(event)
            self.show_round(event.number)
        else:
            self.end(self._outcome())
        return True

    def _outcome(self) -> str:
        """Show the best round where that is known, and return what came of the work, in words."""
        rounds = self.job.rounds
        best = max(rounds, key=lambda made: mean_dice(made) or 0.0)
        if mean_dice(best) is None:
            return (
                "Done. Look at the rounds, and keep the one that fits best." if len(rounds) > 1 else "Done."
            )
        self.show_round(best.number)
        if len(rounds) == 1:
            return f"Done: agreement {mean_dice(best):.2f}."
        name = name_round(best, self.job.method)
        return f"Done. Best agreement: {name}. It is shown."

    # -- rounds --

    @tells
    def show_round(self, number: int) -> None:
        """Show the labels of a round."""
        made = self._round(number)
        layers = self.place.require_case().layers
        layers.show_round(self._labels_of(made), name_round(made, self.job.method))
        self.job.shown = number

    @tells
    def keep(self, number: int) -> None:
        """Keep a round's labels to learn from, with a low weight; strokes always win."""
        place, made = self.place, self._round(number)
        shape = place.require_case().source.shape
        labels, near, far = self._labels_of(made), np.zeros(shape, bool), np.zeros(shape, bool)
        for record in self.job.asked:
            box = Box(record.start, record.stop, record.value)
            near[with_margin(box, _KEPT_MARGIN, shape)] = far[with_margin(box, _FAR_MARGIN, shape)] = True
        labels[~near] = 0
        sparse = (slice(None, None, 4),) * 3
        labels[sparse][far[sparse] & ~near[sparse]] = BACKGROUND
        if place.replace_labels(labels, "box"):
            self.job.kept = number
        elif self.job.kept != number:
            raise InputError("Nothing was kept: this round adds nothing to the labels that are there.")
        place.require_case().layers.show_round(None)
        self.job.shown = None

    @tells
    def clear_kept(self) -> None:
        """Take all labels from boxes out again."""
        self.place.clear_labels("box")
        self.job.kept = None

    def _labels_of(self, made: BoxRoundMade) -> NDArray[np.uint8]:
        """Return the painted values ``(Z, Y, X)`` of a round; 0 where it is unsure or has not looked.

        The classes are those of the moment when it was asked for; what was deleted since is 0.
        """
        there = self.place.session.table.mask_values
        values = [value if value in there else 0 for value in self.job.values[1:]]
        painted = np.array([0, BACKGROUND, *values], np.uint8)
        labels = np.zeros(self.place.require_case().source.shape, np.uint8)
        z, y, x = (slice(first, last) for first, last in made.region)
        labels[z, y, x] = painted[made.labels]
        return labels

    def _round(self, number: int) -> BoxRoundMade:
        made = next((each for each in self.job.rounds if each.number == number), None)
        if made is None:
            raise InputError("This round is no longer there; make the masks again.")
        return made

    # -- what the worker is told --

    def _request(self) -> LabelBoxes:
        session = self.place.session
        opened = self.place.require_case().request(session.table, "")
        boxes = tuple(self._box(record) for record in self.job.records)
        return LabelBoxes(
            opened.image, opened.spacing, session.table, opened.name, boxes, *self.place.desk.strokes(),
            *self._truth(boxes), session.box_config, session.recursion, session.crf, session.network,
            find_encoder(session),
        )  # fmt: skip

    def _box(self, record: BoxRecord) -> Box:
        values = self.place.session.table.mask_values
        if record.value not in values:
            raise InputError("The class of a box is no longer in the table; choose the box, and its class.")
        return Box(record.start, record.stop, values.index(record.value) + 1)

    def _truth(self, boxes: tuple[Box, ...]) -> Labelled:
        """Return the Labels layer to compare with; its 0 is background."""
        name, layer = self.job.truth, self._truth_layer
        if name == _STROKES:
            return _nothing()
        if layer not in self._find_truths():
            raise InputError(f"There is no layer {name} of the image's size; compare with another.")
        shape = self.place.require_case().source.shape
        values = np.asarray(_values_of(layer)).reshape(shape)
        truth = np.where(np.isin(values, self.place.session.table.mask_values[1:]), values, BACKGROUND)
        known = truth > BACKGROUND
        if not known.any():  # a mask is often 0 and 1, whatever the class is called here
            drawn = {record.value for record in self.job.records}
            if len(drawn) > 1 or len(np.unique(values[values != 0])) != 1:
                raise InputError(
                    f"The layer {name} holds none of the classes of the table; compare with another, "
                    f"or give its objects the values {', '.join(map(str, sorted(drawn)))}."
                )
            known = values != 0
            truth[known] = drawn.pop()
        known[surrounding_region(boxes, _TRUTH_MARGIN, shape)] = True
        voxels = np.flatnonzero(known)
        return voxels, truth.reshape(-1)[voxels].astype(np.uint8)


def _values_of(layer: Labels) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _nothing() -> Labelled:
    return np.zeros(0, np.int64), np.zeros(0, np.uint8)
