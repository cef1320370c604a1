"""The Pre-train panel, used as a hand does."""

from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox, QFileDialog, QLineEdit, QWidget

from napari_sparseseg.pretraining_settings import (
    PRETEXT_TASKS,
    TASK_SETTINGS,
    PretextConfig,
    PretrainingConfig,
)
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.widgets.encoder_list import EncoderList
from napari_sparseseg.widgets.pretrain_panel import PretrainPanel
from napari_sparseseg.widgets.pretrain_snapshots import EncoderRow, PretrainState
from napari_sparseseg.widgets.pretrain_words import FAMILIES, TASK_WORDS, WITHIN
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, cut_off, record, shown, turn_wheel

SIGNALS = (
    "image_requested", "project_requested", "folder_requested", "settings_requested", "train_requested",
    "cancel_requested", "encoder_chosen", "use_requested", "delete_requested", "probe_requested",
    "clear_pictures_requested",
)  # fmt: skip
ROWS = (
    EncoderRow("/p/encoders/jigsaw-1", "jigsaw-1", "5 volumes, 1240 steps", 0.71),
    EncoderRow("/p/encoders/moco-2", "moco-2", "unfinished: 310 steps of 5 volumes, which is a long story"),
    EncoderRow("/p/encoders/byol-3", "byol-3", "5 volumes, 900 steps", 0.5),
)
FIRST, SECOND, THIRD = (row.folder for row in ROWS)
ALLOWED = {entry.name: "" for entry in fields(PretrainState) if entry.name.startswith("why_")}
READY = PretrainState(
    project_count=4,
    folder="/data/hippocampus",
    folder_count=60,
    encoders=ROWS,
    chosen=FIRST,
    used=THIRD,
    probes=(("", 0.52), ("jigsaw-1", 0.71), ("byol-3", 0.5)),
    losses=((1, 1.5), (100, 0.7), (200, 0.4)),
    figures=((0, 0.04), (200, 0.63)),
    trivial=1 / 26,
    alignments=((0, 1.0), (200, 0.25)),
    uniformities=((0, -0.2), (200, -2.5)),
    spread=0.6,
    pictured=True,
    **ALLOWED,
)
LEARNING = replace(READY, running="pretrain", progress=0.4, sentence="learning, 66 s left")
PROBING = replace(READY, running="probe", progress=0.4, sentence="comparing 3 encoders")
BUTTONS = {
    "why_no_project": lambda panel: panel.sources.project,
    "why_no_train": lambda panel: panel.learning.run,
    "why_no_probe": lambda panel: panel.encoders.run,
    "why_no_use": lambda panel: panel.encoders.use,
    "why_no_delete": lambda panel: panel.encoders.delete,
    "why_no_clear_pictures": lambda panel: panel.learning.clear_pictures,
}


@pytest.fixture
def panel():
    with shown(PretrainPanel(), height=1700) as made:
        made.show_state(READY)
        settle()
        made.heard = record(made, *SIGNALS)
        yield made


@pytest.fixture(params=["dark", "light"])
def any_panel(request):
    with shown(PretrainPanel(), request.param) as made:
        yield made


def choose(box, row):
    """Choose an entry of a combo box, as by its list."""
    box.setCurrentIndex(row)
    box.activated.emit(row)


def test_every_signal_is_tried():
    names = {name for name in vars(PretrainPanel) if name.endswith(("_requested", "_chosen"))}
    assert names == set(SIGNALS)


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
    for find, asked in (
        (lambda panel: panel.sources.image, ("image_requested", False)),
        (lambda panel: panel.sources.project, ("project_requested", True)),
        (lambda panel: panel.sources.clear, ("folder_requested", "")),
        (lambda panel: panel.learning.run, ("train_requested",)),
        (lambda panel: panel.learning.clear_pictures, ("clear_pictures_requested",)),
        (lambda panel: panel.encoders.list.button(SECOND), ("encoder_chosen", SECOND)),
        (lambda panel: panel.encoders.use, ("use_requested", FIRST)),
        (lambda panel: panel.encoders.stop_using, ("use_requested", "")),
        (lambda panel: panel.encoders.run, ("probe_requested",)),
    ):
        button = find(panel)
        ticked = button.isChecked()
        panel.heard.clear()
        click(button)
        QTest.keyClick(button, Qt.Key.Key_Space)
        assert panel.heard == [asked, asked]
        assert button.isChecked() is ticked


