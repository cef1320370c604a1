"""The Boxes panel, used as a hand does."""

from dataclasses import fields, replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QFileDialog, QLabel, QLineEdit

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.settings import BoxConfig, CrfConfig, RecursionConfig
from napari_sparseseg.widgets.boxes_panel import BoxesPanel
from napari_sparseseg.widgets.save_dialog import SaveDialog
from napari_sparseseg.widgets.snapshots import BoxesState, BoxRow, RoundRow
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, cut_off, record, shown, turn_wheel

SIGNALS = (
    "class_select_requested", "draw_requested", "box_chosen", "box_class_requested", "box_range_requested",
    "box_delete_requested", "import_requested", "export_requested", "settings_requested", "run_requested",
    "cancel_requested", "round_shown_requested", "keep_requested", "clear_kept_requested", "truth_requested",
)  # fmt: skip
TABLE = ClassTable((
    LabelClass(0, "background", "#666666"),
    LabelClass(2, "liver", "#56b4e9"),
    LabelClass(3, "a name that is far too long for any dock at all", "#e69f00"),
))  # fmt: skip
ROWS = (
    BoxRow(1, 2, "142 × 138 × 120 mm", 12, 88),
    BoxRow(2, 3, "24.5 × 18.2 × 20.0 mm", 40, 40, "only 1 slice deep: set its first and last slice"),
)
ROUNDS = (RoundRow(0, "GrabCut, before training", 0.612), RoundRow(1, "round 1", 0.8), RoundRow(2, "round 2"))
READY = BoxesState(
    table=TABLE,
    rows=ROWS,
    chosen=2,
    slice_index=50,
    slice_count=120,
    rounds=ROUNDS,
    shown_round=1,
    truths=("strokes", "truth"),
    why_no_draw="",
    why_no_run="",
    why_no_keep="",
    why_no_clear="",
)


@pytest.fixture
def panel(tmp_path):
    with shown(BoxesPanel(), height=1100) as made:
        made.show_state(replace(READY, folder=str(tmp_path)))
        settle()
        made.heard = record(made, *SIGNALS)
        yield made


def choose(box, row):
    """Choose an entry of a combo box, as by its list."""
    box.setCurrentIndex(row)
    box.activated.emit(row)


def test_every_signal_of_the_contract_is_tried(panel):
    declared = {name for name in vars(BoxesPanel) if name.endswith("_requested") or name == "box_chosen"}
    assert declared == set(SIGNALS)


@pytest.mark.parametrize(
    ("reason", "button"),
    [
        ("why_no_draw", lambda panel: panel.draw),
        ("why_no_run", lambda panel: panel.run),
        ("why_no_keep", lambda panel: panel.rounds.keep),
        ("why_no_clear", lambda panel: panel.rounds.clear),
    ],
)
def test_a_button_that_cannot_be_used_says_why(panel, reason, button):
    assert button(panel).isEnabled()
    tip = button(panel).toolTip()
    panel.show_state(replace(READY, **{reason: "Because it is Sunday."}))
    assert not button(panel).isEnabled()
    assert button(panel).toolTip() == "Because it is Sunday."
    panel.show_state(READY)
    assert button(panel).isEnabled()
    assert button(panel).toolTip() == tip


def test_every_reason_of_the_state_is_in_the_test_above():
    reasons = {entry.name for entry in fields(BoxesState) if entry.name.startswith("why_")}
    assert reasons == {"why_no_draw", "why_no_run", "why_no_keep", "why_no_clear"}


def test_reasons_are_read_without_pointing_at_a_button(panel):
    panel.show_state(BoxesState())
    settle()
    assert panel.hint.text() == "Open an image first."
    assert panel.work.sentence.text() == "Draw a box first."
    assert panel.import_file.toolTip() == "Open an image first."
    assert panel.export_file.toolTip() == "There are no boxes yet."
    assert not panel.editing.isVisible()
    assert not panel.rounds.isVisible()


