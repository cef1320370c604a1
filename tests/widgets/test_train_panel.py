"""The Train panel, used as a hand does."""

from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QLineEdit, QWidget

from napari_sparseseg.settings import LIVE_TRAINING, NetworkConfig
from napari_sparseseg.widgets.snapshots import TrainState
from napari_sparseseg.widgets.train_panel import TrainPanel
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, cut_off, record, shown

SIGNALS = ("train_requested", "restart_requested", "settings_requested", "encoder_dropped")
READY = TrainState(why_not_start="")
LEARNING = TrainState(
    running=True,
    why_not_start="",
    sentence="learning from 3 slices · 41 s · agreement on held-out strokes 0.87",
    busy=True,
    shown="Shown: network and preview together. Their mean agrees best with the labels held out: 0.87, "
    "against 0.84 of the network and 0.79 of the preview.",
    losses=tuple((step, 1 / step) for step in range(1, 100)),
    agreements=((50, 0.8), (90, 0.87)),
)
BLOCKED = "Paint a few strokes of a class first."


@pytest.fixture(params=["dark", "light"])
def any_panel(request):
    with shown(TrainPanel(), request.param) as panel:
        yield panel


@pytest.fixture
def panel():
    with shown(TrainPanel(), height=1000) as made:
        made.heard = record(made, *SIGNALS)
        yield made


def test_start_asks_and_shows_only_what_it_is_told(panel):
    panel.show_state(READY)
    for running in (False, True):
        panel.show_state(replace(READY, running=running))
        words = panel.start.text()
        click(panel.start)
        assert panel.heard.pop() == ("train_requested", not running)
        assert panel.heard == []
        assert (panel.start.text(), panel.start.isChecked()) == (words, running)
    assert "Pause" in words


def test_a_disabled_start_says_why_in_the_tooltip_and_in_sight(panel):
    panel.show_state(TrainState(why_not_start=BLOCKED))
    assert panel.start.toolTip() == panel.sentence.text() == BLOCKED
    click(panel.start)
    assert panel.heard == []
    panel.show_state(TrainState(why_not_start=BLOCKED, sentence="getting ready to compute…"))
    assert panel.sentence.text() == f"Getting ready to compute…\n{BLOCKED}"
    panel.show_state(TrainState(why_not_start=BLOCKED, sentence=BLOCKED))
    assert panel.sentence.text() == BLOCKED


def test_who_learns_can_always_pause(panel):
    panel.show_state(replace(LEARNING, why_not_start=BLOCKED))
    click(panel.start)
    assert panel.heard == [("train_requested", False)]


def test_what_goes_on_is_told(panel):
    panel.show_state(LEARNING)
    assert panel.sentence.text().lower() == LEARNING.sentence.lower()
    assert panel.shown.text() == LEARNING.shown
    assert panel.busy.isVisible()
    assert panel.plot.view.isVisible()
    panel.show_state(replace(LEARNING, busy=False, shown=""))
    assert not panel.busy.isVisible()
    assert "No prediction" in panel.shown.text()


def test_showing_states_asks_for_nothing(panel):
    for state in (READY, LEARNING, replace(LEARNING, network=NetworkConfig(size="large")), TrainState()):
        panel.show_state(state)
        settle()
    assert panel.heard == []


def test_what_the_network_starts_from_is_said_and_can_be_dropped(panel):
    panel.show_state(READY)
    settle()
    assert not panel.origin.isVisible()
    assert not panel.drop.isVisible()
    panel.show_state(replace(READY, has_encoder=True, start="the encoder “Jigsaw puzzle 2”"))
    settle()
    assert panel.origin.isVisible()
    assert panel.origin.text() == "Starts from the encoder “Jigsaw puzzle 2”."
    assert panel.drop.toolTip()
    click(panel.drop)
    QTest.keyClick(panel.drop, Qt.Key.Key_Space)
    assert panel.heard == [("encoder_dropped",)] * 2
    assert panel.drop.isVisible()


def test_nothing_below_moves_when_the_sentence_or_the_busy_mark_changes(panel):
    panel.show_state(LEARNING)
    settle()
    before = panel.plot.pos(), panel.sentence.size()
    panel.show_state(replace(LEARNING, sentence="", busy=False))
    settle()
    assert (panel.plot.pos(), panel.sentence.size()) == before


def test_learning_anew_is_asked_about_without_stopping_the_work(panel):
    assert not panel.anew.isEnabled()
    assert panel.anew.toolTip() == "Nothing has been learnt yet."
    panel.show_state(LEARNING)
    for answer in ("decline", "escape", "forgotten"):
        click(panel.anew)
        assert panel.anew_question.isVisible()
        assert QApplication.activeModalWidget() is None
        assert not panel.findChildren(QDialog)
        if answer == "decline":
            click(panel.anew_question.decline_button)
        elif answer == "escape":
            QTest.keyClick(panel.anew_question.decline_button, Qt.Key.Key_Escape)
        else:
            panel.show_state(READY)
            panel.show_state(LEARNING)
        assert not panel.anew_question.isVisible()
        assert panel.heard == []
    click(panel.anew)
    click(panel.anew_question.accept_button)
    assert panel.heard == [("restart_requested",)]
    assert not panel.anew_question.isVisible()