def test_a_state_asks_for_nothing_and_one_that_is_equal_changes_nothing(panel, monkeypatch):
    for state in (PretrainState(), LEARNING, PROBING, READY):
        panel.show_state(state)
        settle()
    assert panel.heard == []
    for view in (panel.sources, panel.task, panel.learning, panel.encoders):
        monkeypatch.delattr(type(view), "show_state")
    panel.show_state(replace(READY))


def test_before_an_image_is_open_the_reason_is_read_without_pointing_at_a_button(panel):
    panel.show_state(PretrainState())
    settle()
    assert panel.learning.work.sentence.text() == "Open an image first."
    assert not panel.learning.course.isVisible()
    assert not panel.encoders.list.isVisible()
    assert not panel.encoders.plot.isVisible()
    assert not panel.encoders.honest.isVisible()
    assert panel.encoders.start.text().startswith("What the network learns without labels")
    assert not any(find(panel).isEnabled() for find in BUTTONS.values())
    assert panel.task.configs[0].seconds == 120


def test_which_volumes_are_learnt_from(panel):
    sources = panel.sources
    assert (sources.image.isChecked(), sources.project.isChecked()) == (True, False)
    assert sources.project.text() == "Other images of the project (4)"
    assert sources.folder.whole_text == "hippocampus · 60 volumes"
    assert "/data/hippocampus" in sources.folder.toolTip()
    panel.show_state(replace(READY, uses_image=False, uses_project=True, folder_count=1))
    assert (sources.image.isChecked(), sources.project.isChecked()) == (False, True)
    assert sources.folder.whole_text == "hippocampus · 1 volume"
    panel.show_state(replace(READY, folder="", folder_count=0))
    assert sources.folder.whole_text == "no folder"
    assert not sources.clear.isEnabled()


def test_what_is_ticked_can_always_be_taken_back(panel):
    panel.show_state(replace(READY, uses_project=True, why_no_project="There are none."))
    assert panel.sources.project.isEnabled()
    click(panel.sources.project)
    assert panel.heard == [("project_requested", False)]


def test_a_folder_is_asked_for(panel, tmp_path):
    (tmp_path / "scans").mkdir()
    panel.show_state(replace(READY, folder=str(tmp_path)))
    click(panel.sources.choose)
    (dialog,) = panel.findChildren(QFileDialog)
    line = dialog.findChild(QLineEdit)
    line.setFocus()
    line.clear()
    QTest.keyClicks(line, "scans")
    QTest.keyClick(line, Qt.Key.Key_Return)
    wait_for(lambda: not panel.findChildren(QFileDialog))
    assert panel.heard == [("folder_requested", str(tmp_path / "scans"))]


def test_every_task_has_its_place_and_plain_words():
    assert set(TASK_WORDS) == set(PRETEXT_TASKS)
    placed = [task for tasks in FAMILIES.values() for task in tasks]
    assert sorted(placed) == sorted(PRETEXT_TASKS)
    titles = [title for title, _ in TASK_WORDS.values()]
    assert len(set(titles)) == len(titles)
    assert all(words.endswith(".") for _, words in TASK_WORDS.values())


