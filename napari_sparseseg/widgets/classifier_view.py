"""The part of the Class maps panel about the classifier: learning, how good it is, and its settings."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sparseseg.settings import ClassifierConfig
from napari_sparseseg.widgets.box_line import ElidedLabel
from napari_sparseseg.widgets.box_list import ShortScroll
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.panel_parts import RunButton, allow, make_heading, make_row, make_text
from napari_sparseseg.widgets.settings_form import DEVICE_WORDS, SettingsForm
from napari_sparseseg.widgets.snapshots import ClassMapsState, ScoreRow
from napari_sparseseg.widgets.work_view import WorkView

_WHAT_FOR = "A network learns from this what is in a slice; no strokes are needed."
_LEARN = "Let the classifier learn; this takes about a minute"
_STOP = "Stop; what it has learnt in this run is given up"
_WITHIN = "Measured on slices of the same volume, so it looks better than it is."
_OUTSIDE_WORDS = {"absent": "class absent", "unknown": "unknown"}
_NAME_WIDTH = 60
_MOST_HEIGHT = 130


class ClassifierView(QWidget):
    """Shows the classifier of a `ClassMapsState`, and asks to let it learn."""

    train_requested = Signal()
    cancel_requested = Signal()
    config_requested = Signal(object)
    """`ClassifierConfig`."""

    def __init__(self) -> None:
        super().__init__()
        self._running = ""
        self.run = RunButton("Let the classifier learn, or stop it")
        self.run.clicked.connect(self._ask_to_run)
        self.work = WorkView(steady=False)
        self.scores = ScoreList()
        self.within_volume = make_text(f"⚠ {_WITHIN}")
        self.form = SettingsForm(
            ClassifierConfig(), words={"device": DEVICE_WORDS, "outside": _OUTSIDE_WORDS}
        )
        self.form.changed.connect(self.config_requested)
        self.fold = Fold("Classifier settings", "How the classifier learns; the defaults suit most")
        self.fold.add_widget(self.form)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (
            make_heading("Classifier"), make_text(_WHAT_FOR), self.run, self.work, self.scores,
            self.within_volume, self.fold,
        ):  # fmt: skip
            layout.addWidget(part)

    @property
    def config(self) -> ClassifierConfig:
        """The settings shown."""
        config = self.form.config
        assert isinstance(config, ClassifierConfig)
        return config

    def show_state(self, state: ClassMapsState, sentence: str, notes: tuple[str, ...]) -> None:
        """Show the classifier of another state; nothing is asked for by it.

        Parameters
        ----------
        state
            The state.
        sentence, notes
            Those of the state if they are about the classifier, else empty.
        """
        self._running = state.running
        learning = state.running == "classifier"
        self.run.setChecked(learning)
        self.run.setText("Stop" if learning else "Learn from these labels")
        allow(self.run, "" if learning else state.why_no_train, _STOP if learning else _LEARN)
        sentence = sentence or ("" if state.running else state.why_no_train)
        self.work.show_work(learning, state.progress if learning else None, sentence, notes)
        self.work.setVisible(bool(learning or sentence or notes))
        self.scores.show_scores(state.scores)
        self.within_volume.setVisible(state.within_volume and bool(state.scores))
        self.form.show_config(state.classifier)

    def _ask_to_run(self) -> None:
        (self.cancel_requested if self._running == "classifier" else self.train_requested).emit()


class ScoreList(ShortScroll):
    """How often the classifier is right, one row per class; hidden while that is not known."""

    def __init__(self) -> None:
        super().__init__(_MOST_HEIGHT)
        self._scores: tuple[ScoreRow, ...] = ()
        self.setAccessibleName("How good the classifier is")
        self.hide()

    @property
    def lines(self) -> tuple["_ScoreLine", ...]:
        """The rows, from top to bottom."""
        return tuple(self.column.itemAt(place).widget() for place in range(self.column.count()))

    def show_scores(self, scores: tuple[ScoreRow, ...]) -> None:
        """Show other figures."""
        if scores == self._scores:
            return
        self._scores = scores
        for line in self.lines[len(scores) :]:
            self.remove(line)
        for _ in range(len(self.lines), len(scores)):
            self.column.addWidget(_ScoreLine())
        for line, row in zip(self.lines, scores, strict=True):
            line.show_score(row)
        self.setVisible(bool(scores))


class _ScoreLine(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.name = ElidedLabel(_NAME_WIDTH)
        self.figure = QLabel()
        self.figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row: Any = make_row(self.name, self.figure)
        row.setStretch(0, 1)
        row.setContentsMargins(0, 0, 4, 0)
        self.setLayout(row)

    def show_score(self, row: ScoreRow) -> None:
        self.name.show_text(row.name)
        known = row.accuracy is not None
        figure = f"{row.accuracy:.0%}".replace("%", " % right") if known else "not measured"
        self.figure.setText(figure)
        auc = "" if row.auc is None else f"  AUC {row.auc:.2f}."
        self.setToolTip(
            f"{row.name}: {figure}, with and without the class counting the same (balanced accuracy); "
            f"50 % is guessing.{auc}"
            if known
            else f"{row.name}: parts with it and without it were needed to measure it.{auc}"
        )
        self.setAccessibleName(f"{row.name}: {figure}")
