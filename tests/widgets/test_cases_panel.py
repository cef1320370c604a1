"""The Cases panel, used as a hand does."""

from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_sparseseg.cohort_records import CohortCase, Judgement, LabelCount
from napari_sparseseg.widgets.cases_network_view import breakable
from napari_sparseseg.widgets.cases_panel import CasesPanel
from napari_sparseseg.widgets.cohort_snapshots import CasesState
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, cut_off, record, shown, turn_wheel

SIGNALS = (
    "add_requested", "remove_requested", "done_requested", "filter_requested", "search_requested",
    "open_requested", "next_requested", "previous_requested", "pictures_wanted", "train_requested",
    "advice_requested", "advised_requested", "cancel_requested", "minutes_requested",
)  # fmt: skip
LONG = "patient_0001_portal_venous_phase_thorax_abdomen_pelvis_1mm"
ROWS = (
    CohortCase("/a", "a", ("/a",)),
    CohortCase("/b", LONG, ("/b",), number=1, labels=LabelCount(3, 9), dice=0.5,
               judgement=Judgement(0.25)),
    CohortCase("/c", "c", ("/c",), number=2, labels=None, done=True),
    CohortCase("/d", "d", ("/d",), problem="The file is not there any more."),
)  # fmt: skip
ALLOWED = {entry.name: "" for entry in fields(CasesState) if entry.name.startswith("why_")}
READY = CasesState(
    rows=ROWS,
    counts={"all": 40, "unlabelled": 30, "work": 8, "done": 2},
    opened="/b",
    advised="/a",
    advice=f"{LONG}: the network is least sure here: 0.31, the others 0.12 on average.",
    quality=f"Dice 0.84 on labels held out, mean of 8 cases; lowest: {LONG}, 0.61.",
    **ALLOWED,
)
LEARNING = replace(READY, running="cohort", progress=0.4, sentence="Learning: 1,200 steps.", notes=("Note.",))
JUDGING = replace(READY, running="judge", progress=0.4, sentence=f"Looking at {LONG}, 3 of 12…")
BUTTONS = {
    "why_no_train": lambda panel: panel.network.train,
    "why_no_advice": lambda panel: panel.network.ask,
    "why_no_advised": lambda panel: panel.network.open_advised,
    "why_no_next": lambda panel: panel.cases.next,
    "why_no_previous": lambda panel: panel.cases.previous,
}


@pytest.fixture
def panel():
    with shown(CasesPanel(), height=900) as made:
        made.show_state(READY)
        settle(0.15)
        made.heard = record(made, *SIGNALS)
        yield made


@pytest.fixture(params=["dark", "light"])
def any_panel(request):
    with shown(CasesPanel(), request.param) as made:
        yield made


def mark(panel, *places):
    """Mark rows as a mouse does."""
    cases = panel.cases.list
    for number, place in enumerate(places):
        middle = cases.visualRect(cases.model().index(place)).center()
        key = Qt.KeyboardModifier.ControlModifier if number else Qt.KeyboardModifier.NoModifier
        QTest.mouseClick(cases.viewport(), Qt.MouseButton.LeftButton, key, middle)
    settle()


def test_every_signal_is_tried():
    assert {name for name in vars(CasesPanel) if name.endswith(("_requested", "_wanted"))} == set(SIGNALS)


def test_every_reason_of_the_state_belongs_to_a_button():
    assert set(ALLOWED) == set(BUTTONS)


def test_a_button_that_cannot_be_used_says_why(panel):
    for reason, find in BUTTONS.items():
        button = find(panel)
        assert button.isEnabled()
        tip = button.toolTip()
        assert tip
        panel.show_state(replace(READY, **{reason: "Because it is Sunday."}))
        assert {name for name, each in BUTTONS.items() if not each(panel).isEnabled()} == {reason}
        assert button.toolTip() == "Because it is Sunday."
        panel.show_state(READY)
        assert button.isEnabled()
        assert button.toolTip() == tip


def test_a_click_and_a_key_only_ask(panel):
    mark(panel, 0)
    panel.heard.clear()
    network, cases = panel.network, panel.cases
    for button, asked in (
        (cases.open, ("open_requested", "/a")),
        (cases.next, ("next_requested",)),
        (cases.previous, ("previous_requested",)),
        (cases.done, ("done_requested", ("/a",), True)),
        (cases.remove, ("remove_requested", ("/a",))),
        (network.ask, ("advice_requested",)),
        (network.train, ("train_requested",)),
        (network.open_advised, ("advised_requested",)),
    ):
        click(button)
        assert panel.heard == [asked]
        panel.heard.clear()
    assert not network.train.isChecked()
    network.minutes.stepUp()
    assert panel.heard == [("minutes_requested", READY.minutes + 1)]
    assert network.minutes.value() == READY.minutes
    panel.heard.clear()
    turn_wheel(network.minutes)
    assert panel.heard == []
    cases.filter.setCurrentIndex(2)
    cases.filter.activated.emit(2)
    QTest.keyClicks(cases.search, "x")
    assert panel.heard == [("filter_requested", "work"), ("search_requested", "x")]
    assert cases.filter.currentIndex() == 0