def test_a_task_is_explained_and_shows_its_own_settings_only(panel):
    panel.task.fold.unfold()
    form = panel.task.pretext_form
    for task in PRETEXT_TASKS:
        panel.show_state(replace(READY, config=PretrainingConfig(task=task, seconds=120)))
        settle()
        title, words = TASK_WORDS[task]
        assert panel.task.task.currentText().strip() == title
        assert panel.task.explanation.text() == words
        assert task in panel.task.task.toolTip()
        visible = {entry.name for entry in fields(PretextConfig) if form.editor(entry.name).isVisible()}
        assert visible == set(TASK_SETTINGS[task])
        tips = [form.editor(name).toolTip() for name in visible]
        assert not any(tip.startswith(f"{task}:") or f"{task}, " in tip for tip in tips)
        assert cut_off(panel.task) == []
    assert panel.heard == []


def test_tasks_are_chosen_by_family_and_families_cannot_be(panel):
    box = panel.task.task
    headings = [row for row in range(box.count()) if box.itemData(row) is None]
    assert [box.itemText(row) for row in headings] == list(FAMILIES)
    assert not any(box.model().item(row).isEnabled() for row in headings)
    choose(box, box.findData("moco"))
    choose(box, box.currentIndex())
    assert panel.heard == [
        ("settings_requested", replace(READY.config, task="moco"), READY.pretext)
    ]  # fmt: skip
    panel.show_state(replace(READY, config=replace(READY.config, task="colorization")))
    settle()
    panel.heard.clear()
    QTest.keyClick(box, Qt.Key.Key_Down)  # past a heading
    assert panel.heard[0][1].task == FAMILIES["See how things lie"][0]


def test_the_budget_is_said_in_minutes_and_takes_the_place_of_steps(panel):
    box = panel.task.minutes
    assert box.text() == "2.0 minutes"
    panel.show_state(replace(READY, config=PretrainingConfig(seconds=90, steps=40)))
    assert box.text() == "1.5 minutes"
    QTest.keyClick(box, Qt.Key.Key_Up)
    ((_, config, pretext),) = panel.heard
    assert (config, pretext) == (PretrainingConfig(seconds=150, steps=0), READY.pretext)
    box.selectAll()
    QTest.keyClicks(box, "10")
    assert len(panel.heard) == 1  # a number is taken when it is complete
    panel.show_state(replace(LEARNING, config=config))
    assert "10" in box.text()  # what is being typed stays
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert panel.heard[-1][1].seconds == 600
    panel.show_state(replace(READY, config=PretrainingConfig()))
    assert box.text() == "not said yet"


def test_changed_settings_are_asked_for_together_and_add_up(panel):
    panel.task.fold.unfold()
    panel.show_state(replace(READY, config=PretrainingConfig(task="jigsaw", seconds=120)))
    settle()
    QTest.keyClick(panel.task.form.editor("batch_size"), Qt.Key.Key_Up)
    QTest.keyClick(panel.task.pretext_form.editor("tiles"), Qt.Key.Key_Up)
    QTest.keyClick(panel.task.minutes, Qt.Key.Key_Up)
    batch = PretrainingConfig(task="jigsaw", seconds=120, batch_size=9)
    tiles = replace(PretextConfig(), tiles=3)
    assert panel.heard == [
        ("settings_requested", batch, PretextConfig()),
        ("settings_requested", batch, tiles),
        ("settings_requested", replace(batch, seconds=180), tiles),
    ]


def test_settings_that_are_said_elsewhere_are_not_said_twice(panel):
    names = {part.accessibleName() for part in panel.task.form.findChildren(QWidget)}
    assert not {"Task", "Seconds", "Steps"} & names
    assert {"Learning rate", "Piece voxels", "Device", "Seed"} <= names
    panel.show_state(replace(READY, network=NetworkConfig(architecture="segresnet", size="large")))
    assert panel.task.network.text().endswith("(SegResNet, large).")