def test_drawing_can_be_left_even_where_it_could_not_begin(panel):
    click(panel.draw)
    assert not panel.draw.isChecked()  # a click only asks
    panel.show_state(replace(READY, drawing=True, why_no_draw="Masks are being made."))
    assert panel.draw.isChecked()
    click(panel.draw)
    assert panel.draw.isChecked()
    assert panel.heard == [("draw_requested", True), ("draw_requested", False)]


def test_the_class_of_a_new_box_and_of_the_chosen_one(panel):
    assert [panel.new_class.itemText(row) for row in range(panel.new_class.count())] == list(TABLE.names[1:])
    assert (panel.new_class.currentData(), panel.chosen_class.currentData()) == (2, 3)
    choose(panel.new_class, 1)
    choose(panel.chosen_class, 0)
    choose(panel.new_class, panel.new_class.currentIndex())
    assert panel.heard == [("class_select_requested", 3), ("box_class_requested", 2, 2)]
    assert (panel.new_class.currentData(), panel.chosen_class.currentData()) == (2, 3)


def test_combo_boxes_answer_keys_and_leave_the_wheel(panel):
    panel.draw.setFocus()
    for box in (panel.new_class, panel.chosen_class, panel.settings.method, panel.truth):
        assert not turn_wheel(box)
    assert panel.heard == []
    QTest.keyClick(panel.new_class, Qt.Key.Key_Down)
    assert panel.heard == [("class_select_requested", 3)]


def test_a_box_begins_or_ends_on_the_visible_slice(panel):
    click(panel.from_here)
    click(panel.to_here)
    panel.show_state(replace(READY, chosen=1, slice_index=90))
    click(panel.from_here)
    click(panel.to_here)
    panel.show_state(replace(READY, chosen=1, slice_index=3))
    click(panel.to_here)
    assert panel.heard == [
        ("box_range_requested", 2, 50, 50),
        ("box_range_requested", 2, 40, 50),
        ("box_range_requested", 1, 90, 90),
        ("box_range_requested", 1, 12, 90),
        ("box_range_requested", 1, 3, 3),
    ]
    panel.show_state(replace(READY, chosen=None))
    for widget in (panel.chosen_class, panel.from_here, panel.to_here):
        assert not widget.isEnabled()
        assert widget.toolTip() == "Choose a box in the list first."


def test_what_is_asked_in_the_list_comes_through(panel):
    line = panel.boxes.line(1)
    click(line.extent)
    click(line.delete)
    line.first.setFocus()
    QTest.keyClick(line.first, Qt.Key.Key_Up)
    assert panel.heard == [
        ("box_chosen", 1),
        ("box_delete_requested", 1),
        ("box_range_requested", 1, 13, 88),
    ]


def test_masks_are_made_and_stopped_with_one_button(panel):
    click(panel.run)
    assert not panel.run.isChecked()
    assert not panel.work.progress.isVisible()
    panel.show_state(replace(READY, running=True, sentence="box 1 of 2", why_no_run="It runs already."))
    assert panel.run.text() == "Stop"
    assert panel.run.isEnabled()
    assert panel.work.progress.isVisible()
    assert panel.work.progress.maximum() == 0  # which moves to and fro
    assert panel.work.sentence.text() == "Box 1 of 2"
    panel.show_state(replace(READY, running=True, progress=0.4))
    assert panel.work.progress.value() / panel.work.progress.maximum() == 0.4
    click(panel.run)
    assert panel.run.isChecked()
    assert panel.heard == [("run_requested",), ("cancel_requested",)]