def test_a_double_click_and_enter_open_a_case(panel):
    cases = panel.cases.list
    middle = cases.visualRect(cases.model().index(2)).center()
    QTest.mouseClick(cases.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    assert panel.heard == []
    QTest.mouseDClick(cases.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    assert panel.heard == [("open_requested", "/c")]
    QTest.keyClick(cases, Qt.Key.Key_Up)
    QTest.keyClick(cases, Qt.Key.Key_Return)
    assert panel.heard[1:] == [("open_requested", "/b")]


def test_several_cases_are_marked_at_once_and_stay_so(panel):
    assert [case.key for case in panel.cases.list.marked] == ["/b"]  # the open one
    mark(panel, 0, 2)
    assert not panel.cases.open.isEnabled()
    click(panel.cases.done)
    assert panel.heard == [("done_requested", ("/a", "/c"), True)]
    panel.show_state(replace(READY, rows=(ROWS[2], *ROWS[:2], replace(ROWS[3], problem=""))))
    assert [case.key for case in panel.cases.list.marked] == ["/c", "/a"]
    mark(panel, 0)
    assert panel.cases.done.text() == "Mark as not done"
    panel.heard.clear()
    click(panel.cases.done)
    assert panel.heard == [("done_requested", ("/c",), False)]
    panel.show_state(replace(READY, rows=()))
    assert panel.cases.list.marked == ()
    assert not panel.cases.remove.isEnabled()


def test_the_case_that_was_opened_is_marked_but_nothing_moves_below_the_hand(panel):
    cases = panel.cases.list
    panel.show_state(replace(READY, opening="/c"))
    panel.show_state(replace(READY, opened="/c"))
    assert [case.key for case in cases.marked] == ["/c"]
    panel.show_state(replace(READY, opened="/c", opening="/a"))
    mark(panel, 1)  # which shall be marked as done
    panel.show_state(replace(READY, opened="/a"))
    assert [case.key for case in cases.marked] == ["/b"]
    panel.show_state(replace(READY, opened="/c"))
    assert [case.key for case in cases.marked] == ["/c"]


def test_work_that_runs_is_stopped_where_it_was_begun(panel):
    for state, button, view, other in (
        (LEARNING, panel.network.train, panel.network.learning, panel.network.judging),
        (JUDGING, panel.network.ask, panel.network.judging, panel.network.learning),
    ):
        panel.show_state(replace(state, why_no_train="Wait.", why_no_advice="Wait."))
        settle()
        assert (button.text(), button.isChecked(), button.isEnabled()) == ("Stop", True, True)
        assert view.sentence.text() == breakable(state.sentence)
        assert view.progress.isVisible()
        assert not other.isVisible()
        panel.heard.clear()
        click(button)
        assert panel.heard == [("cancel_requested",)]
        panel.show_state(replace(READY, sentence="Stopped."))
        settle()
        assert view.sentence.text() == "Stopped."
        assert not view.progress.isVisible()
        assert not other.isVisible()


@pytest.mark.parametrize("state", [READY, LEARNING, JUDGING, CasesState(), replace(READY, rows=())])
def test_nothing_is_cut_off(any_panel, state):
    any_panel.show_state(replace(state, busy=f"Opening {LONG}…"[:44]))
    settle(0.05)
    assert any_panel.minimumSizeHint().width() <= 300
    assert any_panel.width() <= 320
    assert cut_off(any_panel) == []


def test_pictures_are_wanted_of_visible_lines_only(panel, tmp_path):
    many = tuple(CohortCase(f"/{n}", f"scan {n}", (f"/{n}",)) for n in range(1000))
    panel.show_state(replace(READY, rows=many, opened=""))
    wait_for(lambda: panel.heard)
    (asked,) = panel.heard
    assert asked[0] == "pictures_wanted"
    assert asked[1] == tuple(case.key for case in many[: len(asked[1])])
    assert 3 <= len(asked[1]) < 20
    panel.heard.clear()
    panel.cases.list.scrollToBottom()
    wait_for(lambda: panel.heard)
    assert panel.heard[0][1][-1] == "/999"
    file = tmp_path / "p.png"
    Image.fromarray(np.full((40, 60), 255, np.uint8)).save(file)
    before = panel.cases.list.grab().toImage()
    seen = tuple(replace(case, thumbnail=str(file)) for case in many)
    panel.show_state(replace(READY, rows=seen, opened=""))
    settle()
    assert panel.cases.list.grab().toImage() != before
    panel.heard.clear()
    settle(0.2)
    assert panel.heard == [("pictures_wanted", ())]


def test_each_state_looks_otherwise(panel):
    looks = []
    for change in (
        {}, {"done": True}, {"number": 1, "labels": LabelCount(1, 1)}, {"problem": "It is gone."},
        {"name": "b"},
    ):  # fmt: skip
        panel.show_state(replace(READY, rows=(replace(ROWS[0], **change),), opened=""))
        settle()
        looks.append(panel.cases.list.grab().toImage())
    assert all(one != other for n, one in enumerate(looks) for other in looks[:n])
    told = panel.cases.list.model().index(0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert told == "b, unlabelled"


def test_dropped_files_and_chosen_ones_are_added(panel):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile("/scans/a.nii"), QUrl.fromLocalFile("/scans"), QUrl("https://a.b/c")])
    event = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    panel.dropEvent(event)
    assert panel.heard == [("add_requested", ("/scans/a.nii", "/scans"))]
    panel.heard.clear()
    for number, action in enumerate(panel.cases.menu.actions()):
        action.trigger()
        settle()
        dialogs = [each for each in panel.findChildren(QFileDialog) if each.isVisible()]
        dialogs[0].filesSelected.emit([f"/scans/{number}"])
        dialogs[0].close()
        QApplication.sendPostedEvents(None, 0)
        settle()
    assert panel.heard == [("add_requested", (f"/scans/{number}",)) for number in range(3)]


def test_long_names_can_be_wrapped():
    assert breakable("a_b-c").replace("\u200b", "") == "a_b-c"
    assert "\u200b" in breakable(LONG)
    assert breakable("Dice 0.84 on labels") == "Dice 0.84 on labels"