@pytest.mark.parametrize(
    ("state", "section", "reason"),
    [(LEARNING, "learning", "why_no_train"), (PROBING, "encoders", "why_no_probe")],
)
def test_work_is_stopped_with_the_button_that_began_it(panel, state, section, reason):
    view = getattr(panel, section)
    other = panel.encoders if section == "learning" else panel.learning
    busy = replace(state, notes=("Mind this.",), progress=None, **{reason: "It runs already."})
    panel.show_state(busy)
    settle()
    assert (view.run.text(), view.run.isChecked(), view.run.isEnabled()) == ("Stop", True, True)
    assert view.work.progress.isVisible()
    assert view.work.progress.maximum() == 0  # which moves to and fro
    assert view.work.sentence.text().lower() == state.sentence
    assert view.work.notes.text() == "• Mind this."
    assert other.run.text() != "Stop"
    assert other.work.sentence.text() == ""
    panel.show_state(state)
    assert view.work.progress.value() / view.work.progress.maximum() == 0.4
    click(view.run)
    assert view.run.isChecked()
    assert panel.heard == [("cancel_requested",)]
    panel.show_state(replace(READY, sentence="stopped"))
    settle()
    assert view.work.sentence.text() == "Stopped"  # it stays where the work was begun
    assert not view.work.progress.isVisible()
    assert other.work.sentence.text() == ""


@pytest.mark.parametrize("section", ["learning", "encoders"])
def test_a_double_click_does_not_stop_what_it_began(panel, section):
    button = getattr(panel, section).run
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    panel.show_state(LEARNING if section == "learning" else PROBING)
    QTest.mouseDClick(button, Qt.MouseButton.LeftButton)
    assert len(panel.heard) == 1


def test_how_well_the_task_is_solved_is_said_in_words(panel):
    figure = panel.learning.figure
    assert figure.text() == "Solves the task in 63 % of the cases (guessing: 4 %)."
    panel.show_state(replace(READY, within_volume=True))
    assert figure.text().endswith(WITHIN)
    panel.show_state(replace(READY, figure="error", figures=((200, 0.41),), trivial=0.62))
    assert figure.text() == "Error 0.41 (guessing: 0.62); smaller is better."
    panel.show_state(replace(READY, figure="error", figures=((200, 0.7),), trivial=0.62))
    assert "no better" in figure.text()
    panel.show_state(replace(READY, figures=((200, 0.03),)))
    assert "no better" in figure.text()
    panel.show_state(replace(READY, figures=((200, 0.03),), trivial=None))
    assert figure.text() == "Solves the task in 3 % of the cases."
    panel.show_state(replace(LEARNING, figures=(), within_volume=True))
    assert figure.text() == "How well it solves the task is not measured yet."


def test_collapse_is_said_and_looks_like_a_warning(panel):
    features = panel.learning.features
    assert features.text() == "Features are spread well (0.60 of 1). Both curves: the lower, the better."
    usual = features.grab().toImage().pixelColor(1, features.height() - 2)
    panel.show_state(replace(READY, spread=0.02, collapsed=True))
    settle()
    assert "collapsed" in features.text()
    assert features.grab().toImage().pixelColor(1, features.height() - 6) != usual
    panel.show_state(replace(READY, spread=None))
    assert features.text() == ""


def test_pictures_can_be_removed_while_there_are_some(panel):
    learning = panel.learning
    assert "Beside the image:" in learning.pictures.text()
    panel.show_state(replace(READY, pictured=False, why_no_clear_pictures="There are none."))
    assert "while it learns" in learning.pictures.text()
    assert not learning.clear_pictures.isEnabled()


def test_why_learning_cannot_begin_is_said_after_an_outcome_too(panel):
    state = replace(READY, sentence="The encoder has learnt.")
    panel.show_state(state)
    assert panel.learning.work.sentence.text() == "The encoder has learnt."
    panel.show_state(replace(state, why_no_train="Choose what to learn from."))
    assert panel.learning.work.sentence.text() == "Choose what to learn from."


