"""The form that is made from a settings dataclass."""

from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QCheckBox, QLabel, QSlider

from napari_sparseseg.settings import (
    DENOISING,
    LIVE_TRAINING,
    BoxConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)
from napari_sparseseg.widgets.settings_form import SettingsForm
from tests.widgets.conftest import wait_for
from tests.widgets.panel_window import click, cut_off, record, shown, turn_wheel

CLASSES = (NetworkConfig, TrainingConfig, InferenceConfig, BoxConfig, RecursionConfig, CrfConfig)
SLIDER = "overlap"


def values_of(entry):
    """Return a strategy for the values that a field may have."""
    metadata, minimum, maximum = entry.metadata, entry.metadata["minimum"], entry.metadata["maximum"]
    if metadata["choices"] is not None:
        return st.sampled_from(metadata["choices"])
    if metadata["several"] is not None:
        names = st.lists(st.sampled_from(metadata["several"]), unique=True)
        return names.map(lambda given: ",".join(given) or "none")
    if isinstance(entry.default, bool):
        return st.booleans()
    if isinstance(entry.default, int):
        return st.integers(minimum, 10**6 if maximum is None else maximum)
    return st.floats(minimum, 1000 if maximum is None else maximum)


def configs(config_class):
    return st.builds(config_class, **{entry.name: values_of(entry) for entry in fields(config_class)})


def inner_slider(form, name=SLIDER):
    (slider,) = form.editor(name).findChildren(QSlider)
    return slider


@pytest.mark.parametrize("config_class", CLASSES)
def test_every_field_has_a_row_that_says_what_it_is(config_class):
    with shown(SettingsForm(config_class())) as form:
        labels = {label.text(): label for label in form.findChildren(QLabel)}
        for entry in fields(config_class):
            editor, metadata = form.editor(entry.name), entry.metadata
            assert editor.toolTip() == editor.accessibleDescription() == metadata["help"]
            assert editor.accessibleName() == metadata["label"]
            if isinstance(editor, QCheckBox):
                assert editor.text() == metadata["label"]
            else:
                label = labels.get(metadata["label"]) or labels[f"{metadata['label']} %"]
                assert label.buddy() is editor
        assert cut_off(form) == []


@pytest.mark.parametrize("config_class", CLASSES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_what_is_shown_comes_back_exactly_and_says_nothing(config_class, data):
    form = SettingsForm(data.draw(configs(config_class)))
    heard = record(form, "changed")
    for _ in range(2):
        config = data.draw(configs(config_class))
        form.show_config(config)
        assert form.config == config
    assert heard == []
    # An edit changes its own field and leaves the others as exact as they were.
    name = fields(config_class)[-1].name
    editor = form.editor(name)
    editor.setFocus()
    QTest.keyClick(editor, Qt.Key.Key_Home)
    QTest.keyClick(editor, Qt.Key.Key_End)
    for _, changed in heard:
        assert replace(changed, **{name: getattr(config, name)}) == config
    form.deleteLater()


def test_a_number_is_taken_when_it_is_complete():
    with shown(SettingsForm(LIVE_TRAINING)) as form:
        heard, spin = record(form, "changed"), form.editor("learning_rate")
        assert spin.text() == "0.002"
        spin.setFocus()
        spin.selectAll()
        QTest.keyClicks(spin, "0.01")
        assert heard == []
        form.show_config(LIVE_TRAINING)  # the state comes again and again meanwhile
        assert spin.text() == "0.01"
        QTest.keyClick(spin, Qt.Key.Key_Return)
        assert heard == [("changed", replace(LIVE_TRAINING, learning_rate=0.01))]


def test_what_is_passed_while_dragging_is_not_asked_for():
    config = InferenceConfig(overlap=0.45)  # the middle of the slider
    with shown(SettingsForm(config)) as form:
        heard, slider = record(form, "changed"), inner_slider(form)
        middle = slider.rect().center()
        QTest.mousePress(slider, Qt.MouseButton.LeftButton, pos=middle)
        for step in range(1, 6):
            QTest.mouseMove(slider, middle + QPoint(5 * step, 0))
            QApplication.processEvents()
            form.show_config(config)
        assert form.editor(SLIDER).value() > 45
        assert heard == []
        QTest.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=middle + QPoint(25, 0))
        ((_, config),) = heard
        assert 0.45 < config.overlap <= 0.9
        assert config.overlap == round(config.overlap, 2)


