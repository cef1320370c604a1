"""A combo box of things that have a name of their own in the state and words on the screen."""

from collections.abc import Mapping

from qtpy.QtCore import Signal

from napari_sparseseg.widgets.panel_parts import ChoiceBox


class NamedChoice(ChoiceBox):
    """Chooses a name; a choice only asks, and what is shown is the state.

    Parameters
    ----------
    name
        What is chosen with it, for those who cannot see it.
    placeholder
        Shown while nothing is chosen.
    """

    name_requested = Signal(str)
    """A name other than the one shown."""

    def __init__(self, name: str, placeholder: str = "Choose…") -> None:
        super().__init__(name, placeholder)
        self._chosen = ""
        self.activated.connect(lambda _: self._ask())

    def show_names(self, words: Mapping[str, str], chosen: str) -> None:
        """Show what can be chosen, by name and in words, and the chosen name; nothing is asked for by it."""
        self._chosen = chosen
        if self.view().isVisible():  # being chosen from
            return
        if list(words.items()) != [(self.itemData(row), self.itemText(row)) for row in range(self.count())]:
            self.clear()
            for name, text in words.items():
                self.addItem(text, name)
        self.setCurrentIndex(self.findData(chosen))

    def _ask(self) -> None:
        name = self.currentData()
        if name != self._chosen:
            self.setCurrentIndex(self.findData(self._chosen))
            self.name_requested.emit(name)
