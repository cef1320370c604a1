"""The part of the Pre-train panel about what was learnt: which encoder is used, and how they compare."""

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.widgets.encoder_list import EncoderList
from napari_sparseseg.widgets.inline_question import InlineQuestion
from napari_sparseseg.widgets.panel_parts import (
    RunButton,
    allow,
    make_heading,
    make_row,
    make_text,
)
from napari_sparseseg.widgets.pretrain_snapshots import PretrainState
from napari_sparseseg.widgets.pretrain_words import describe_encoder
from napari_sparseseg.widgets.probe_plot import ProbePlot
from napari_sparseseg.widgets.work_view import WorkView

_NONE_YET = (
    "What the network learns without labels is kept here as an encoder: the part that looks at images."
)
_USE = "Let training, masks from boxes and class maps start from the chosen encoder"
_STOP_USING = "Let training start from random weights again"
_NONE_CHOSEN = "Choose an encoder in the list first."
_IN_USE = "It is chosen for training already."
_NOT_USED = "No encoder is chosen for training."
_DELETE = "Delete the chosen encoder from the project"
_PROBE = (
    "Let a simple (linear) classifier tell your labels from what each encoder sees, the encoder staying as "
    "it is; this takes some seconds for each"
)
_STOP = "Stop comparing; the bars shown before stay"
_HONEST = (
    "Bars: Dice of a simple classifier on frozen features, measured on your own labels that it was not "
    "fitted to; small differences mean little."
)


class EncodersView(QWidget):
    """Shows the encoders of a `PretrainState`, and asks to use, to compare and to delete them."""

    encoder_chosen = Signal(str)
    """Folder of an encoder."""
    use_requested = Signal(str)
    """Folder of an encoder; empty for random weights."""
    delete_requested = Signal(str)
    """Folder of an encoder."""
    probe_requested = Signal()
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._state = PretrainState()
        self._doomed = ""
        self.list = EncoderList()
        self.list.chosen.connect(self.encoder_chosen)
        self.start = make_text()
        self.use, self.stop_using = QPushButton("Use for training"), QPushButton("Stop using")
        self.delete = QPushButton("Delete…")
        for button, answer in (
            (self.use, lambda: self.use_requested.emit(self._state.chosen)),
            (self.stop_using, lambda: self.use_requested.emit("")),
            (self.delete, self._ask_whether_to_delete),
        ):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
            button.clicked.connect(answer)
        self.question = InlineQuestion("", "Delete", "Keep it")
        self.question.accepted.connect(lambda: self.delete_requested.emit(self._doomed))
        self.run = RunButton("Compare encoders, or stop comparing")
        self.run.clicked.connect(self._ask_to_run)
        self.work = WorkView(steady=False)
        self.plot = ProbePlot()
        self.honest = make_text(_HONEST)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (make_heading("Encoders"), self.list, self.start):
            layout.addWidget(part)
        layout.addLayout(make_row(self.use, self.stop_using, self.delete))
        for part in (self.question, self.run, self.work, self.plot, self.honest):
            layout.addWidget(part)

    def show_state(self, state: PretrainState, sentence: str, notes: tuple[str, ...]) -> None:
        """Show the encoders of another state; nothing is asked for by it.

        Parameters
        ----------
        state
            The state.
        sentence, notes
            Those of the state if they are about the comparison, else empty.
        """
        self._state = state
        self.list.show_encoders(state.encoders, state.chosen, state.used)
        self.start.setText(self._describe_start(state))
        not_chosen = "" if state.chosen else _NONE_CHOSEN
        in_use = _IN_USE if state.chosen == state.used else ""
        allow(self.use, state.why_no_use or not_chosen or in_use, _USE)
        allow(self.stop_using, "" if state.used else _NOT_USED, _STOP_USING)
        allow(self.delete, state.why_no_delete or not_chosen, _DELETE)
        if state.why_no_delete or state.chosen != self._doomed:
            self.question.withdraw()
        probing = state.running == "probe"
        self.run.setChecked(probing)
        self.run.setText("Stop" if probing else "Compare (linear probe)")
        allow(self.run, "" if probing else state.why_no_probe, _STOP if probing else _PROBE)
        self.work.show_work(probing, state.progress if probing else None, sentence, notes)
        self.work.setVisible(bool(probing or sentence or notes))
        self.plot.show_probes(state.probes, len(state.encoders) + 1 if probing else 0)
        self.honest.setVisible(bool(probing or state.probes))

    def _describe_start(self, state: PretrainState) -> str:
        if not state.encoders and not state.used:
            return _NONE_YET
        return f"Chosen for training: {_find_name(state, state.used) or 'random weights'}."

    def _ask_whether_to_delete(self) -> None:
        self._doomed = self._state.chosen
        name = _find_name(self._state, self._doomed)
        self.question.set_text(f"Delete “{name}”? What it has learnt is lost for good.")
        self.question.ask()

    def _ask_to_run(self) -> None:
        (self.cancel_requested if self._state.running == "probe" else self.probe_requested).emit()


def _find_name(state: PretrainState, folder: str) -> str:
    """Return how to call an encoder; empty for none."""
    names = {row.folder: describe_encoder(row.name) for row in state.encoders}
    return names.get(folder) or describe_encoder(Path(folder).name)
