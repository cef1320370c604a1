"""One form for every settings dataclass: what a field shows is read from its metadata."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from qtpy.QtCore import QLocale, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.setting import split_several
from napari_sparseseg.settings import (
    BoxConfig,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    SeedConfig,
    TrainingConfig,
)
from napari_sparseseg.widgets.percent_slider import make_percent_slider
from napari_sparseseg.widgets.wheel_guard import WheelGuard

Config = (
    NetworkConfig
    | TrainingConfig
    | InferenceConfig
    | BoxConfig
    | RecursionConfig
    | CrfConfig
    | ClassifierConfig
    | CamConfig
    | SeedConfig
    | PretrainingConfig
    | PretextConfig
    | BatchConfig
)

_MOST = 10**9  # where a setting has no maximum
_DECIMALS = 6

LABEL_WIDTH = 126
"""Pixels that the labels of a form take at least, so that forms below each other line up."""

DEVICE_WORDS = {"auto": "automatic", "cuda": "CUDA (NVIDIA)", "mps": "MPS (Apple)", "cpu": "CPU"}
"""How to call the choices of a device."""


class SettingsForm(QWidget):
    """Shows a settings dataclass, one row per field, and says when the user has changed one.

    Parameters
    ----------
    config
        What is shown at first.
    hidden
        Names of fields to leave out; they keep their values.
    first
        Names of fields to put on top, in this order.
    words
        By field: the values to choose from and how to call them; fields with choices need none.  For a field
        of several names: what its check boxes say.
    helps
        By field: what its tooltip says instead of the setting's own help.
    parent
        Its owner in Qt.
    """

    changed = Signal(object)
    """The settings as the user has changed them."""

    def __init__(
        self,
        config: Config,
        *,
        hidden: Collection[str] = (),
        first: Sequence[str] = (),
        words: Mapping[str, Mapping[Any, str]] | None = None,
        helps: Mapping[str, str] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setLocale(QLocale.c())  # 0.5 everywhere, as on the command line
        self._config = config
        self._guard = WheelGuard(self)
        self._editors: dict[str, _Editor] = {}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(8)
        layout.setVerticalSpacing(4)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        entries = {entry.name: entry for entry in fields(config) if entry.name not in hidden}
        for name in dict.fromkeys((*first, *entries)):
            own = (helps or {}).get(name, entries[name].metadata["help"])
            self._add_row(layout, name, {**entries[name].metadata, "help": own}, (words or {}).get(name))

    @property
    def config(self) -> Config:
        """The settings shown."""
        return self._config

    def editor(self, name: str) -> QWidget:
        """Return the widget that edits the field `name`."""
        return self._editors[name].widget

    def show_config(self, config: Config) -> None:
        """Show other settings; only fields that differ are touched, and nothing is emitted."""
        before, self._config = self._config, config
        for name, editor in self._editors.items():
            value = getattr(config, name)
            if value != getattr(before, name):
                with QSignalBlocker(editor.widget):
                    editor.show(value)

    def show_only(self, names: Collection[str]) -> None:
        """Show the rows of these fields, and hide the others; what they hold stays."""
        for name, editor in self._editors.items():
            self.layout().setRowVisible(editor.widget, name in names)

    def _add_row(
        self, layout: QFormLayout, name: str, metadata: Mapping[str, Any], words: Mapping[Any, str] | None
    ) -> None:
        value = getattr(self._config, name)
        editor = _make_editor(metadata, value, words, partial(self._take, name))
        editor.show(value)
        self._editors[name] = editor
        widget = editor.widget
        widget.setToolTip(metadata["help"])
        widget.setAccessibleName(metadata["label"])
        widget.setAccessibleDescription(metadata["help"])
        self._guard.protect(widget)
        if isinstance(widget, QCheckBox):
            layout.addRow(widget)
            return
        label = QLabel(metadata["label"] + (" %" if _is_share(metadata, value) else ""))
        label.setToolTip(metadata["help"])
        label.setMinimumWidth(LABEL_WIDTH)
        label.setBuddy(widget)
        if isinstance(widget, CheckColumn):  # its texts need the whole width
            layout.addRow(label)
            layout.addRow(widget)
            return
        layout.addRow(label, widget)

    def _take(self, name: str, value: Any) -> None:
        config = replace(self._config, **{name: value})
        if config != self._config:
            self._config = config
            self.changed.emit(config)


@dataclass(frozen=True)
class _Editor:
    """A widget, and how to let it show a value."""

    widget: QWidget
    show: Callable[[Any], None]


def _make_editor(
    metadata: Mapping[str, Any], value: Any, words: Mapping[Any, str] | None, take: Callable[[Any], None]
) -> _Editor:
    """Make the widget that suits a field; `take` is called with what the user has entered."""
    if metadata["several"] is not None:
        column = CheckColumn({name: (words or {}).get(name, name) for name in metadata["several"]})
        column.changed.connect(take)
        return _Editor(column, column.show_names)
    if words is not None or metadata["choices"] is not None:
        choices = metadata["choices"] if metadata["choices"] is not None else tuple(words or ())
        return _make_choice({choice: (words or {}).get(choice, choice) for choice in choices}, take)
    if isinstance(value, bool):
        box = QCheckBox(metadata["label"])
        box.toggled.connect(take)
        return _Editor(box, box.setChecked)
    minimum, maximum = metadata["minimum"], metadata["maximum"]
    if _is_share(metadata, value):
        return _make_slider(maximum, take)
    spin = QSpinBox() if isinstance(value, int) else _PlainSpinBox()
    spin.setRange(-_MOST if minimum is None else minimum, _MOST if maximum is None else maximum)
    spin.setStepType(QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
    spin.setKeyboardTracking(False)  # a number is taken when it is complete
    spin.valueChanged.connect(take)
    return _Editor(spin, spin.setValue)


def _is_share(metadata: Mapping[str, Any], value: Any) -> bool:
    maximum = metadata["maximum"]
    return isinstance(value, float) and metadata["minimum"] == 0 and maximum is not None and maximum <= 1


def _make_choice(words: Mapping[Any, str], take: Callable[[Any], None]) -> _Editor:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
    for value, text in words.items():
        box.addItem(str(text), value)

    def show(value: Any) -> None:
        if box.findData(value) < 0:  # set elsewhere, as on the command line
            box.addItem(str(value), value)
        box.setCurrentIndex(box.findData(value))

    box.activated.connect(lambda _: take(box.currentData()))
    return _Editor(box, show)


def _make_slider(maximum: float, take: Callable[[Any], None]) -> _Editor:
    slider = make_percent_slider(round(maximum * 100))

    def settle() -> None:
        if not slider.isSliderDown():  # what is passed while dragging is not meant
            take(slider.value() / 100)

    slider.valueChanged.connect(lambda _: settle())
    slider.sliderReleased.connect(settle)
    return _Editor(slider, lambda share: slider.setValue(round(share * 100)))


class CheckColumn(QWidget):
    """Check boxes below each other, for a setting that holds several names.

    Parameters
    ----------
    words
        By name, in the order in which they are joined: what its box says.
    """

    changed = Signal(str)
    """The ticked names, joined by commas; "none" when there is none."""

    def __init__(self, words: Mapping[str, str]) -> None:
        super().__init__()
        self._boxes = {name: QCheckBox(text) for name, text in words.items()}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 0, 0, 0)
        layout.setSpacing(3)
        for box in self._boxes.values():
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            box.clicked.connect(lambda _: self.changed.emit(self.names))
            layout.addWidget(box)
        self.setFocusProxy(next(iter(self._boxes.values())))

    @property
    def names(self) -> str:
        """What is ticked, as `changed` says it."""
        return ",".join(name for name, box in self._boxes.items() if box.isChecked()) or "none"

    def box(self, name: str) -> QCheckBox:
        """Return the check box of a name."""
        return self._boxes[name]

    def show_names(self, value: str) -> None:
        """Tick the names in a setting's value, and no other."""
        ticked = split_several(value)
        for name, box in self._boxes.items():
            box.setChecked(name in ticked)


class _PlainSpinBox(QDoubleSpinBox):
    """Shows 0.002 as 0.002 and 1 as 1."""

    def __init__(self) -> None:
        super().__init__()
        self.setDecimals(_DECIMALS)

    def textFromValue(self, value: float) -> str:
        return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
