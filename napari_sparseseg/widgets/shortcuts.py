"""All keys in one declaration: what they do, and where they work; the help view is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from napari import Viewer
from napari.layers import Layer


@dataclass(frozen=True)
class Shortcut:
    """One key.

    Attributes
    ----------
    key
        As napari writes it.
    help
        What it does, in plain words.
    action
        Name of what is called; empty where napari itself does it, and the key is only listed.
    """

    key: str
    help: str
    action: str = ""


SHORTCUTS = (
    Shortcut("1", "Paint background", "select_1"),
    *(Shortcut(str(value), f"Paint class {value}", f"select_{value}") for value in range(2, 10)),
    Shortcut("O", "Next orientation: axial, coronal, sagittal", "next_orientation"),
    Shortcut("A", "Accept the prediction of this slice", "accept_slice"),
    Shortcut("I", "Interpolate between two labelled slices", "interpolate"),
    Shortcut("U", "Go to the most uncertain slice", "go_to_most_uncertain"),
    Shortcut("N", "Suggest the next slice to label", "suggest_slice"),
    Shortcut("PageDown", "Open the next case of the list", "next_case"),
    Shortcut("PageUp", "Open the case before", "previous_case"),
    Shortcut("T", "Start or pause learning", "toggle_training"),
    Shortcut("Q", "Show or hide the prediction", "toggle_prediction"),
    Shortcut("D", "Draw a polygon", "draw_polygon"),
    Shortcut("B", "Draw a box", "draw_box"),
    Shortcut("K", "Mark points by clicks", "mark_points"),
    Shortcut("W", "Ask why the network sees the class under the mouse", "map_under_mouse"),
    Shortcut("P", "Paintbrush"),
    Shortcut("E", "Eraser"),
    Shortcut("F", "Fill"),
    Shortcut("Z", "Move about"),
    Shortcut("Space", "Move about while held"),
    Shortcut("[", "Smaller brush"),
    Shortcut("]", "Larger brush"),
    Shortcut("Ctrl+Z", "Undo the last stroke, or the last change of a box or a point"),
    Shortcut("Ctrl+Shift+Z", "Redo"),
)
"""Those with an action work while the labels layer is the active one; the rest are napari's own."""

_ANYWHERE = frozenset(
    {"next_orientation", "toggle_prediction", "map_under_mouse", "next_case", "previous_case"}
)


def bind_shortcuts(target: Viewer | Layer, actions: Mapping[str, Callable[[], None]]) -> None:
    """Bind the keys whose action is in `actions`: all to the annotation layer, some to the viewer."""
    for shortcut in _of(target):
        if shortcut.action in actions:
            target.bind_key(shortcut.key, _pressed(actions[shortcut.action]), overwrite=True)


def release_shortcuts(target: Viewer | Layer) -> None:
    """Take the keys back."""
    for shortcut in _of(target):
        target.bind_key(shortcut.key, None, overwrite=True)


def _of(target: Viewer | Layer) -> list[Shortcut]:
    anywhere = isinstance(target, Viewer)
    return [each for each in SHORTCUTS if each.action and (not anywhere or each.action in _ANYWHERE)]


def _pressed(action: Callable[[], None]) -> Callable[[Any], None]:
    def press(_: Any) -> None:
        action()

    return press
