"""A slider for a share, in percent."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSlider
from superqt import QLabeledSlider


def make_percent_slider(most: int = 100) -> QLabeledSlider:
    """Make a slider of 0 to `most` percent, by mouse, keys, or a number typed beside it.

    It counts whole percents: superqt's slider of fractions does not answer keys.
    """
    slider = QLabeledSlider(Qt.Orientation.Horizontal)
    slider.setRange(0, most)
    slider.setSingleStep(5)
    slider.setPageStep(10)
    # What answers keys is the slider inside: without this, Tab would stop here twice.
    slider.setFocusProxy(slider.findChild(QSlider))
    return slider