def test_nothing_moves_while_it_learns(panel):
    begun = replace(
        LEARNING, losses=(), figures=(), alignments=(), uniformities=(), spread=None, trivial=None,
        pictured=False, progress=None, sentence="",
    )  # fmt: skip
    panel.show_state(begun)
    settle()

    def places():
        return [
            (part.pos(), part.size())
            for part in (*panel.learning.course.findChildren(QWidget), panel.encoders)
            if part.isVisible() and part.parentWidget() in (panel.learning.course, panel)
        ]

    before = places()
    for state in (
        replace(begun, sentence="learning from 60 volumes, 41 s left", losses=((1, 1.0),)),
        LEARNING,
        replace(LEARNING, within_volume=True, figures=((200, 0.1),)),
        replace(LEARNING, spread=0.01, collapsed=True),
    ):
        panel.show_state(state)
        settle()
        assert places() == before
    encoders = panel.encoders
    panel.show_state(replace(PROBING, probes=()))
    settle()
    heights = encoders.height(), encoders.plot.height()
    panel.show_state(PROBING)
    settle()
    assert (encoders.height(), encoders.plot.height()) == heights


def test_encoders_are_told_in_words(panel):
    listed = panel.encoders.list
    assert listed.folders == (FIRST, SECOND, THIRD)
    wait_for(lambda: listed.button(FIRST).text() == "Jigsaw puzzle 1")
    assert listed.button(SECOND).text().startswith("Tell pieces apart, with")
    assert [listed.button(row.folder).isChecked() for row in ROWS] == [True, False, False]
    assert [listed.figure(row.folder).text() for row in ROWS] == ["Dice 0.71", "", "Dice 0.50"]
    assert listed.words(THIRD).whole_text == "in use · 5 volumes, 900 steps"
    assert listed.words(SECOND).whole_text == ROWS[1].words
    assert ROWS[1].words in listed.button(SECOND).toolTip()
    assert SECOND in listed.button(SECOND).toolTip()
    assert panel.encoders.start.text() == "Chosen for training: Agree with a twin 3."
    panel.show_state(replace(READY, used=""))
    assert panel.encoders.start.text() == "Chosen for training: random weights."
    panel.show_state(replace(READY, encoders=(), used="/elsewhere/my own"))
    assert panel.encoders.start.text() == "Chosen for training: my own."


rows = st.lists(
    st.builds(
        EncoderRow,
        st.sampled_from(["/a", "/b", "/c", "/d"]),
        st.sampled_from(["jigsaw-1", "a & b"]),
        st.sampled_from(["1 volume", ""]),
        st.none() | st.floats(0, 1),
    ),
    max_size=4,
    unique_by=lambda row: row.folder,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.lists(st.tuples(rows, st.sampled_from(["", "/a", "/b"])), min_size=1, max_size=3))
def test_the_list_is_the_last_state_whatever_came_before(states):
    listed = EncoderList()
    heard = record(listed, "chosen")
    for given_rows, chosen in states:
        listed.show_encoders(tuple(given_rows), chosen, "/b")
        assert listed.folders == tuple(row.folder for row in given_rows)
        for row in given_rows:
            assert listed.button(row.folder).isChecked() == (row.folder == chosen)
            assert listed.words(row.folder).whole_text.startswith("in use") == (row.folder == "/b")
            assert bool(listed.figure(row.folder).text()) == (row.dice is not None)
    assert heard == []
    listed.deleteLater()


def test_what_cannot_be_used_or_left_says_why(panel):
    encoders = panel.encoders
    panel.show_state(replace(READY, chosen=""))
    assert encoders.use.toolTip() == encoders.delete.toolTip() == "Choose an encoder in the list first."
    panel.show_state(replace(READY, chosen=THIRD))
    assert not encoders.use.isEnabled()
    assert encoders.use.toolTip() == "It is chosen for training already."
    assert encoders.stop_using.isEnabled()
    panel.show_state(replace(READY, used=""))
    assert not encoders.stop_using.isEnabled()
    assert encoders.stop_using.toolTip() == "No encoder is chosen for training."


def test_deleting_is_asked_about_once_more(panel):
    encoders = panel.encoders
    click(encoders.delete)
    assert encoders.question.is_asked
    assert "“Jigsaw puzzle 1”" in encoders.question.text
    click(encoders.question.decline_button)
    click(encoders.delete)
    panel.show_state(replace(READY, chosen=SECOND))  # the question was about another one
    assert not encoders.question.is_asked
    assert panel.heard == []
    click(encoders.delete)
    panel.show_state(replace(READY, chosen=SECOND, sentence="something else"))
    click(encoders.question.accept_button)
    assert panel.heard == [("delete_requested", SECOND)]


