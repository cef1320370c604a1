"""The parts of the Class maps panel that turn a map, or points, into labels."""

from dataclasses import replace

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QGridLayout, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledSlider

from napari_sparseseg.settings import SeedConfig
from napari_sparseseg.widgets.panel_parts import (
    allow,
    make_button,
    make_choice,
    make_heading,
    make_row,
    make_text,
)
from napari_sparseseg.widgets.percent_slider import make_percent_slider
from napari_sparseseg.widgets.settings_form import LABEL_WIDTH, SettingsForm
from napari_sparseseg.widgets.snapshots import ClassMapsState
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_OBJECT = "Voxels where the map is at least this share of its largest value are labelled as the class"
_BACKGROUND = "Voxels where the maps of all classes are below this share are labelled as background"
_PREVIEW = (
    "The colored preview shows what would be labelled; between the two values nothing is. "
    "Your strokes always win."
)
_MAKE = "Label what the preview shows, with a low weight, and let the segmentation network learn from it"
_CLEAR = "Take the labels made from class maps out of training; your strokes stay"
_MARK = "Click inside objects in the picture; each click labels a small ball around it"
_SETTLES = 80  # milliseconds
_NAME_WIDTH = 160


class SeedsView(QWidget):
    """Shows how labels come from the map and the points of a `ClassMapsState`, and asks for them."""

    config_requested = Signal(object)
    """`SeedConfig`; while a slider is dragged, several times a second."""
    seeds_requested = Signal()
    clear_seeds_requested = Signal()
    mark_requested = Signal(bool)
    clear_points_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._config = SeedConfig()
        self._marking = False
        self._due = QTimer(self)
        self._due.setSingleShot(True)
        self._due.setInterval(_SETTLES)
        self._due.timeout.connect(self._ask_for_shares)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self._make_seeds(layout)
        self._make_points(layout)

    @property
    def config(self) -> SeedConfig:
        """The settings shown."""
        return self._config

    def show_state(self, state: ClassMapsState) -> None:
        """Show another state; nothing is asked for by it."""
        self._show_config(state.seeds)
        allow(self.make, state.why_no_seeds, _MAKE)
        allow(self.clear, state.why_no_clear_seeds, _CLEAR)
        self.hint.setText(state.why_no_seeds or _PREVIEW)
        self._marking = state.marking
        self.mark.setChecked(state.marking)
        allow(self.mark, "" if state.marking else state.why_no_mark, _MARK)
        allow(self.clear_points, state.why_no_clear_points, "Remove all points of this image")
        self.count.setText("1 point" if state.points == 1 else f"{state.points or 'no'} points")
        self.point_hint.setText(("" if state.marking else state.why_no_mark) or self._describe(state))

    def _make_seeds(self, layout: QVBoxLayout) -> None:
        guard = WheelGuard(self)
        self.object_from, self.background_below = make_percent_slider(), make_percent_slider()
        self.object_from.setMinimum(1)
        layout.addWidget(make_heading("Labels from the map"))
        self._shares: dict[str, QLabeledSlider] = {}
        grid = QGridLayout()
        grid.setColumnMinimumWidth(0, LABEL_WIDTH)
        grid.setColumnStretch(1, 1)
        for row, (name, text, slider, tip) in enumerate(
            (
                ("object_threshold", "Object from %", self.object_from, _OBJECT),
                ("background_threshold", "Background below %", self.background_below, _BACKGROUND),
            )
        ):
            caption = QLabel(text)
            caption.setBuddy(slider)
            caption.setToolTip(tip)
            slider.setToolTip(tip)
            slider.setAccessibleName(text)
            slider.valueChanged.connect(lambda _, name=name: self._slide(name))
            guard.protect(slider)
            self._shares[name] = slider
            grid.addWidget(caption, row, 0)
            grid.addWidget(slider, row, 1)
        layout.addLayout(grid)
        self.make = make_button("Make labels", self.seeds_requested)
        self.clear = make_button("Take out again", self.clear_seeds_requested)
        self.hint = make_text()
        layout.addWidget(self.hint)
        layout.addLayout(make_row(self.make, self.clear))

    def _make_points(self, layout: QVBoxLayout) -> None:
        layout.addWidget(make_heading("Points"))
        self.point_hint = make_text()
        self.mark = make_choice("Mark points")
        self.mark.clicked.connect(self._ask_to_mark)
        self.form = SettingsForm(self._config, hidden=tuple(self._shares))
        self.radius = self.form.editor("point_mm")
        assert isinstance(self.radius, QDoubleSpinBox)
        self.radius.setSuffix(" mm")
        self.form.changed.connect(self._take_radius)
        self.count = QLabel()
        self.clear_points = make_button("Remove all", self.clear_points_requested)
        layout.addWidget(self.point_hint)
        layout.addWidget(self.mark)
        layout.addWidget(self.form)
        row = make_row(self.count, self.clear_points)
        row.setStretch(0, 1)
        layout.addLayout(row)

    def _describe(self, state: ClassMapsState) -> str:
        names = {entry.value: entry.name for entry in state.table.classes}
        whole = names.get(state.selected, "the class chosen above")
        name = self.fontMetrics().elidedText(whole, Qt.TextElideMode.ElideRight, _NAME_WIDTH)
        return f"A click inside an object labels a small ball around it as {name}."

    def _show_config(self, config: SeedConfig) -> None:
        self.form.show_config(config)
        if self._due.isActive() or any(slider.isSliderDown() for slider in self._shares.values()):
            config = replace(
                config, **{name: getattr(self._config, name) for name in self._shares}
            )  # a slower answer must not pull the slider from the hand
        self._config = config
        self._show_shares()

    def _show_shares(self) -> None:
        for name, slider in self._shares.items():
            percent = round(getattr(self._config, name) * 100)
            if percent != slider.value():
                with QSignalBlocker(slider):
                    slider.setValue(percent)

    def _slide(self, name: str) -> None:
        """Take one share over; the other one follows where it would be passed."""
        shares = {name: self._shares[name].value() / 100}
        if name == "object_threshold":
            shares["background_threshold"] = min(self._config.background_threshold, shares[name])
        else:
            shares["object_threshold"] = max(self._config.object_threshold, shares[name])
        self._config = replace(self._config, **shares)
        self._show_shares()
        if not self._due.isActive():
            self._due.start()

    def _take_radius(self, config: SeedConfig) -> None:
        self._config = replace(self._config, point_mm=config.point_mm)
        self.config_requested.emit(self._config)

    def _ask_for_shares(self) -> None:
        self.config_requested.emit(self._config)

    def _ask_to_mark(self) -> None:
        self.mark.setChecked(self._marking)  # a click only asks; what the button shows is the state
        self.mark_requested.emit(not self._marking)
