"""The Predict panel: how the prediction is shown, where to label next, and what is saved."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.widgets.class_list import ClassList
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.panel_parts import allow, make_heading, make_text
from napari_sparseseg.widgets.percent_slider import make_percent_slider
from napari_sparseseg.widgets.save_dialog import FORMATS, Formats, SaveDialog
from napari_sparseseg.widgets.settings_form import DEVICE_WORDS, SettingsForm
from napari_sparseseg.widgets.snapshots import PredictState
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_PLAIN = ("largest_component", "fill_holes")
_FOLDED = ("overlap", "device")


class PredictPanel(QWidget):
    """Shows `PredictState`, and asks for what can be done with a prediction."""

    opacity_requested = Signal(float)
    """0 to 1."""
    class_visible_requested = Signal(int, bool)
    """Painted value, and whether to show it."""
    uncertainty_requested = Signal(bool)
    most_uncertain_requested = Signal()
    suggest_requested = Signal()
    inference_requested = Signal(object)
    """`InferenceConfig`."""
    save_mask_requested = Signal(str)
    """File to write."""
    save_uncertainty_requested = Signal(str)
    """File to write."""
    export_model_requested = Signal(str)
    """Folder to make."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = PredictState()
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._apply(self._state)

    def show_state(self, state: PredictState) -> None:
        """Show another state."""
        before, self._state = self._state, state
        if state != before:
            self._apply(state)

    def _make_widgets(self) -> None:
        self.why = make_text()
        self.opacity = make_percent_slider()
        self.opacity.setAccessibleName("Opacity of the prediction in percent")
        WheelGuard(self).protect(self.opacity)
        self.classes = ClassList()
        self.uncertainty = QCheckBox("Show where it is unsure")
        self.most_uncertain = QPushButton("Most uncertain slice")
        self.suggest = QPushButton("Suggest next slice")
        self.suggestion = make_text()
        self.suggestion.setTextFormat(Qt.TextFormat.PlainText)
        self.suggestion.setAccessibleName("Suggestion")
        inference, words = self._state.inference, {"device": DEVICE_WORDS}
        self.plain_form = SettingsForm(inference, hidden=_FOLDED)
        self.folded_form = SettingsForm(inference, hidden=_PLAIN, words=words)
        self.fold = Fold("Overlap and device", "How the prediction is computed; the defaults suit most")
        self.fold.add_widget(self.folded_form)
        self.save_mask = QPushButton("Save mask…")
        self.save_uncertainty = QPushButton("Save uncertainty…")
        self.export_model = QPushButton("Export model…")
        for widget in (
            self.uncertainty, self.most_uncertain, self.suggest, self.save_mask, self.save_uncertainty,
            self.export_model,
        ):  # fmt: skip
            widget.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture

    def _lay_out(self) -> None:
        opacity = QHBoxLayout()
        label = QLabel("Opacity %")
        label.setBuddy(self.opacity)
        opacity.addWidget(label)
        opacity.addWidget(self.opacity, 1)
        look = QHBoxLayout()
        look.addWidget(self.most_uncertain, 1)
        look.addWidget(self.suggest, 1)
        files = QGridLayout()
        files.addWidget(self.save_mask, 0, 0, 1, 2)
        files.addWidget(self.save_uncertainty, 1, 0)
        files.addWidget(self.export_model, 1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(self.why)
        layout.addWidget(make_heading("What is shown"))
        layout.addLayout(opacity)
        layout.addWidget(self.classes)
        layout.addWidget(self.uncertainty)
        layout.addWidget(make_heading("Where to label next"))
        layout.addLayout(look)
        layout.addWidget(self.suggestion)
        layout.addWidget(make_heading("Clean up"))
        layout.addWidget(self.plain_form)
        layout.addWidget(self.fold)
        layout.addWidget(make_heading("Save"))
        layout.addLayout(files)
        layout.addStretch()

    def _connect(self) -> None:
        self.opacity.valueChanged.connect(lambda percent: self.opacity_requested.emit(percent / 100))
        self.classes.class_visible_requested.connect(self.class_visible_requested)
        self.uncertainty.toggled.connect(self.uncertainty_requested)
        self.most_uncertain.clicked.connect(self.most_uncertain_requested)
        self.suggest.clicked.connect(self.suggest_requested)
        for form in (self.plain_form, self.folded_form):
            form.changed.connect(self._inference_edited)
        ask = self._ask_where
        self.save_mask.clicked.connect(
            lambda: ask("Save the mask", "mask", self.save_mask_requested.emit, FORMATS)
        )
        self.save_uncertainty.clicked.connect(
            lambda: ask("Save the uncertainty", "uncertainty", self.save_uncertainty_requested.emit, FORMATS)
        )
        self.export_model.clicked.connect(
            lambda: ask("Export the model", "model", self.export_model_requested.emit, {})
        )

    def _apply(self, state: PredictState) -> None:
        why = state.why_no_prediction
        self.why.setText(why)
        self.why.setVisible(bool(why))
        percent = round(state.opacity * 100)
        if not self.opacity.isSliderDown() and percent != self.opacity.value():
            with QSignalBlocker(self.opacity):
                self.opacity.setValue(percent)
        with QSignalBlocker(self.uncertainty):
            self.uncertainty.setChecked(state.uncertainty_visible)
        self.classes.show_classes(state.table, state.hidden, state.volumes_ml, why)
        self.suggestion.setText(state.suggestion[:1].upper() + state.suggestion[1:])
        self.suggestion.setVisible(bool(state.suggestion))
        for form in (self.plain_form, self.folded_form):
            form.show_config(state.inference)
        for widget, reason, explanation in (
            (self.opacity, why, "How strongly the prediction covers the image"),
            (self.uncertainty, why, "A layer that is bright where the model is unsure: look there first"),
            (
                self.most_uncertain,
                why,
                "Go to the slice of this orientation where the model is least sure (U)",
            ),
            (self.suggest, why, "Go to the slice, in any orientation, that is best labelled next (N)"),
            (self.save_mask, why, "Write prediction and labels as one mask, on the grid of the image"),
            (self.save_uncertainty, why, "Write how unsure the model is, 0 to 1, on the grid of the image"),
            (self.export_model, state.why_no_model, "Write the network, to segment other volumes with it"),
        ):
            allow(widget, reason, explanation)

    def _inference_edited(self, inference: InferenceConfig) -> None:
        for form in (self.plain_form, self.folded_form):
            form.show_config(inference)
        self.inference_requested.emit(inference)

    def _ask_where(self, title: str, name: str, saved: Callable[[str], None], formats: Formats) -> None:
        folder = Path(self._state.folder) if self._state.folder else Path.home()
        SaveDialog(title, folder / name, saved, formats, self).open()