@pytest.mark.parametrize(("count", "shown_lines"), [(0, 1), (1, 1), (4, 4), (5, 5), (9, 5)])
def test_at_most_four_notes_are_shown(panel, count, shown_lines):
    notes = tuple(f"box {number} (liver): fell back to box_inner" for number in range(count))
    panel.show_state(replace(READY, notes=notes))
    lines = panel.work.notes.text().split("\n")
    assert panel.work.notes.isVisible() == bool(count)
    assert len(lines) == shown_lines
    if count > 4:
        assert lines[-1] == f"and {count - 4} more"
        assert panel.work.notes.toolTip().split("\n") == list(notes)


def test_settings_are_asked_for_together(panel):
    settings = panel.settings
    choose(settings.method, settings.method.findData("consensus"))
    settings.recursion_fold.unfold()
    settle()
    click(settings.recursion_form.editor("denoise").box("crf"))
    changed = BoxConfig(method="consensus"), RecursionConfig(denoise="class,outside,reset,ignore")
    assert panel.heard == [
        ("settings_requested", changed[0], RecursionConfig(), CrfConfig()),
        ("settings_requested", *changed, CrfConfig()),
    ]


def test_rounds_are_shown_kept_and_taken_out(panel):
    rounds = panel.rounds
    click(rounds.list.button(2))
    click(rounds.keep)
    click(rounds.clear)
    choose(panel.truth, 1)
    assert panel.truth.currentText() == "my strokes"
    assert panel.heard == [
        ("round_shown_requested", 2),
        ("keep_requested", 1),
        ("clear_kept_requested",),
        ("truth_requested", "truth"),
    ]
    panel.show_state(replace(READY, shown_round=None))
    assert not rounds.keep.isEnabled()
    assert rounds.keep.toolTip() == "Choose a round first."


def test_labels_kept_earlier_can_be_taken_out_without_any_round(panel):
    panel.show_state(replace(READY, rounds=(), shown_round=None, why_no_keep="There are none."))
    assert panel.rounds.isVisible()
    assert panel.rounds.clear.isEnabled()
    panel.show_state(replace(READY, rounds=(), why_no_clear="Nothing is kept."))
    assert not panel.rounds.isVisible()


def test_the_plot_is_there_where_agreement_is_known(panel):
    plot = panel.rounds.plot
    assert plot.isVisible()
    assert [list(values) for values in plot.curve.getData()] == [[0, 1], [0.612, 0.8]]
    panel.show_state(replace(READY, rounds=(RoundRow(0, "GrabCut"), RoundRow(1, "round 1", float("nan")))))
    assert not plot.isVisible()


def test_boxes_are_written_where_the_state_says(panel, tmp_path):
    click(panel.export_file)
    (dialog,) = panel.findChildren(SaveDialog)
    box = next(box for box in dialog.findChildren(QComboBox) if box.findText("JSON (*.json)") >= 0)
    assert dialog.selectedFiles() == [str(tmp_path / "boxes.csv")]
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Down)
    dialog.accept()
    assert panel.heard == [("export_requested", str(tmp_path / "boxes.json"))]
    wait_for(lambda: not panel.findChildren(SaveDialog))


def test_boxes_are_read_from_a_file_while_the_window_stays_usable(panel, tmp_path):
    (tmp_path / "boxes.csv").touch()
    click(panel.import_file)
    (dialog,) = panel.findChildren(QFileDialog)
    assert dialog.directory().absolutePath() == str(tmp_path)
    line = dialog.findChild(QLineEdit)
    line.setFocus()
    QTest.keyClicks(line, "boxes.csv")
    QTest.keyClick(line, Qt.Key.Key_Return)
    assert panel.heard == [("import_requested", str(tmp_path / "boxes.csv"))]
    wait_for(lambda: not panel.findChildren(QFileDialog))
    click(panel.import_file)
    panel.findChildren(QFileDialog)[0].reject()
    wait_for(lambda: not panel.findChildren(QFileDialog))
    assert len(panel.heard) == 1