def test_a_slider_answers_keys():
    with shown(SettingsForm(InferenceConfig())) as form:
        heard, slider = record(form, "changed"), inner_slider(form)
        QTest.keyClick(slider, Qt.Key.Key_End)
        QTest.keyClick(slider, Qt.Key.Key_Home)
        QTest.keyClick(slider, Qt.Key.Key_Right)
        assert [config.overlap for _, config in heard] == [0.9, 0.0, 0.05]


def test_choices_and_check_boxes_are_taken_at_once():
    with shown(SettingsForm(TrainingConfig())) as form:
        heard = record(form, "changed")
        QTest.keyClick(form.editor("device"), Qt.Key.Key_Down)
        click(form.editor("allow_flips"))
        assert [(config.device, config.allow_flips) for _, config in heard] == [
            ("cuda", False),
            ("cuda", True),
        ]


def test_fields_can_be_hidden_put_first_and_named():
    words = {"patch_voxels": {0: "automatic", 64**3: "64 × 64 × 64"}, "device": {"cpu": "processor"}}
    form = SettingsForm(TrainingConfig(), hidden=("seconds", "steps"), first=("patch_voxels",), words=words)
    labels = [label.text() for label in form.findChildren(QLabel)]
    assert not {"Seconds", "Steps"} & set(labels)
    assert labels[0] == "Patch voxels"
    assert form.editor("patch_voxels").currentText() == "automatic"
    assert form.editor("device").findText("processor") == form.editor("device").findData("cpu")
    heard = record(form, "changed")
    QTest.keyClick(form.editor("patch_voxels"), Qt.Key.Key_Down)
    assert heard == [("changed", TrainingConfig(patch_voxels=64**3))]
    form.show_config(TrainingConfig(patch_voxels=12345, seconds=7.0))  # from another program
    assert form.editor("patch_voxels").currentText() == "12345"
    assert form.config == TrainingConfig(patch_voxels=12345, seconds=7.0)
    form.deleteLater()


def test_the_wheel_changes_nothing_in_passing():
    with shown(SettingsForm(TrainingConfig(seed=9))) as form:
        heard = record(form, "changed")
        editors = [inner_slider(form, "final_share"), form.editor("seed"), form.editor("device")]
        for editor in editors:
            form.editor("allow_flips").setFocus()
            before = form.config
            assert not turn_wheel(editor)  # the dock scrolls instead
            assert form.config == before
            editor.setFocus()
            wait_for(editor.hasFocus)
            assert turn_wheel(editor)
            assert form.config != before
        assert len(heard) == len(editors)


def test_several_names_are_a_column_of_check_boxes():
    words = {"denoise": {"class": "Drop other classes"}}
    with shown(SettingsForm(RecursionConfig(), words=words)) as form:
        heard, column = record(form, "changed"), form.editor("denoise")
        assert [box.text() for box in column.findChildren(QCheckBox)] == [
            "Drop other classes",
            *DENOISING[1:],
        ]
        assert all(column.box(name).isChecked() for name in DENOISING)
        click(column.box("outside"))
        column.box("crf").setFocus()
        QTest.keyClick(column.box("crf"), Qt.Key.Key_Space)
        click(column.box("outside"))
        assert [config.denoise for _, config in heard] == [
            "class,reset,crf,ignore",
            "class,reset,ignore",
            "class,outside,reset,ignore",
        ]
        heard.clear()
        form.show_config(RecursionConfig(denoise="ignore, class"))
        assert [name for name in DENOISING if column.box(name).isChecked()] == ["class", "ignore"]
        assert form.config.denoise == "ignore, class"
        click(column.box("class"))
        click(column.box("ignore"))
        click(column.box("reset"))
        assert [config.denoise for _, config in heard] == ["ignore", "none", "reset"]


def test_some_rows_can_be_shown_alone_and_say_something_else():
    form = SettingsForm(CrfConfig(), helps={"crf_iterations": "How often."})
    with shown(form):
        assert form.editor("crf_iterations").toolTip() == "How often."
        config = form.config
        names = {entry.name for entry in fields(config)}
        for wanted in ({"crf_iterations"}, set(), names):
            form.show_only(wanted)
            assert {name for name in names if form.editor(name).isVisible()} == wanted
            texts = {label.text() for label in form.findChildren(QLabel) if label.isVisible()}
            assert len(texts) >= len(wanted)
            assert bool(texts) == bool(wanted)
        assert form.config == config
