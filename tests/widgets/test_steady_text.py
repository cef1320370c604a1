"""A text that moves nothing."""

import pytest
from napari.qt import get_stylesheet

from napari_sparseseg.widgets.steady_text import SteadyText
from tests.widgets.conftest import settle
from tests.widgets.panel_window import shown


@pytest.mark.parametrize("style", ["", get_stylesheet("dark"), "QLabel { font-size: 20pt; padding: 6px; }"])
def test_one_line_takes_the_room_of_two(style):
    text = SteadyText("What goes on")
    with shown(text):
        text.window().setStyleSheet(style)
        settle()
        heights = set()
        for words in ("", "one", "one\ntwo", "one"):
            text.show_text(words)
            settle()
            assert text.text() == words
            heights.add(max(text.minimumHeight(), text.heightForWidth(text.width())))
        assert len(heights) == 1
        text.show_text("one\ntwo\nthree")
        assert text.heightForWidth(text.width()) > heights.pop()