def test_text_fits_the_dock(any_panel):
    long_row = replace(ROWS[0], name="a name that is far too long for any dock at all", folder="/long")
    states = (
        PretrainState(),
        replace(READY, folder="/data/a folder with a name that is far too long for any dock at all"),
        replace(LEARNING, within_volume=True, figures=((1, 1.0),), trivial=1 / 256, losses=((1, 0.0123),)),
        replace(PROBING, encoders=(*ROWS, long_row), probes=(*READY.probes, (long_row.name, 0.99))),
        replace(READY, config=PretrainingConfig(task="jigsaw", seconds=120), spread=0.0, collapsed=True),
    )
    for state in states:
        any_panel.show_state(state)
        any_panel.task.fold.unfold(state is states[-1])
        if state is states[-1]:
            any_panel.encoders.delete.click()
        settle()
        assert any_panel.minimumSizeHint().width() <= any_panel.width()
        buttons = {"Folder…", "Delete…"}  # which have no ellipsis for want of room
        assert [text for text in cut_off(any_panel) if not text.endswith("…") or text in buttons] == []


def test_everything_says_what_it_is_for(panel):
    panel.task.fold.unfold()
    settle()
    for part in panel.findChildren(QAbstractButton):
        if part.isVisible() and part.parentWidget() is not panel.encoders.question:
            assert part.toolTip(), part.text()
    for part in panel.findChildren(QComboBox):
        assert part.toolTip(), part.accessibleName()
    for plot in (panel.learning.task_plot, panel.learning.feature_plot, panel.encoders.plot):
        assert plot.toolTip()
        assert plot.accessibleName()
        assert plot.accessibleDescription()


def test_the_keyboard_reaches_everything_that_is_shown(panel):
    panel.task.fold.unfold()
    panel.encoders.delete.click()
    settle()
    panel.sources.image.setFocus()
    wait_for(panel.sources.image.hasFocus)
    order = [panel.sources.image]
    while True:
        QTest.keyClick(order[-1], Qt.Key.Key_Tab)
        focus = QApplication.focusWidget()
        if focus in order:
            break
        order.append(focus)
    encoders = panel.encoders
    wanted = [
        panel.sources.image, panel.sources.project, panel.sources.choose, panel.sources.clear,
        panel.task.task, panel.task.minutes, panel.task.fold.heading,
        panel.task.pretext_form.editor("mask_voxels"), panel.task.form.editor("device"),
        panel.learning.run, panel.learning.clear_pictures,
        *(encoders.list.button(row.folder) for row in ROWS),
        encoders.use, encoders.stop_using, encoders.delete, encoders.question.accept_button, encoders.run,
    ]  # fmt: skip
    assert [part for part in order if part in wanted] == wanted


def test_a_click_leaves_the_keys_where_they_were(panel):
    elsewhere = QLineEdit(panel.window())
    elsewhere.show()
    elsewhere.setFocus()
    wait_for(elsewhere.hasFocus)
    encoders = panel.encoders
    for button in (
        panel.sources.image, panel.sources.project, panel.sources.clear, panel.task.fold.heading,
        panel.learning.run, panel.learning.clear_pictures, encoders.list.button(SECOND), encoders.use,
        encoders.stop_using, encoders.delete, encoders.run,
    ):  # fmt: skip
        click(button)
        assert elsewhere.hasFocus()


def test_the_wheel_scrolls_and_changes_nothing(panel):
    panel.task.fold.unfold()
    settle()
    QApplication.sendEvent(panel.task.task, QEvent(QEvent.Type.Enter))
    for editor in (panel.task.task, panel.task.minutes, panel.task.form.editor("batch_size")):
        turn_wheel(editor)
    assert panel.heard == []
