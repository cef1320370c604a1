"""The Predict panel, used as a hand does."""

from dataclasses import replace

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QSlider

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.widgets.predict_panel import PredictPanel
from napari_sparseseg.widgets.save_dialog import SaveDialog
from napari_sparseseg.widgets.snapshots import PredictState
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, cut_off, record, shown

SIGNALS = (
    "opacity_requested", "class_visible_requested", "uncertainty_requested", "most_uncertain_requested",
    "suggest_requested", "inference_requested", "save_mask_requested", "save_uncertainty_requested",
    "export_model_requested",
)  # fmt: skip
TABLE = ClassTable.from_values([2, 3], {2: "liver", 3: "a name that is far too long for any dock at all"})
READY = PredictState(
    table=TABLE,
    hidden=frozenset({3}),
    volumes_ml={2: 1523.4},
    suggestion="axial slice 41: the prediction is least sure there about liver, and the nearest labelled "
    "slice is 18 mm away",
    why_no_prediction="",
    why_no_model="",
)


@pytest.fixture
def panel(tmp_path):
    with shown(PredictPanel(), height=900) as made:
        made.show_state(replace(READY, folder=str(tmp_path)))
        settle()
        made.heard = record(made, *SIGNALS)
        yield made


def test_nothing_can_be_done_without_a_prediction_and_everything_says_why(panel):
    why, no_model = "There is no prediction yet.", "No network has learnt yet."
    panel.show_state(replace(READY, why_no_prediction=why, why_no_model=no_model))
    for widget in (panel.opacity, panel.uncertainty, panel.most_uncertain, panel.suggest, panel.save_mask,
                   panel.save_uncertainty):  # fmt: skip
        assert not widget.isEnabled()
        assert widget.toolTip() == why
    assert not panel.export_model.isEnabled()
    assert panel.export_model.toolTip() == no_model
    assert panel.why.isVisible()
    assert panel.why.text() == why
    panel.show_state(READY)
    assert not panel.why.isVisible()
    for widget in (panel.opacity, panel.suggest, panel.export_model):
        assert widget.isEnabled()
        assert widget.toolTip() not in (why, no_model, "")


@pytest.mark.parametrize(
    ("name", "signal"),
    [("most_uncertain", "most_uncertain_requested"), ("suggest", "suggest_requested")],
)
def test_buttons_ask_once(panel, name, signal):
    click(getattr(panel, name))
    assert panel.heard == [(signal,)]


def test_opacity_follows_the_hand_and_the_state(panel):
    (slider,) = panel.opacity.findChildren(QSlider)
    middle = slider.rect().center()
    QTest.mousePress(slider, Qt.MouseButton.LeftButton, pos=middle)
    QTest.mouseMove(slider, middle + QPoint(20, 0))
    QApplication.processEvents()
    panel.show_state(replace(READY, opacity=0.1))  # an older state does not pull it out of the hand
    QTest.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=middle + QPoint(20, 0))
    opacities = [value for _, value in panel.heard]
    assert opacities
    assert 0.5 < opacities[-1] == panel.opacity.value() / 100 < 1
    panel.heard.clear()
    panel.show_state(replace(READY, opacity=0.25))
    assert panel.opacity.value() == 25
    assert panel.heard == []


def test_uncertainty_and_classes_are_asked_for(panel):
    click(panel.uncertainty)
    click(panel.classes.box(3))
    click(panel.classes.box(2))
    assert panel.heard == [
        ("uncertainty_requested", True),
        ("class_visible_requested", 3, True),
        ("class_visible_requested", 2, False),
    ]


def test_a_suggestion_is_shown_with_its_reason(panel):
    assert panel.suggestion.text().lower() == READY.suggestion
    panel.show_state(replace(READY, suggestion=""))
    assert not panel.suggestion.isVisible()


def test_both_halves_of_the_settings_are_one(panel):
    click(panel.plain_form.editor("largest_component"))
    panel.fold.unfold()
    settle()
    QTest.keyClick(panel.folded_form.editor("device"), Qt.Key.Key_Down)
    click(panel.plain_form.editor("fill_holes"))
    assert [config for _, config in panel.heard] == [
        InferenceConfig(largest_component=True),
        InferenceConfig(largest_component=True, device="cuda"),
        InferenceConfig(largest_component=True, device="cuda", fill_holes=True),
    ]
    panel.heard.clear()
    panel.show_state(replace(READY, inference=InferenceConfig(overlap=0.25)))
    assert panel.plain_form.config == panel.folded_form.config == InferenceConfig(overlap=0.25)
    assert not panel.plain_form.editor("fill_holes").isChecked()
    assert panel.heard == []


def test_showing_states_asks_for_nothing(panel):
    for state in (PredictState(), READY, replace(READY, uncertainty_visible=True, hidden=frozenset({2}))):
        panel.show_state(state)
        settle()
    assert panel.heard == []


@pytest.mark.parametrize(
    ("button", "signal", "name"),
    [
        ("save_mask", "save_mask_requested", "mask.nii.gz"),
        ("save_uncertainty", "save_uncertainty_requested", "uncertainty.nii.gz"),
        ("export_model", "export_model_requested", "model"),
    ],
)
def test_files_are_asked_for_where_the_state_says(panel, tmp_path, button, signal, name):
    click(getattr(panel, button))
    wait_for(lambda: panel.findChildren(SaveDialog))
    (dialog,) = panel.findChildren(SaveDialog)
    dialog.accept()
    assert panel.heard == [(signal, str(tmp_path / name))]
    wait_for(lambda: not panel.findChildren(SaveDialog))


def test_a_dialog_that_is_closed_asks_for_nothing(panel):
    click(panel.save_mask)
    (dialog,) = panel.findChildren(SaveDialog)
    dialog.reject()
    wait_for(lambda: not panel.findChildren(SaveDialog))
    assert panel.heard == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_fits_the_dock(theme):
    with shown(PredictPanel(), theme) as panel:
        for state in (PredictState(), READY):
            panel.show_state(state)
            panel.fold.unfold(state is READY)
            settle()
            assert panel.minimumSizeHint().width() <= panel.width()
            assert cut_off(panel) == []


def test_a_click_leaves_the_keys_where_they_were(panel):
    panel.opacity.setFocus()
    held = QApplication.focusWidget()
    assert held in panel.opacity.findChildren(QSlider)
    for widget in (panel.most_uncertain, panel.uncertainty, panel.classes.box(2), panel.fold.heading):
        click(widget)
        assert QApplication.focusWidget() is held
