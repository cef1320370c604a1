"""The part of the Class maps panel that asks a network where it looked."""

from dataclasses import fields, replace

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_sparseseg.settings import CamConfig, CrfConfig
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.named_choice import NamedChoice
from napari_sparseseg.widgets.panel_parts import (
    RunButton,
    allow,
    make_button,
    make_heading,
    make_row,
    make_text,
)
from napari_sparseseg.widgets.settings_form import SettingsForm
from napari_sparseseg.widgets.snapshots import ClassMapsState
from napari_sparseseg.widgets.wheel_guard import WheelGuard
from napari_sparseseg.widgets.work_view import WorkView

SUBJECT_WORDS = {"classifier": "the classifier", "network": "the segmentation network"}
"""By entry of `ClassMapsState.subjects`: how to call it."""

CAM_WORDS = {
    "cam": (
        "Class activation map (CAM)",
        "Adds up what the last layer found, as the classifier itself does. For the classifier only.",
    ),
    "grad_cam": (
        "Grad-CAM",
        "Like a class activation map, but for any network: each thing found counts as much as the answer "
        "depends on it.",
    ),
    "grad_cam_pp": (
        "Grad-CAM++",
        "Grad-CAM that finds several objects, and all of a large one, more evenly.",
    ),
    "saliency": ("Saliency", "Voxels whose brightness changes the answer most: fine, but noisy."),
    "smooth_saliency": ("Saliency, smoothed", "The mean saliency of several noisy copies of the image."),
    "occlusion": (
        "Occlusion",
        "Covers one part of the image after the other and watches the answer: plain, but slow.",
    ),
}
"""By entry of `settings.CAM_METHODS`: how to call it, and what it does."""

_CAUTION = "A class map shows where the network looked. It is not a mask."
_SHOW = "Make a layer that is bright where the network looked for the class chosen above"
_STOP = "Stop; the map shown before stays"
_HERE = (
    "Ask the segmentation network what makes it see the class chosen above in one voxel: the one that you "
    "click next. The key W asks about the one under the mouse"
)
_GIVE_UP = "Ask about no place (Escape)"
_CHECK = (
    "Compare the map with those of networks that have learnt nothing: if they look alike, the map tells "
    "nothing"
)
_ONLY_FOR = {
    "level": ("grad_cam", "grad_cam_pp"),
    "smooth_runs": ("smooth_saliency",),
    "smooth_noise": ("smooth_saliency",),
    "occlusion_share": ("occlusion",),
}
_RUNNING = ("map", "check")
_VERDICTS = {
    True: ("✓ ", "background: rgba(46, 160, 67, 70);"),
    False: ("⚠ ", "background: rgba(219, 109, 40, 90);"),
    None: ("", ""),
}