def test_showing_states_asks_for_nothing(panel):
    many = tuple(BoxRow(number, 2 + number % 2, "20 mm", number, number) for number in range(3, 40))
    for state in (
        BoxesState(),
        READY,
        replace(READY, rows=many, chosen=30, selected=3, drawing=True, running=True, progress=0.5),
        replace(READY, boxes=BoxConfig(method="box"), recursion=RecursionConfig(rounds=3, denoise="none")),
        replace(READY, crf=CrfConfig(crf_iterations=9), truth="truth", shown_round=0, kept_round=2),
        replace(READY, slice_count=20, rows=(BoxRow(2, 9, "of a class that is gone", 0, 30),)),
    ):
        panel.show_state(state)
        settle()
    assert panel.heard == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_fits_the_dock(theme):
    notes = tuple(f"box {number} (liver): little was found; fell back to the middle" for number in range(9))
    long = replace(READY, sentence="GrabCut with edges: box 2 of 30 is being cut", notes=notes, kept_round=0)
    with shown(BoxesPanel(), theme) as panel:
        settings = panel.settings
        for state in (BoxesState(), long, replace(long, running=True, drawing=True)):
            panel.show_state(state)
            for fold in (settings.box_fold, settings.recursion_fold, settings.crf_fold):
                fold.unfold(state is not long)
            settle()
            assert panel.minimumSizeHint().width() <= panel.width()
            extents = {panel.boxes.line(number).extent.text() for number in panel.boxes.numbers}
            assert set(cut_off(panel)) - {"×", *(text for text in extents if text.endswith("…"))} == set()


def test_a_click_leaves_the_keys_where_they_were(panel):
    panel.boxes.line(2).first.setFocus()
    held = QApplication.focusWidget()
    for widget in (panel.draw, panel.from_here, panel.run, panel.settings.recursion_fold.heading,
                   panel.rounds.keep, panel.rounds.list.button(0), panel.boxes.line(1),
                   panel.boxes.line(1).delete):  # fmt: skip
        click(widget)
        assert QApplication.focusWidget() is held


def test_tab_goes_through_the_panel_from_top_to_bottom(panel):
    panel.show_state(replace(READY, rows=(BoxRow(7, 2, "9 mm", 1, 2), *ROWS, BoxRow(9, 2, "9 mm", 1, 2))))
    settle()
    panel.new_class.setFocus()
    passed = []
    while not passed or QApplication.focusWidget() is not panel.new_class:
        passed.append(QApplication.focusWidget())
        assert len(passed) < 60, "Tab does not come back"
        QTest.keyClick(passed[-1], Qt.Key.Key_Tab)
    lines = [panel.boxes.line(number) for number in (7, 1, 2, 9)]
    chosen = lines[2]
    expected = [
        panel.new_class, panel.draw, lines[0], lines[1], *chosen.tab_stops(), lines[3], panel.chosen_class,
        panel.from_here, panel.to_here, panel.import_file, panel.export_file, panel.settings.method,
    ]  # fmt: skip
    assert passed[: len(expected)] == expected
    buttons = [panel.rounds.list.button(number) for number in (0, 1, 2)]
    assert passed[-5:] == [*buttons, panel.rounds.keep, panel.rounds.clear]


def test_everything_is_named_for_those_who_cannot_see_it(panel):
    for widget in (panel.new_class, panel.chosen_class, panel.work.progress, panel.work.sentence,
                   panel.work.notes, panel.boxes, panel.settings.method, panel.truth, panel.rounds.plot,
                   panel.boxes.line(2).first, panel.boxes.line(2).delete):  # fmt: skip
        assert widget.accessibleName()
    assert panel.boxes.line(2).accessibleName() == (
        f"Box 2, {TABLE.names[2]}, 24.5 × 18.2 × 20.0 mm, slices 40 to 40, "
        "only 1 slice deep: set its first and last slice, chosen"
    )
    labels = {label.text(): label for label in panel.findChildren(QLabel)}
    assert labels["Box 2 is"].buddy() is panel.chosen_class
    assert labels["Compare rounds with"].buddy() is panel.truth
