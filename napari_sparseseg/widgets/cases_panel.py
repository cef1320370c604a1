"""The Cases panel: all volumes of a project, one network for them, and which one to label next."""

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg.widgets.cases_list_view import CasesListView
from napari_sparseseg.widgets.cases_network_view import CasesNetworkView
from napari_sparseseg.widgets.cohort_snapshots import CasesState


class CasesPanel(QWidget):
    """Shows `CasesState`, and asks for cases and for the network of all of them."""

    add_requested = Signal(object)
    """Files, folders and tables."""
    remove_requested = Signal(object)
    """Keys of cases to be taken from the list."""
    done_requested = Signal(object, bool)
    """Keys of cases, and whether they are done."""
    filter_requested = Signal(str)
    """Entry of `cohort_snapshots.FILTERS`."""
    search_requested = Signal(str)
    open_requested = Signal(str)
    """Key of a case."""
    next_requested = Signal()
    previous_requested = Signal()
    pictures_wanted = Signal(object)
    """Keys of the visible cases that have no picture yet."""
    train_requested = Signal()
    advice_requested = Signal()
    advised_requested = Signal()
    """Open the case that is recommended."""
    cancel_requested = Signal()
    minutes_requested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = CasesState()
        self.cases, self.network = CasesListView(), CasesNetworkView()
        self.setAcceptDrops(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(self.cases, 1)
        layout.addWidget(self.network)
        for part, names in (
            (self.cases, ("add_requested", "remove_requested", "done_requested", "filter_requested",
                          "search_requested", "open_requested", "next_requested", "previous_requested",
                          "pictures_wanted")),
            (self.network, ("train_requested", "advice_requested", "advised_requested", "cancel_requested",
                            "minutes_requested")),
        ):  # fmt: skip
            for name in names:
                getattr(part, name).connect(getattr(self, name))
        self._apply(self._state)

    def show_state(self, state: CasesState) -> None:
        """Show another state; nothing is asked for by it."""
        before, self._state = self._state, state
        if state != before:
            self._apply(state)

    def dragEnterEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        self.cases.drop([url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()])
        event.acceptProposedAction()

    def _apply(self, state: CasesState) -> None:
        self.cases.show_state(state)
        self.network.show_state(state)
