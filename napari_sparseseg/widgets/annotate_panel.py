"""The Annotate panel: image, classes, drawing tools, slices, and labels made from others."""

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QButtonGroup, QLabel, QLayout, QSlider, QVBoxLayout, QWidget

from napari_sparseseg.widgets.class_table import ClassTableEditor
from napari_sparseseg.widgets.panel_parts import (
    ChoiceBox,
    allow,
    make_arrow,
    make_button,
    make_choice,
    make_column,
    make_row,
    make_text,
    make_title,
)
from napari_sparseseg.widgets.slice_marks import SliceMarks
from napari_sparseseg.widgets.snapshots import ORIENTATIONS, TOOLS, AnnotateState
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_LARGEST_BRUSH = 60

_TOOL_TIPS = {
    "move": "Move the picture and zoom; nothing is labelled (Z)",
    "paint": "Paint labels with the brush (P)",
    "erase": "Erase labels with the brush (E)",
    "fill": "Fill an area of one label with the class in use (F)",
    "polygon": "Click the corners of an outline; a double click ends it and fills it (D)",
}
_NO_IMAGES = "Open an image first: drag a file into the window, or use the File menu."
_BACKGROUND = "Background is labelled too: a few strokes of it teach what is not the organ."
_ACCEPT = "Copy the prediction of this slice into your labels, where nothing is labelled yet (A)"
_INTERPOLATE = (
    "Label the slices between the two labelled ones around this slice. Such labels are shown apart, "
    "and count less than your own (I)"
)
_CLEAR = "Take out all interpolated labels; your own stay"


