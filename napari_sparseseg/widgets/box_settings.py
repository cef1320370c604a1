"""How boxes become masks: the method, in plain words, and the settings behind folds."""

from dataclasses import replace
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg.settings import BoxConfig, CrfConfig, RecursionConfig
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.panel_parts import ChoiceBox, make_text
from napari_sparseseg.widgets.settings_form import SettingsForm
from napari_sparseseg.widgets.wheel_guard import WheelGuard

METHOD_WORDS = {
    "grabcut_plus": (
        "GrabCut with edges (recommended)",
        "Finds the object by its brightness, and lays its border along edges of the image.",
    ),
    "grabcut_plus_i": (
        "GrabCut with edges, by vote",
        "Repeats GrabCut with boxes moved a little; where the results differ, nothing is labelled. Slower.",
    ),
    "consensus": (
        "Agreement of proposals and GrabCut",
        "Labels what both find to be the object; where they differ, nothing is labelled.",
    ),
    "grabcut": (
        "GrabCut",
        "Finds the object by how its brightness differs from what lies round the box.",
    ),
    "proposals": (
        "Best-fitting region",
        "Divides the image into regions at its edges, and takes the one that fits the box best.",
    ),
    "box_inner": (
        "Middle of the box only",
        "The middle is labelled as the object, the rest of the box is left unlabelled.",
    ),
    "box": ("The whole box", "Everything in the box is labelled as the object."),
}
"""By entry of `settings.BOX_METHODS`: how to call it, and what it does."""

DENOISE_WORDS = {
    "class": "Drop what is of another class",
    "outside": "Drop what lies outside the boxes",
    "reset": "Reset boxes where little was found",
    "crf": "Move borders to edges (CRF)",
    "ignore": "Do not learn where it is unsure",
}
"""By entry of `settings.DENOISING`: what its check box says."""


class BoxSettings(QWidget):
    """Shows the settings of a method, of learning in rounds and of borders, and asks for others."""

    settings_requested = Signal(object, object, object)
    """`BoxConfig`, `RecursionConfig` and `CrfConfig`."""

    def __init__(self, boxes: BoxConfig, recursion: RecursionConfig, crf: CrfConfig) -> None:
        super().__init__()
        self.method = ChoiceBox("Method that makes masks from boxes", "Choose a method…")
        for name, (title, _) in METHOD_WORDS.items():
            self.method.addItem(title, name)
        self.method.activated.connect(lambda _: self._method_chosen())
        WheelGuard(self).protect(self.method)
        self.explanation = make_text()
        self.box_form = SettingsForm(boxes, hidden=("method", "seed"))
        self.recursion_form = SettingsForm(recursion, words={"denoise": DENOISE_WORDS})
        self.crf_form = SettingsForm(crf)
        self.box_fold = Fold("Method settings", "Settings of the method; the defaults suit most")
        self.recursion_fold = Fold(
            "Learning in rounds",
            "Let a network learn from the masks and make better ones, several times; this takes minutes",
        )
        self.crf_fold = Fold(
            "Border refinement (CRF)", "How borders are moved to edges of the image; the defaults suit most"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.method)
        layout.addWidget(self.explanation)
        for fold, form in (
            (self.box_fold, self.box_form),
            (self.recursion_fold, self.recursion_form),
            (self.crf_fold, self.crf_form),
        ):
            fold.add_widget(form)
            form.changed.connect(lambda _: self._edited())
            layout.addWidget(fold)
        self._describe()

    def show_settings(self, boxes: BoxConfig, recursion: RecursionConfig, crf: CrfConfig) -> None:
        """Show other settings; nothing is asked for by it."""
        if (boxes, recursion, crf) == self._entered:
            return
        self.box_form.show_config(boxes)
        self.recursion_form.show_config(recursion)
        self.crf_form.show_config(crf)
        self._describe()

    @property
    def _entered(self) -> tuple[Any, Any, Any]:
        return self.box_form.config, self.recursion_form.config, self.crf_form.config

    def _method_chosen(self) -> None:
        boxes, _, _ = self._entered
        method = self.method.currentData()
        if method != boxes.method:
            self.box_form.show_config(replace(boxes, method=method))
            self._edited()

    def _edited(self) -> None:
        self._describe()
        self.settings_requested.emit(*self._entered)

    def _describe(self) -> None:
        boxes, recursion, _ = self._entered
        method, rounds = boxes.method, recursion.rounds
        self.method.setCurrentIndex(self.method.findData(method))
        self.method.setToolTip(f"How the object is found in its box (on the command line: {method})")
        self.explanation.setText(METHOD_WORDS[method][1])
        self.recursion_fold.set_note("1 round" if rounds == 1 else f"{rounds} rounds" if rounds else "off")
