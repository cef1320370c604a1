"""The settings of training behind a fold of the Train panel."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_sparseseg.settings import LIVE_TRAINING, NetworkConfig, TrainingConfig
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.panel_parts import allow
from napari_sparseseg.widgets.settings_form import DEVICE_WORDS, SettingsForm
from napari_sparseseg.widgets.steady_text import SteadyText

_HIDDEN = ("seconds", "steps")  # live learning ends when the user says so
_FIRST = ("patch_voxels", "batch_size", "learning_rate")
_WORDS: dict[str, dict[Any, str]] = {
    "architecture": {"unet": "U-Net", "dynunet": "DynUNet", "segresnet": "SegResNet"},
    "patch_voxels": {
        0: "automatic",
        **{edge**3: f"{edge} × {edge} × {edge}" for edge in (32, 48, 64, 80, 96, 128)},
    },
    "device": DEVICE_WORDS,
    "precision": {"auto": "automatic"},
}
_NOTHING_CHANGED = "Change a setting first."


class TrainSettings(Fold):
    """Settings of network and training.

    A change is asked for at once while nothing has been learnt.  Afterwards it means learning anew, so that
    changes are collected until the user says to use them.
    """

    settings_requested = Signal(object, object)
    """`TrainingConfig` and `NetworkConfig`."""

    def __init__(self, training: TrainingConfig, network: NetworkConfig) -> None:
        super().__init__("Size, patch and more", "Settings of network and training; the defaults suit most")
        self._given = (training, network)
        self._learnt = False
        self._explanation = SteadyText("When changes are used")
        self.use = QPushButton("Use and learn anew")
        self.back = QPushButton("Undo")
        self.defaults = QPushButton("Defaults")
        self.network_form = SettingsForm(network, words=_WORDS)
        self.training_form = SettingsForm(training, hidden=_HIDDEN, first=_FIRST, words=_WORDS)
        buttons = QWidget()
        row = QHBoxLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        for button, stretch in ((self.use, 1), (self.back, 0), (self.defaults, 0)):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            row.addWidget(button, stretch)
        for widget in (self._explanation, buttons, self.network_form, self.training_form):
            self.add_widget(widget)
        self.use.clicked.connect(self._ask)
        self.back.clicked.connect(lambda: self._enter(*self._given))
        self.defaults.clicked.connect(lambda: self._enter(LIVE_TRAINING, NetworkConfig()))
        for form in (self.network_form, self.training_form):
            form.changed.connect(self._edited)
        self._describe()

    def show_settings(self, training: TrainingConfig, network: NetworkConfig, learnt: bool) -> None:
        """Show the settings in use, and whether a change of them means learning anew.

        What the user has entered and not used yet stays, unless the settings in use have changed.
        """
        if (training, network, learnt) == (*self._given, self._learnt):
            return
        if (training, network) != self._given:
            self.training_form.show_config(training)
            self.network_form.show_config(network)
        self._given, self._learnt = (training, network), learnt
        self._describe()

    @property
    def _entered(self) -> tuple[Any, Any]:
        return self.training_form.config, self.network_form.config

    def _enter(self, training: TrainingConfig, network: NetworkConfig) -> None:
        self.training_form.show_config(training)
        self.network_form.show_config(network)
        self._edited()

    def _edited(self) -> None:
        if not self._learnt and self._entered != self._given:
            self._ask()
        self._describe()

    def _ask(self) -> None:
        self.settings_requested.emit(*self._entered)

    def _describe(self) -> None:
        waiting = self._entered != self._given
        self.set_note("not used yet" if waiting else "")
        if waiting:
            text = "Not used yet: with these settings learning begins anew. Your labels stay."
        elif self._learnt:
            text = "With other settings learning begins anew. Your labels stay as they are."
        else:
            text = "Nothing has been learnt yet: changes are used at once."
        self._explanation.show_text(text)
        why = "" if waiting else _NOTHING_CHANGED
        allow(self.use, why, "Forget the network, and learn from your labels with these settings")
        allow(self.back, why, "Show the settings in use again")
        why = "" if self._entered != (LIVE_TRAINING, NetworkConfig()) else "These are the defaults."
        allow(self.defaults, why, "Enter what suits most")
