"""The part of the Pre-train panel about the task: which one, for how long, and its settings."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from qtpy.QtCore import QLocale, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_sparseseg.pretraining_settings import TASK_SETTINGS, PretextConfig, PretrainingConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.panel_parts import ChoiceBox, make_heading, make_text
from napari_sparseseg.widgets.pretrain_snapshots import PretrainState
from napari_sparseseg.widgets.pretrain_words import FAMILIES, TASK_WORDS
from napari_sparseseg.widgets.settings_form import DEVICE_WORDS, SettingsForm
from napari_sparseseg.widgets.steady_text import SteadyText
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_BUDGET = "How long the network learns; longer is better, with less and less gain"
_MOST_MINUTES = 24 * 60
_MINUTE = 60.0
_WORDS: dict[str, dict[Any, str]] = {
    "crop_voxels": {
        0: "automatic",
        **{edge**3: f"{edge} × {edge} × {edge}" for edge in (16, 24, 32, 48, 64, 80, 96)},
    },
    "device": DEVICE_WORDS,
    "precision": {"auto": "automatic"},
}
_PRETEXT_WORDS = {"turns": {"auto": "automatic", "cube": "all 24 of a cube", "plane": "4 within slices"}}
_ARCHITECTURES = {"unet": "U-Net", "dynunet": "DynUNet", "segresnet": "SegResNet"}


class TaskView(QWidget):
    """Shows the task of a `PretrainState`, and asks for other settings."""

    settings_requested = Signal(object, object)
    """`PretrainingConfig` and `PretextConfig`."""

    def __init__(self) -> None:
        super().__init__()
        state = PretrainState()
        self._configs = (state.config, state.pretext)
        guard = WheelGuard(self)
        self.task = TaskChoice()
        self.task.name_requested.connect(lambda task: self._change(task=task))
        guard.protect(self.task)
        self.explanation = SteadyText("What the task is", lines=3)
        self.minutes = self._make_minutes()
        guard.protect(self.minutes)
        self.network = make_text()
        self.form = SettingsForm(state.config, hidden=("task", "seconds", "steps"), words=_WORDS)
        self.form.changed.connect(self._take_config)
        self.form.editor("memory_mb").setSuffix(" MB")
        self.pretext_form = SettingsForm(state.pretext, words=_PRETEXT_WORDS, helps=_plain_helps())
        self.pretext_form.changed.connect(self._take_pretext)
        self.fold = Fold("Settings", "Settings of the task and of learning; the defaults suit most")
        for part in (self.network, self.pretext_form, self.form):
            self.fold.add_widget(part)
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        for row, (text, editor) in enumerate((("Task", self.task), ("Learn for", self.minutes))):
            label = QLabel(text)
            label.setBuddy(editor)
            grid.addWidget(label, 2 * row, 0)
            grid.addWidget(editor, 2 * row, 1)
        grid.addWidget(self.explanation, 1, 0, 1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(make_heading("How it learns"))
        layout.addLayout(grid)
        layout.addWidget(self.fold)
        self._show(state.network)

    @property
    def configs(self) -> tuple[PretrainingConfig, PretextConfig]:
        """The settings shown."""
        return self._configs

    def show_state(self, state: PretrainState) -> None:
        """Show the task of another state; nothing is asked for by it."""
        self._configs = (state.config, state.pretext)
        self.form.show_config(state.config)
        self.pretext_form.show_config(state.pretext)
        self._show(state.network)

    def _make_minutes(self) -> QDoubleSpinBox:
        box = QDoubleSpinBox()
        box.setLocale(QLocale.c())
        box.setDecimals(1)
        box.setRange(0, _MOST_MINUTES)
        box.setSpecialValueText("not said yet")
        box.setSuffix(" minutes")
        box.setKeyboardTracking(False)  # a number is taken when it is complete
        box.setToolTip(_BUDGET)
        box.setAccessibleName("Minutes to learn")
        box.setAccessibleDescription(_BUDGET)
        box.valueChanged.connect(lambda minutes: self._change(seconds=round(minutes * _MINUTE, 1), steps=0))
        return box

    def _show(self, network: NetworkConfig) -> None:
        config, _ = self._configs
        title, words = TASK_WORDS[config.task]
        self.task.show_task(config.task)
        self.task.setToolTip(f"{title}: {words} (On the command line: {config.task})")
        self.explanation.show_text(words)
        self.pretext_form.show_only(TASK_SETTINGS[config.task])
        with QSignalBlocker(self.minutes):
            minutes = config.seconds / _MINUTE
            if round(minutes, 1) != self.minutes.value():  # else what is being typed would be lost
                self.minutes.setValue(minutes)
        kind = f"{_ARCHITECTURES.get(network.architecture, network.architecture)}, {network.size}"
        self.network.setText(f"It learns for the network that is set in the Train panel ({kind}).")

    def _change(self, **values: Any) -> None:
        config, pretext = self._configs
        self._ask(replace(config, **values), pretext)

    def _take_config(self, config: PretrainingConfig) -> None:
        self._ask(config, self._configs[1])

    def _take_pretext(self, pretext: PretextConfig) -> None:
        self._ask(self._configs[0], pretext)

    def _ask(self, config: PretrainingConfig, pretext: PretextConfig) -> None:
        if (config, pretext) != self._configs:
            self._configs = (config, pretext)
            self.form.show_config(config)
            self.settings_requested.emit(config, pretext)


class TaskChoice(ChoiceBox):
    """Chooses a task, family by family; a choice only asks, and what is shown is the state."""

    name_requested = Signal(str)
    """A task other than the one shown."""

    def __init__(self) -> None:
        super().__init__("What the network has to solve", "Choose…")
        self._chosen = ""
        for family, tasks in FAMILIES.items():
            self._add_heading(family)
            for task in tasks:
                title, words = TASK_WORDS[task]
                self.addItem(f"   {title}", task)
                self.setItemData(self.count() - 1, words, Qt.ItemDataRole.ToolTipRole)
        self.setMaxVisibleItems(self.count())
        self.activated.connect(lambda _: self._ask())

    def show_task(self, task: str) -> None:
        """Show the chosen task; nothing is asked for by it."""
        self._chosen = task
        if not self.view().isVisible():  # else being chosen from
            self.setCurrentIndex(self.findData(task))

    def _add_heading(self, family: str) -> None:
        self.addItem(family)
        item = self.model().item(self.count() - 1)
        item.setFlags(Qt.ItemFlag.NoItemFlags)
        font = item.font()
        font.setBold(True)
        item.setFont(font)

    def _ask(self) -> None:
        task = self.currentData()
        if task != self._chosen:
            self.setCurrentIndex(self.findData(self._chosen))
            self.name_requested.emit(task)


def _plain_helps() -> Mapping[str, str]:
    """Return the help of each setting of the tasks without the tasks' names: only its own are shown."""
    helps = {}
    for entry in fields(PretextConfig):
        tasks, _, text = entry.metadata["help"].partition(": ")
        assert set(tasks.split(", ")) <= set(TASK_SETTINGS), entry.name
        helps[entry.name] = text[:1].upper() + text[1:]
    return helps