def choose_size(panel):
    """Choose the next larger network by a key."""
    panel.settings.unfold()
    QTest.keyClick(panel.settings.network_form.editor("size"), Qt.Key.Key_Down)


def test_settings_are_used_at_once_while_nothing_has_been_learnt(panel):
    panel.show_state(READY)
    choose_size(panel)
    assert panel.heard == [("settings_requested", LIVE_TRAINING, NetworkConfig(size="medium"))]


def test_settings_that_cost_what_was_learnt_wait_for_a_word(panel):
    panel.show_state(LEARNING)
    settings = panel.settings
    assert not settings.use.isEnabled()
    assert settings.use.toolTip() == "Change a setting first."
    choose_size(panel)
    panel.show_state(replace(LEARNING, sentence="learning from 3 slices · 42 s"))
    assert panel.heard == []
    assert settings.network_form.config == NetworkConfig(size="medium")
    settings.unfold(False)
    assert "not used yet" in settings.heading.text()
    settings.unfold()
    settle()
    click(settings.use)
    ((_, training, network),) = panel.heard
    assert (training, network) == (LIVE_TRAINING, NetworkConfig(size="medium"))
    panel.show_state(replace(READY, network=network))
    assert "not used yet" not in settings.heading.text()
    assert not settings.use.isEnabled()


def test_settings_can_be_taken_back_and_set_to_the_defaults(panel):
    in_use = replace(LEARNING, network=NetworkConfig(size="large"))
    panel.show_state(in_use)
    settings = panel.settings
    settings.unfold()
    settle()
    click(settings.defaults)
    assert settings.network_form.config == NetworkConfig()
    assert not settings.defaults.isEnabled()
    click(settings.back)
    assert settings.network_form.config == in_use.network
    assert panel.heard == []


def test_settings_from_elsewhere_take_the_place_of_what_was_entered(panel):
    panel.show_state(LEARNING)
    choose_size(panel)
    other = replace(LEARNING, training=replace(LIVE_TRAINING, batch_size=2))
    panel.show_state(other)
    assert panel.settings.network_form.config == other.network
    assert panel.settings.training_form.config == other.training
    assert panel.heard == []


def test_settings_that_make_no_sense_live_are_not_there(panel):
    names = {w.accessibleName() for w in panel.settings.findChildren(QWidget)}
    assert not {"Seconds", "Steps"} & names
    assert {"Size", "Patch voxels", "Learning rate", "Device"} <= names


def test_text_fits_the_dock(any_panel):
    begun = replace(
        READY, has_encoder=True, start="the encoder “Tell pieces apart, with a memory 12” of this project"
    )
    for state in (TrainState(), READY, begun, LEARNING):
        any_panel.show_state(state)
        any_panel.settings.unfold(state is LEARNING)
        if state is LEARNING:
            choose_size(any_panel)
            any_panel.anew_question.ask()
        settle()
        assert any_panel.minimumSizeHint().width() <= any_panel.width()
        assert cut_off(any_panel) == []


def test_the_keyboard_reaches_everything_that_is_shown_in_order(panel):
    panel.show_state(LEARNING)
    panel.start.setFocus()
    wait_for(panel.start.hasFocus)
    order = [panel.start]
    for _ in range(2):
        QTest.keyClick(order[-1], Qt.Key.Key_Tab)
        order.append(QApplication.focusWidget())
    assert order == [panel.start, panel.settings.heading, panel.anew]
    QTest.keyClick(panel.anew, Qt.Key.Key_Space)
    assert QApplication.focusWidget() is panel.anew_question.decline_button
    panel.settings.unfold()
    settle()
    panel.settings.heading.setFocus()
    reached = set()
    while (focus := QApplication.focusWidget()) is not panel.anew and focus not in reached:
        reached.add(focus)
        QTest.keyClick(focus, Qt.Key.Key_Tab)
    for form in (panel.settings.network_form, panel.settings.training_form):
        assert form.editor("device" if form is panel.settings.training_form else "size") in reached
    assert panel.anew is QApplication.focusWidget()


def test_a_click_leaves_the_keys_where_they_were(panel):
    elsewhere = QLineEdit(panel.window())
    elsewhere.show()
    elsewhere.setFocus()
    wait_for(elsewhere.hasFocus)
    panel.show_state(LEARNING)
    for button in (panel.start, panel.settings.heading, panel.anew, panel.anew_question.decline_button):
        click(button)
        assert elsewhere.hasFocus()
