"""What the Annotate panel and the keys ask for: classes, tools, orientation, labels made from others."""

from dataclasses import replace
from typing import Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sparseseg.annotation import BACKGROUND, ClassTable, LabelClass
from napari_sparseseg.errors import InputError
from napari_sparseseg.interpolation import find_interpolation_pair, interpolate_annotation
from napari_sparseseg.widgets.snapshots import TOOLS
from napari_sparseseg.widgets.workplace import Workplace, tells

_MODES = {"move": "pan_zoom", "paint": "paint", "erase": "erase", "fill": "fill", "polygon": "polygon"}
_LARGEST_BRUSH = 200


class AnnotateActions(QObject):
    """Carries out what the user asks for while labelling."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self.place = place

    # -- classes --

    @tells
    def add_class(self) -> None:
        """Add a class and select it."""
        table = self.place.session.table
        value = self.place.desk.free_value(table)
        colors = ClassTable.from_values(range(2, 10)).classes[1:]
        used = {entry.color for entry in table.classes}
        color = next((entry.color for entry in colors if entry.color not in used), colors[value % 8].color)
        self.place.set_table(ClassTable((*table.classes, LabelClass(value, f"class {value}", color))))
        self.select(value)

    @tells
    def rename_class(self, value: int, name: str) -> None:
        """Give the class of a painted value another name."""
        name = " ".join(name.split())
        if not name:
            raise InputError("A class needs a name; type one.")
        self._change_class(value, name=name)

    @tells
    def recolor_class(self, value: int, color: str) -> None:
        """Give the class of a painted value another color, ``#rrggbb``."""
        self._change_class(value, color=color)

    @tells
    def delete_class(self, value: int) -> None:
        """Delete a class and all its labels."""
        place, table = self.place, self.place.session.table
        if value == BACKGROUND:
            raise InputError("Background stays: what is not an organ must be shown too.")
        rest = tuple(entry for entry in table.classes if entry.value != value)
        if len(rest) < 2:
            raise InputError("One class must stay; rename it instead.")
        if place.desk.project is not None:
            for change in place.desk.project.erase_value(value):
                if place.case is not None and change.case == place.desk.case:
                    place.case.show_change(change)
                    place.announce(change)
        if place.case is not None:
            place.case.watch.forget_history()  # it would bring the labels back, not the class
        if place.desk.recorder is not None:
            place.desk.recorder.forget()
        place.session.hidden -= {value}
        gone = place.desk.remove_hints_of(value)
        place.set_table(ClassTable(rest))
        if place.session.selected == value:
            self.select(rest[1].value)
        place.class_deleted.emit(value)
        if gone:
            name = next(entry.name for entry in table.classes if entry.value == value)
            were = "was" if gone[0].startswith("1 ") and len(gone) == 1 else "were"
            place.inform(f"{name} was deleted, and {' and '.join(gone)} of it {were} deleted too.")

    @tells
    def select(self, value: int) -> None:
        """Paint with this value from now on: 1 is background."""
        if value != BACKGROUND and value not in self.place.session.table.mask_values[1:]:
            raise InputError(f"There is no class {value}; add one first.")
        self.place.session.selected = value
        if self.place.case is not None:
            self.place.case.layers.annotation.selected_label = value

    # -- tools and view --

    @tells
    def use_tool(self, tool: str) -> None:
        """Take up a tool of `snapshots.TOOLS`."""
        layer = self.place.require_case().layers.annotation
        if layer not in self.place.viewer.layers:
            raise InputError("The labels layer was removed; choose the image again to bring it back.")
        if tool not in TOOLS:
            raise InputError(f"There is no tool {tool}; use one of {', '.join(TOOLS)}.")
        self.place.viewer.layers.selection.active = layer
        layer.visible = True
        layer.mode = _MODES[tool]

    @tells
    def set_brush_size(self, size: int) -> None:
        """Paint with a brush of this diameter in voxels."""
        self.place.session.brush_size = size = min(max(1, size), _LARGEST_BRUSH)
        if self.place.case is not None:
            self.place.case.layers.annotation.brush_size = size

    @tells
    def turn(self, axis: int) -> None:
        """Show the slices across `axis`: 0 axial, 1 coronal, 2 sagittal."""
        case = self.place.require_case()
        case.go_to(axis, case.index(axis))

    @tells
    def next_orientation(self) -> None:
        """Show the next of the three orientations."""
        self.turn((self.place.session.orientation + 1) % 3)

    @tells
    def go_to_slice(self, axis: int, index: int) -> None:
        """Show slice `index` across `axis`."""
        self.place.require_case().go_to(axis, index)

    def follow_layer(self) -> None:
        """Take over class, tool and brush from the annotation layer, whoever changed them there."""
        case, session = self.place.case, self.place.session
        if case is None:
            return
        layer = case.layers.annotation
        session.tool = next((tool for tool, mode in _MODES.items() if mode == str(layer.mode)), "move")
        session.brush_size = int(layer.brush_size)
        if layer.selected_label > 0:
            session.selected = int(layer.selected_label)
        self.place.save_view_soon()
        self.place.touch()

    # -- labels from others --

    @tells
    def accept_slice(self) -> None:
        """Take over the prediction of the visible slice where nothing is labelled; undo takes it back."""
        case, labels = self.place.require_case(), self.place.desk.labels
        voxels = case.slice_voxels()
        values = case.prediction.reshape(-1)[voxels]
        free = values > 0
        if labels is not None:
            free &= labels.reshape(-1)[voxels] == 0
        if not free.any():
            raise InputError(
                "There is nothing to accept: no prediction on this slice, or all of it is labelled."
            )
        case.watch.paint(voxels[free], values[free], "accepted")

    @tells
    def interpolate(self) -> None:
        """Label the slices between the two labelled ones round the visible slice."""
        place = self.place
        case, labels, apart = place.require_case(), place.desk.labels, place.desk.apart()
        axis = case.axis
        if labels is None or apart is None or axis is None:
            raise InputError("Label two slices of this orientation first.")
        own = np.where(apart, np.uint8(0), labels)
        pair = find_interpolation_pair(own, axis, case.index(axis))
        if pair is None:
            raise InputError("Go to a slice between two labelled ones of this orientation first.")
        voxels, values = interpolate_annotation(own, axis, *pair, case.source.volume.spacing)
        place.add_labels(voxels, values, "interpolated")

    @tells
    def clear_interpolated(self) -> None:
        """Take all interpolated labels out again."""
        self.place.clear_labels("interpolated")

    def _change_class(self, value: int, **changes: Any) -> None:
        table = self.place.session.table
        row = 0 if value == BACKGROUND else next(
            (row for row, entry in enumerate(table.classes) if row and entry.value == value), None
        )  # fmt: skip
        if row is None:
            raise InputError(f"There is no class {value}; choose one of the table.")
        classes = list(table.classes)
        classes[row] = replace(classes[row], **changes)
        self.place.set_table(ClassTable(tuple(classes)))