class AnnotatePanel(QWidget):
    """Shows `AnnotateState`, and asks for what the user wants.

    Parameters
    ----------
    parent
        Its owner in Qt.
    """

    image_requested = Signal(str)
    class_add_requested = Signal()
    class_rename_requested = Signal(int, str)
    class_recolor_requested = Signal(int, str)
    class_delete_requested = Signal(int)
    class_select_requested = Signal(int)
    tool_requested = Signal(str)
    brush_size_requested = Signal(int)
    orientation_requested = Signal(int)
    slice_requested = Signal(int, int)
    """Axis and index."""
    accept_slice_requested = Signal()
    interpolate_requested = Signal()
    clear_interpolated_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = AnnotateState()
        guard = WheelGuard(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        for title, content in (
            ("Image", self._make_image()),
            ("Classes", self._make_classes()),
            ("Draw", self._make_tools()),
            ("Slice", self._make_slices()),
            ("Fill in", self._make_fillers()),
        ):
            if layout.count():
                layout.addSpacing(6)
            layout.addLayout(make_row(make_title(title), *([_caption()] if title == "Classes" else [])))
            layout.addLayout(content)
        layout.addStretch()
        guard.protect(self.image)
        guard.protect(self.brush)
        self.show_state(self._state)

    def show_state(self, state: AnnotateState) -> None:
        """Show another state; nothing is asked for by it."""
        self._state = state
        self._show_images(state)
        self.classes.show_classes(state.table, state.selected, state.voxels, state.boxes)
        self._tools.setExclusive(bool(state.tool))  # else one would stay pressed
        for number, (tool, button) in enumerate(self.tool_buttons.items()):
            button.setChecked(tool == state.tool)
            allow(self._tools.button(number), state.why_no_paint, _TOOL_TIPS[tool])
        allow(self.brush, state.why_no_paint, "How wide brush and eraser are (keys [ and ])")
        self._brush_text.setText("1 voxel" if state.brush_size == 1 else f"{state.brush_size} voxels")
        if not self.brush.isSliderDown():
            with QSignalBlocker(self.brush):
                self.brush.setValue(state.brush_size)
        self._show_slices(state)
        allow(self.accept, state.why_no_accept, _ACCEPT)
        allow(self.interpolate, state.why_no_interpolation, _INTERPOLATE)
        allow(self.clear, state.why_no_clear, _CLEAR)

    def _show_images(self, state: AnnotateState) -> None:
        if self.image.view().isVisible():  # being chosen from
            return
        if state.images != tuple(self.image.itemText(row) for row in range(self.image.count())):
            self.image.clear()
            self.image.addItems(state.images)
        self.image.setCurrentIndex(state.images.index(state.image) if state.image in state.images else -1)
        allow(self.image, "" if state.images else _NO_IMAGES, state.image or "Choose the image to label")
        self.hint.setText(state.why_no_paint if state.images else _NO_IMAGES)
        self.hint.setVisible(bool(state.why_no_paint))

    def _show_slices(self, state: AnnotateState) -> None:
        why = "" if state.slice_count else "Open an image first."
        for axis, (button, name) in enumerate(zip(self.orientation_buttons, ORIENTATIONS, strict=True)):
            count = len(state.labelled_slices[axis])
            button.setText(f"{name.capitalize()} · {count}" if count else name.capitalize())
            button.setChecked(axis == state.orientation)
            labelled = "1 slice is labelled" if count == 1 else f"{count or 'no'} slices are labelled"
            allow(button, why, f"Show {name} slices; {labelled}. Key O shows the next orientation.")
        marks = state.labelled_slices[state.orientation]
        self.marks.show_slices(state.slice_index, state.slice_count, marks)
        is_labelled = " · labelled" if state.slice_index in marks else ""
        place = f"Slice {state.slice_index} / {state.slice_count - 1}{is_labelled}"
        self.slice_text.setText(place if state.slice_count else "No image is open.")
        before, after = self.marks.previous_mark(), self.marks.next_mark()
        allow(self.before, "" if before is not None else "No slice before this one is labelled.",
               f"Go to the labelled slice before this one: {before}")  # fmt: skip
        allow(self.after, "" if after is not None else "No slice after this one is labelled.",
               f"Go to the labelled slice after this one: {after}")  # fmt: skip

    def _make_image(self) -> QLayout:
        self.image = ChoiceBox("Image to label", "Choose an image…")
        self.image.textActivated.connect(self.image_requested)
        self.hint = make_text()
        return make_column(self.image, self.hint)

    def _make_classes(self) -> QLayout:
        self.classes = ClassTableEditor()
        self.classes.add_requested.connect(self.class_add_requested)
        self.classes.rename_requested.connect(self.class_rename_requested)
        self.classes.recolor_requested.connect(self.class_recolor_requested)
        self.classes.delete_requested.connect(self.class_delete_requested)
        self.classes.select_requested.connect(self.class_select_requested)
        return make_column(self.classes, make_text(_BACKGROUND))

    def _make_tools(self) -> QLayout:
        self.tool_buttons = {tool: make_choice(tool.capitalize()) for tool in TOOLS}
        self._tools = QButtonGroup(self)
        for number, button in enumerate(self.tool_buttons.values()):
            self._tools.addButton(button, number)
        self._tools.idClicked.connect(lambda number: self.tool_requested.emit(TOOLS[number]))
        self.brush = QSlider(Qt.Orientation.Horizontal)
        self.brush.setRange(1, _LARGEST_BRUSH)
        self.brush.setAccessibleName("Brush size in voxels")
        self.brush.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.brush.valueChanged.connect(self.brush_size_requested)
        self._brush_text = QLabel()
        self._brush_text.setMinimumWidth(self.fontMetrics().horizontalAdvance("200 voxels"))
        size = make_row(QLabel("Brush"), self.brush, self._brush_text)
        size.setStretch(1, 1)
        return make_column(make_row(*self.tool_buttons.values()), size)

    def _make_slices(self) -> QLayout:
        self.orientation_buttons = [make_choice(name.capitalize()) for name in ORIENTATIONS]
        self._orientations = QButtonGroup(self)
        for axis, button in enumerate(self.orientation_buttons):
            self._orientations.addButton(button, axis)
        self._orientations.idClicked.connect(self.orientation_requested)
        self.marks = SliceMarks()
        self.marks.slice_requested.connect(
            lambda index: self.slice_requested.emit(self._state.orientation, index)
        )
        self.before = make_arrow("◂", "Labelled slice before this one")
        self.before.clicked.connect(lambda: self.marks.ask_for(self.marks.previous_mark()))
        self.after = make_arrow("▸", "Labelled slice after this one")
        self.after.clicked.connect(lambda: self.marks.ask_for(self.marks.next_mark()))
        self.slice_text = QLabel()
        bar = make_row(self.before, self.marks, self.after)
        return make_column(make_row(*self.orientation_buttons), self.slice_text, bar)

    def _make_fillers(self) -> QLayout:
        self.accept = make_button("Accept prediction of this slice", self.accept_slice_requested)
        self.interpolate = make_button("Interpolate", self.interpolate_requested)
        self.clear = make_button("Clear interpolated", self.clear_interpolated_requested)
        return make_column(self.accept, make_row(self.interpolate, self.clear))


def _caption() -> QLabel:
    caption = QLabel("voxels labelled")
    caption.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    # As far from the edge as the numbers below it.
    caption.setContentsMargins(0, 0, 28, 0)
    return caption