class MapView(QWidget):
    """Shows how a map of a `ClassMapsState` is made and what came of it, and asks for one."""

    subject_requested = Signal(str)
    """Entry of `ClassMapsState.subjects`."""
    config_requested = Signal(object, object)
    """`CamConfig` and `CrfConfig`."""
    map_requested = Signal()
    map_here_requested = Signal()
    check_requested = Signal()
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._running, self._asking = "", False
        self._make_choices()
        self._make_forms()
        self.run = RunButton("Show where the network looks, or stop")
        self.run.clicked.connect(self._ask_to_run)
        self.here = make_button("Why here?", self.map_here_requested)
        self.here.setCheckable(True)
        self.here.clicked.connect(lambda: self.here.setChecked(self._asking))  # it shows what came of it
        self._escape = QShortcut(QKeySequence(Qt.Key.Key_Escape), self)
        self._escape.setContext(Qt.ShortcutContext.ApplicationShortcut)
        self._escape.activated.connect(self.map_here_requested)
        self.check = make_button("Is it learnt?", self.check_requested)
        self.work = WorkView(steady=False)
        self.shown = make_text()
        self.verdict = make_text()
        for text in (self.shown, self.verdict):
            text.setTextFormat(Qt.TextFormat.PlainText)
        self.verdict.setAccessibleName("Whether the map depends on what was learnt")
        self.caution = make_text(_CAUTION)
        self.caution.setStyleSheet("font-style: italic;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(make_heading("Class map"))
        layout.addWidget(self.caution)
        asked = QGridLayout()
        asked.setColumnStretch(1, 1)
        for row, (text, box) in enumerate((("Ask", self.subject), ("Method", self.method))):
            label = QLabel(text)
            label.setBuddy(box)
            asked.addWidget(label, row, 0)
            asked.addWidget(box, row, 1)
        layout.addLayout(asked)
        for part in (self.explanation, self.fold, self.crf_fold, self.run):
            layout.addWidget(part)
        layout.addLayout(make_row(self.here, self.check))
        for part in (self.work, self.shown, self.verdict):
            layout.addWidget(part)

    @property
    def config(self) -> tuple[CamConfig, CrfConfig]:
        """The settings shown."""
        cam, crf = self.form.config, self.crf_form.config
        assert isinstance(cam, CamConfig)
        assert isinstance(crf, CrfConfig)
        return cam, crf

    def show_state(self, state: ClassMapsState, sentence: str, notes: tuple[str, ...]) -> None:
        """Show another state; nothing is asked for by it.

        Parameters
        ----------
        state
            The state.
        sentence, notes
            Those of the state if they are about a map, else empty.
        """
        self._running = state.running
        self.subject.show_names({name: SUBJECT_WORDS[name] for name in state.subjects}, state.subject)
        allow(self.subject, "" if state.subjects else state.why_no_map, "Which network is asked")
        self.form.show_config(state.cam)
        self.crf_form.show_config(state.crf)
        self._describe()
        self._show_work(state, sentence, notes)
        self._asking = state.asking
        self.here.setChecked(state.asking)
        self._escape.setEnabled(state.asking)
        allow(self.here, "" if state.asking else state.why_no_map_here, _GIVE_UP if state.asking else _HERE)
        allow(self.check, state.why_no_check, _CHECK)
        self._show_result(state)

    def _make_choices(self) -> None:
        self.subject = NamedChoice("Which network is asked", "No network has learnt yet")
        self.subject.name_requested.connect(self.subject_requested)
        self.method = NamedChoice("How the network is asked where it looked")
        self.method.name_requested.connect(self._choose_method)
        guard = WheelGuard(self)
        for box in (self.subject, self.method):
            guard.protect(box)
        self.explanation = make_text()

    def _make_forms(self) -> None:
        self.form = SettingsForm(CamConfig(), hidden=("method",))
        self.crf_form = SettingsForm(CrfConfig())
        for form in (self.form, self.crf_form):
            form.changed.connect(lambda _: self._edited())
        self.fold = Fold("Map settings", "How the map is made; the defaults suit most")
        self.fold.add_widget(self.form)
        self.crf_fold = Fold(
            "Edge settings (CRF)", "How the map is made to follow the image's edges; the defaults suit most"
        )
        self.crf_fold.add_widget(self.crf_form)

    def _show_work(self, state: ClassMapsState, sentence: str, notes: tuple[str, ...]) -> None:
        busy = state.running in _RUNNING
        self.run.setChecked(busy)
        self.run.setText("Stop" if busy else "Show where it looks")
        allow(self.run, "" if busy else state.why_no_map, _STOP if busy else _SHOW)
        sentence = sentence or ("" if state.running else state.why_no_map)
        self.work.show_work(busy, state.progress if busy else None, sentence, notes)
        self.work.setVisible(bool(busy or sentence or notes))

    def _show_result(self, state: ClassMapsState) -> None:
        names = {entry.value: entry.name for entry in state.table.classes}
        name = names.get(state.mapped, "") if state.mapped is not None else ""
        sure = "" if state.score is None else f" The network is {state.score:.0%} sure that it is there."
        self.shown.setText(f"Shown: {name}.{sure}".replace("%", " %"))
        self.shown.setVisible(bool(name))
        mark, style = _VERDICTS[state.check_passed]
        self.verdict.setText(f"{mark}{state.check}")
        self.verdict.setStyleSheet(f"QLabel {{ {style} padding: 4px; border-radius: 3px; }}" if style else "")
        self.verdict.setVisible(bool(state.check))

    def _describe(self) -> None:
        cam, _ = self.config
        self.method.show_names({name: title for name, (title, _) in CAM_WORDS.items()}, cam.method)
        self.method.setToolTip(f"{CAM_WORDS[cam.method][1]} (on the command line: {cam.method})")
        self.explanation.setText(CAM_WORDS[cam.method][1])
        for entry in fields(cam):
            methods = _ONLY_FOR.get(entry.name, CAM_WORDS)
            if entry.name != "method":
                titles = " and ".join(CAM_WORDS[name][0] for name in methods)
                why = "" if cam.method in methods else f"This is for {titles} only."
                allow(self.form.editor(entry.name), why, entry.metadata["help"])
        self.crf_fold.setVisible(cam.refine)

    def _choose_method(self, method: str) -> None:
        self.form.show_config(replace(self.config[0], method=method))
        self._edited()

    def _edited(self) -> None:
        self._describe()
        self.config_requested.emit(*self.config)

    def _ask_to_run(self) -> None:
        (self.cancel_requested if self._running in _RUNNING else self.map_requested).emit()
