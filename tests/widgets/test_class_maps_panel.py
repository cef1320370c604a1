"""The Class maps panel, used as a hand does."""

from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel, QLineEdit, QSlider

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.settings import CAM_METHODS, CamConfig, ClassifierConfig, CrfConfig, SeedConfig
from napari_sparseseg.widgets.class_maps_panel import ClassMapsPanel
from napari_sparseseg.widgets.image_label_list import ImageLabelList
from napari_sparseseg.widgets.map_view import CAM_WORDS
from napari_sparseseg.widgets.save_dialog import SaveDialog
from napari_sparseseg.widgets.snapshots import ClassMapsState, ImageLabelRow, ScoreRow
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, cut_off, record, shown, turn_wheel

SIGNALS = (
    "class_select_requested", "volume_label_requested", "begin_requested", "end_requested",
    "label_delete_requested", "slice_requested", "import_requested", "export_requested",
    "settings_requested", "train_requested", "cancel_requested", "subject_requested", "map_requested",
    "map_here_requested", "check_requested", "seeds_requested", "clear_seeds_requested", "mark_requested",
    "clear_points_requested",
)  # fmt: skip
LONG = "a name that is far too long for any dock at all"
TABLE = ClassTable((
    LabelClass(0, "background", "#666666"),
    LabelClass(2, "liver", "#56b4e9"),
    LabelClass(3, LONG, "#e69f00"),
))  # fmt: skip
ROWS = (
    ImageLabelRow(1, 2, "axial slices 40 to 92", True, 0, 40),
    ImageLabelRow(5, 3, "nowhere in the volume", False),
    ImageLabelRow(6, 3, "not in sagittal slices 100 to 192", False, 2, 100),
)
ALLOWED = {entry.name: "" for entry in fields(ClassMapsState) if entry.name.startswith("why_")}
READY = ClassMapsState(
    table=TABLE,
    slice_index=41,
    slice_count=122,
    rows=ROWS,
    begun=40,
    scores=(ScoreRow("liver", 0.934, 0.97), ScoreRow(LONG, 0.5), ScoreRow("spleen")),
    subjects=("classifier", "network"),
    subject="classifier",
    points=3,
    **ALLOWED,
)
CONFIGS = (ClassifierConfig(), CamConfig(), SeedConfig(), CrfConfig())
BUTTONS = {
    "why_no_label": lambda panel: panel.presence.begins,
    "why_no_end": lambda panel: panel.presence.ends,
    "why_no_train": lambda panel: panel.classifier.run,
    "why_no_map": lambda panel: panel.map.run,
    "why_no_map_here": lambda panel: panel.map.here,
    "why_no_check": lambda panel: panel.map.check,
    "why_no_seeds": lambda panel: panel.seeds.make,
    "why_no_clear_seeds": lambda panel: panel.seeds.clear,
    "why_no_mark": lambda panel: panel.seeds.mark,
    "why_no_clear_points": lambda panel: panel.seeds.clear_points,
}


@pytest.fixture
def panel(tmp_path):
    with shown(ClassMapsPanel(), height=1500) as made:
        made.show_state(replace(READY, folder=str(tmp_path)))
        settle()
        made.heard = record(made, *SIGNALS)
        yield made


def choose(box, row):
    """Choose an entry of a combo box, as by its list."""
    box.setCurrentIndex(row)
    box.activated.emit(row)


def hand_of(slider):
    """Return the part of a percent slider that answers keys and the mouse."""
    return slider.findChild(QSlider)


def names_of(panel, signal):
    return [given for name, *given in panel.heard if name == signal]


def test_every_signal_is_tried():
    assert {name for name in vars(ClassMapsPanel) if name.endswith("_requested")} == set(SIGNALS)


def test_every_reason_of_the_state_belongs_to_a_button():
    assert set(ALLOWED) == set(BUTTONS)


@pytest.mark.parametrize("reason", BUTTONS)
def test_a_button_that_cannot_be_used_says_why(panel, reason):
    button = BUTTONS[reason](panel)
    assert button.isEnabled()
    tip = button.toolTip()
    assert tip
    panel.show_state(replace(READY, **{reason: "Because it is Sunday."}))
    disabled = {name for name, find in BUTTONS.items() if not find(panel).isEnabled()}
    assert disabled == {reason}
    assert button.toolTip() == "Because it is Sunday."
    panel.show_state(READY)
    assert button.isEnabled()
    assert button.toolTip() == tip


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("why_no_label", "begin_requested"),
        ("why_no_end", "end_requested"),
        ("why_no_train", "train_requested"),
        ("why_no_map", "map_requested"),
        ("why_no_map_here", "map_here_requested"),
        ("why_no_check", "check_requested"),
        ("why_no_seeds", "seeds_requested"),
        ("why_no_clear_seeds", "clear_seeds_requested"),
        ("why_no_clear_points", "clear_points_requested"),
    ],
)
def test_a_button_asks_by_click_and_by_key(panel, name, signal):
    button = BUTTONS[name](panel)
    click(button)
    QTest.keyClick(button, Qt.Key.Key_Space)
    assert panel.heard == [(signal,), (signal,)]
    assert not button.isChecked()


def test_reasons_are_read_without_pointing_at_a_button(panel):
    panel.show_state(ClassMapsState())
    settle()
    presence = panel.presence
    assert presence.hint.text() == "Open an image first."
    assert presence.slice_text.text() == "Slice:"
    assert presence.import_file.toolTip() == "Open an image first."
    assert presence.export_file.toolTip() == "Nothing was said yet."
    assert panel.classifier.work.sentence.text() == "Open an image first."
    assert panel.map.work.sentence.text() == "There is no network to ask yet."
    assert not panel.map.subject.isEnabled()
    assert panel.map.subject.toolTip() == "There is no network to ask yet."
    assert panel.seeds.hint.text() == "There is no class map yet."
    assert panel.seeds.point_hint.text() == "Open an image first."
    assert not presence.list.isVisible()
    assert not panel.classifier.scores.isVisible()
    assert not panel.map.shown.isVisible()
    assert not panel.map.verdict.isVisible()
    assert not any(find(panel).isEnabled() for find in BUTTONS.values())


@pytest.mark.parametrize("state", [ClassMapsState(), READY, replace(READY, running="map", mapped=2)])
def test_that_a_map_is_not_a_mask_is_always_said(panel, state):
    panel.show_state(state)
    settle()
    assert panel.map.caution.isVisible()
    assert panel.map.caution.text() == "A class map shows where the network looked. It is not a mask."


def test_a_class_is_chosen_but_never_background(panel):
    choice = panel.presence.choice
    assert [choice.itemText(row) for row in range(choice.count())] == list(TABLE.names[1:])
    choose(choice, 1)
    choose(choice, choice.currentIndex())
    assert panel.heard == [("class_select_requested", 3)]
    assert choice.currentData() == 2


def test_the_whole_volume_is_spoken_of(panel):
    click(panel.presence.is_here)
    click(panel.presence.is_not_here)
    assert panel.heard == [("volume_label_requested", True), ("volume_label_requested", False)]
    panel.show_state(replace(READY, why_no_label="Not now."))
    for button in (panel.presence.is_here, panel.presence.is_not_here):
        assert not button.isEnabled()
        assert button.toolTip() == "Not now."


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (replace(READY, begun=None, rows=()), "Go to the first slice with it and press “Begins here”; "),
        (READY, "Begins at slice 40: go to the last slice and press “Ends here”."),
        (replace(READY, begun=0), "Begins at slice 0: go to "),
        (replace(READY, begun=None), ""),
    ],
)
def test_a_range_is_explained_step_by_step(panel, state, words):
    panel.show_state(state)
    settle()
    hint = panel.presence.hint
    assert hint.text().startswith(words)
    assert hint.isVisible() == bool(words)


@pytest.mark.parametrize(("axis", "name"), [(0, "Axial"), (1, "Coronal"), (2, "Sagittal")])
def test_the_slice_is_counted_as_the_annotate_panel_does(panel, axis, name):
    panel.show_state(replace(READY, orientation=axis))
    assert panel.presence.slice_text.text() == f"{name} slice 41 / 121:"
    assert f"{name.lower()} slice 41" in panel.presence.begins.toolTip()
    assert f"{name.lower()} slice 41" in panel.presence.ends.toolTip()


def test_a_row_leads_to_its_first_slice_and_can_be_taken_back(panel):
    labels = panel.presence.list
    click(labels.line(1).words)
    click(labels.line(5).words)  # which speaks of the whole volume
    click(labels.line(5).delete)
    labels.line(6).setFocus()
    QTest.keyClick(labels.line(6), Qt.Key.Key_Return)
    QTest.keyClick(labels.line(6), Qt.Key.Key_Delete)
    assert panel.heard == [
        ("slice_requested", 0, 40),
        ("label_delete_requested", 5),
        ("slice_requested", 2, 100),
        ("label_delete_requested", 6),
    ]
    assert labels.line(6).accessibleName() == f"{LONG}, absent: not in sagittal slices 100 to 192"
    assert "click to go there" in labels.line(6).toolTip()
    assert "click" not in labels.line(5).toolTip()


label_rows = st.lists(
    st.builds(
        ImageLabelRow, st.integers(1, 9), st.integers(2, 4), st.sampled_from(["a", "b & c"]), st.booleans(),
        st.none() | st.integers(0, 2), st.none() | st.integers(0, 40),
    ),
    max_size=6,
    unique_by=lambda row: row.number,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.lists(label_rows, min_size=1, max_size=3))
def test_the_list_is_the_last_state_whatever_came_before(states):
    labels = ImageLabelList()
    heard = record(labels, "slice_requested", "delete_requested")
    for rows in states:
        labels.show_labels(tuple(rows), TABLE)
        assert labels.numbers == tuple(row.number for row in rows)
        for row in rows:
            line = labels.line(row.number)
            assert line.words.whole_text == row.words
            assert line.name.whole_text == {2: "liver", 3: LONG}.get(row.value, f"class {row.value}")
            assert line.property("leads") == (row.axis is not None and row.index is not None)
    assert heard == []
    labels.deleteLater()


def test_presence_and_absence_look_different(panel):
    labels = panel.presence.list
    marks = []
    for present in (True, False):
        labels.show_labels((replace(ROWS[0], present=present),), TABLE)
        settle()
        marks.append(labels.line(1).grab().toImage())
    assert marks[0] != marks[1]


def test_many_rows_scroll_inside_and_words_are_read_in_whole(panel):
    many = tuple(replace(ROWS[0], number=number, value=3) for number in range(40))
    panel.show_state(replace(READY, rows=many))
    settle()
    labels = panel.presence.list
    wait_for(lambda: labels.line(0).name.text().endswith("…"))
    assert labels.height() <= 150
    assert labels.line(0).words.text() == "axial slices 40 to 92"


def test_what_is_where_goes_to_a_file_and_comes_from_one(panel, tmp_path):
    click(panel.presence.export_file)
    (dialog,) = panel.findChildren(SaveDialog)
    assert dialog.selectedFiles() == [str(tmp_path / "image_labels.csv")]
    dialog.accept()
    wait_for(lambda: not panel.findChildren(QFileDialog))
    (tmp_path / "labels.csv").touch()
    click(panel.presence.import_file)
    (dialog,) = panel.findChildren(QFileDialog)
    line = dialog.findChild(QLineEdit)
    line.setFocus()
    QTest.keyClicks(line, "labels.csv")
    QTest.keyClick(line, Qt.Key.Key_Return)
    wait_for(lambda: not panel.findChildren(QFileDialog))
    assert panel.heard == [
        ("export_requested", str(tmp_path / "image_labels.csv")),
        ("import_requested", str(tmp_path / "labels.csv")),
    ]


@pytest.mark.parametrize(
    ("running", "section", "reason"),
    [
        ("classifier", "classifier", "why_no_train"),
        ("map", "map", "why_no_map"),
        ("check", "map", "why_no_map"),
    ],
)
def test_work_is_stopped_with_the_button_that_began_it(panel, running, section, reason):
    view = getattr(panel, section)
    other = panel.map if section == "classifier" else panel.classifier
    busy = replace(READY, running=running, sentence="step 3 of 9", notes=("Mind this.",))
    panel.show_state(replace(busy, **{reason: "It runs already."}))
    settle()
    assert (view.run.text(), view.run.isChecked(), view.run.isEnabled()) == ("Stop", True, True)
    assert other.run.text() != "Stop"
    assert view.work.progress.isVisible()
    assert view.work.progress.maximum() == 0  # which moves to and fro
    assert view.work.sentence.text() == "Step 3 of 9"
    assert view.work.notes.text() == "• Mind this."
    assert not other.work.isVisible()
    panel.show_state(replace(busy, progress=0.4))
    assert view.work.progress.value() / view.work.progress.maximum() == 0.4
    click(view.run)
    assert view.run.isChecked()
    assert panel.heard == [("cancel_requested",)]
    panel.show_state(replace(READY, sentence="stopped"))
    settle()
    assert view.work.sentence.text() == "Stopped"  # it stays where the work was begun
    assert not view.work.progress.isVisible()
    assert not other.work.isVisible()
    assert not view.run.isChecked()


@pytest.mark.parametrize(("mapped", "section"), [(None, "classifier"), (2, "map")])
def test_a_panel_opened_later_shows_the_sentence_where_it_belongs(panel, mapped, section):
    panel.show_state(replace(READY, sentence="it is done", mapped=mapped))
    for name in ("classifier", "map"):
        told = getattr(panel, name).work.sentence.text()
        assert told == ("It is done" if name == section else "")


def test_a_double_click_does_not_stop_what_it_began(panel):
    QTest.mouseClick(panel.classifier.run, Qt.MouseButton.LeftButton)
    panel.show_state(replace(READY, running="classifier"))
    QTest.mouseDClick(panel.classifier.run, Qt.MouseButton.LeftButton)
    assert panel.heard == [("train_requested",)]


def test_how_good_the_classifier_is(panel):
    scores = panel.classifier.scores
    assert scores.isVisible()
    lines = scores.lines
    assert [line.figure.text() for line in lines] == ["93 % right", "50 % right", "not measured"]
    wait_for(lambda: lines[1].name.text().endswith("…"))
    assert LONG in lines[1].toolTip()
    assert "AUC 0.97" in lines[0].toolTip()
    assert "AUC" not in lines[1].toolTip()
    assert all("50 % is guessing" in line.toolTip() for line in lines[:2])
    assert not panel.classifier.within_volume.isVisible()
    panel.show_state(replace(READY, scores=READY.scores[:1], within_volume=True))
    settle()
    assert scores.lines == lines[:1]
    assert panel.classifier.within_volume.isVisible()
    assert "better than it is" in panel.classifier.within_volume.text()
    panel.show_state(replace(READY, scores=(), within_volume=True))
    settle()
    assert not scores.isVisible()
    assert not panel.classifier.within_volume.isVisible()


def test_which_network_is_asked(panel):
    subject = panel.map.subject
    assert [subject.itemText(row) for row in range(subject.count())] == [
        "the classifier", "the segmentation network",
    ]  # fmt: skip
    choose(subject, 1)
    choose(subject, 0)
    assert panel.heard == [("subject_requested", "network")]
    assert subject.currentData() == "classifier"
    panel.show_state(replace(READY, subjects=("network",), subject="network"))
    assert (subject.count(), subject.currentText()) == (1, "the segmentation network")


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_has_plain_words(panel, method):
    panel.show_state(replace(READY, cam=CamConfig(method=method)))
    settle()
    title, words = CAM_WORDS[method]
    assert panel.map.method.currentText() == title
    assert panel.map.explanation.text() == words
    assert method in panel.map.method.toolTip()
    enabled = {
        entry.name
        for entry in fields(CamConfig)
        if entry.name != "method" and panel.map.form.editor(entry.name).isEnabled()
    }
    own = {
        "grad_cam": {"level"},
        "grad_cam_pp": {"level"},
        "smooth_saliency": {"smooth_runs", "smooth_noise"},
        "occlusion": {"occlusion_share"},
    }.get(method, set())
    assert enabled == {"flips", "several_scales", "refine"} | own
    assert set(CAM_WORDS) == set(CAM_METHODS)
    assert panel.heard == []


def test_settings_are_asked_for_together_and_add_up(panel):
    choose(panel.map.method, panel.map.method.findData("occlusion"))
    for fold in (panel.classifier.fold, panel.map.fold):
        fold.unfold()
    settle()
    QTest.keyClick(panel.classifier.form.editor("classifier_batch"), Qt.Key.Key_Up)
    assert not panel.map.crf_fold.isVisible()
    click(panel.map.form.editor("refine"))
    assert panel.map.crf_fold.isVisible()
    panel.map.crf_fold.unfold()
    QTest.keyClick(panel.map.crf_form.editor("crf_iterations"), Qt.Key.Key_Up)
    QTest.keyClick(panel.seeds.radius, Qt.Key.Key_Up)
    cam, refined = CamConfig(method="occlusion"), CamConfig(method="occlusion", refine=True)
    batch = ClassifierConfig().classifier_batch + 1
    learner, crf = ClassifierConfig(classifier_batch=batch), CrfConfig(crf_iterations=6)
    asked = names_of(panel, "settings_requested")
    assert asked[:4] == [
        [ClassifierConfig(), cam, SeedConfig(), CrfConfig()],
        [learner, cam, SeedConfig(), CrfConfig()],
        [learner, refined, SeedConfig(), CrfConfig()],
        [learner, refined, SeedConfig(), crf],
    ]
    assert asked[4][2].point_mm > SeedConfig().point_mm
    assert asked[4][:2] == [learner, refined]
    assert len(asked) == len(panel.heard) == 5
    assert panel.seeds.radius.text().endswith(" mm")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mapped": 2, "score": 0.934}, "Shown: liver. The network is 93 % sure that it is there."),
        ({"mapped": 2}, "Shown: liver."),
        ({"mapped": 3, "score": 0.0}, f"Shown: {LONG}. The network is 0 % sure that it is there."),
        ({"mapped": None, "score": 0.5}, ""),
        ({"mapped": 9}, ""),  # a class that is gone
    ],
)
def test_which_map_is_shown_is_told_in_words(panel, changes, words):
    panel.show_state(replace(READY, **changes))
    settle()
    assert panel.map.shown.isVisible() == bool(words)
    if words:
        assert panel.map.shown.text() == words


@pytest.mark.parametrize(("passed", "mark"), [(True, "✓ "), (False, "⚠ "), (None, "")])
def test_the_check_says_whether_it_speaks_for_the_map(panel, passed, mark):
    panel.show_state(replace(READY, check="It is so.", check_passed=passed))
    settle()
    verdict = panel.map.verdict
    assert verdict.isVisible()
    assert verdict.text() == f"{mark}It is so."
    assert bool(verdict.styleSheet()) == (passed is not None)


def test_a_slider_asks_by_key_once_it_has_settled(panel):
    slider = panel.seeds.object_from
    hand = hand_of(slider)
    hand.setFocus()
    for _ in range(3):
        QTest.keyClick(hand, Qt.Key.Key_Right)
    assert panel.heard == []
    wait_for(lambda: panel.heard)
    settle(0.2)
    asked = SeedConfig(object_threshold=0.75)
    assert names_of(panel, "settings_requested") == [[ClassifierConfig(), CamConfig(), asked, CrfConfig()]]
    assert len(panel.heard) == 1


def test_a_slider_asks_while_it_is_dragged_and_is_not_pulled_from_the_hand(panel):
    hand = hand_of(panel.seeds.background_below)
    place = QPoint(round(hand.width() * 0.1), hand.height() // 2)
    QTest.mousePress(hand, Qt.MouseButton.LeftButton, pos=place)
    for share in (0.2, 0.3, 0.4):
        before = len(panel.heard)
        QTest.mouseMove(hand, QPoint(round(hand.width() * share), place.y()))
        wait_for(lambda before=before: len(panel.heard) > before)
        asked = names_of(panel, "settings_requested")[-1][2]
        panel.show_state(replace(READY, slice_index=round(share * 100)))  # with the shares of before
        assert hand.value() == round(asked.background_threshold * 100)
    QTest.mouseRelease(hand, Qt.MouseButton.LeftButton, pos=QPoint(round(hand.width() * 0.4), place.y()))
    settle(0.2)
    shares = [seeds.background_threshold for _, _, seeds, _ in names_of(panel, "settings_requested")]
    assert shares == sorted(shares)
    assert len(shares) >= 3
    panel.show_state(replace(READY, slice_index=2))
    assert panel.seeds.background_below.value() == 10  # what was asked for was refused


def test_one_share_pushes_the_other(panel):
    hand = hand_of(panel.seeds.object_from)
    hand.setFocus()
    QTest.keyClick(hand, Qt.Key.Key_Home)
    wait_for(lambda: panel.heard)
    assert panel.heard[-1][3] == SeedConfig(object_threshold=0.01, background_threshold=0.01)
    QTest.keyClick(hand_of(panel.seeds.background_below), Qt.Key.Key_End)
    wait_for(lambda: len(panel.heard) == 2)
    assert panel.heard[-1][3] == SeedConfig(object_threshold=1, background_threshold=1)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "no points"), (1, "1 point"), (2, "2 points"), (99, "99 points")]
)
def test_points_are_counted(panel, count, words):
    panel.show_state(replace(READY, points=count))
    assert panel.seeds.count.text() == words


def test_marking_can_be_left_even_where_it_could_not_begin(panel):
    mark = panel.seeds.mark
    click(mark)
    assert not mark.isChecked()  # a click only asks
    panel.show_state(replace(READY, marking=True, why_no_mark="The view is in 3D."))
    assert mark.isChecked()
    click(mark)
    assert mark.isChecked()
    assert panel.heard == [("mark_requested", True), ("mark_requested", False)]
    assert panel.seeds.point_hint.text().endswith("as liver.")


def test_showing_states_asks_for_nothing(panel):
    many = tuple(replace(ROWS[0], number=number, value=2 + number % 3) for number in range(40))
    for state in (
        ClassMapsState(),
        READY,
        replace(READY, rows=many, selected=3, marking=True, running="map", progress=0.5),
        replace(READY, cam=CamConfig(method="cam", refine=True), crf=CrfConfig(crf_iterations=9)),
        replace(READY, classifier=ClassifierConfig(outside="unknown", seed=4), subject="network"),
        replace(READY, seeds=SeedConfig(0.605, 0.333, 8.5), subjects=("network",), subject="network"),
        replace(READY, seeds=SeedConfig(0.2, 0.4), subjects=(), subject=""),
    ):
        panel.show_state(state)
        settle(0.1)
        assert panel.seeds.config == state.seeds
        assert panel.map.config == (state.cam, state.crf)
        assert panel.classifier.config == state.classifier
    assert panel.heard == []


def test_combo_boxes_and_sliders_leave_the_wheel(panel):
    panel.seeds.mark.setFocus()
    for widget in (panel.presence.choice, panel.map.subject, panel.map.method, panel.seeds.radius,
                   hand_of(panel.seeds.object_from), hand_of(panel.seeds.background_below)):  # fmt: skip
        assert not turn_wheel(widget)
    settle(0.1)
    assert panel.heard == []


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_fits_the_dock(theme):
    long = replace(
        READY, selected=3, mapped=3, score=0.5, check="The map depends on what was learnt.", points=1234,
        check_passed=True, within_volume=True, sentence="learning, step 160 of 400, 20 seconds left",
        notes=tuple(f"volume {number}: nothing is said of the liver" for number in range(9)),
        cam=CamConfig(method="smooth_saliency", refine=True), slice_index=1040, slice_count=2048,
        orientation=2,
    )  # fmt: skip
    with shown(ClassMapsPanel(), theme) as panel:
        for state in (ClassMapsState(), long, replace(long, running="check"), replace(long, running="map")):
            panel.show_state(state)
            for fold in (panel.classifier.fold, panel.map.fold, panel.map.crf_fold):
                fold.unfold(state is not long)
            settle(0.1)  # one layout lies in the other
            assert panel.minimumSizeHint().width() <= panel.width()
            short = {text for text in cut_off(panel) if not text.endswith("…")}
            assert short - {"×"} == set()


def test_a_click_leaves_the_keys_where_they_were(panel):
    panel.seeds.radius.setFocus()
    held = QApplication.focusWidget()
    presence = panel.presence
    for widget in (presence.is_here, presence.begins, presence.ends, presence.list.line(1),
                   presence.list.line(5).delete, panel.classifier.run, panel.classifier.fold.heading,
                   panel.map.run, panel.map.here, panel.map.check, panel.seeds.make, panel.seeds.clear,
                   panel.seeds.mark, panel.seeds.clear_points):  # fmt: skip
        click(widget)
        assert QApplication.focusWidget() is held


def test_tab_goes_through_the_panel_from_top_to_bottom(panel):
    panel.show_state(replace(READY, rows=(replace(ROWS[0], number=9), *ROWS)))
    settle()
    presence, seeds = panel.presence, panel.seeds
    presence.choice.setFocus()
    passed = []
    while not passed or QApplication.focusWidget() is not presence.choice:
        passed.append(QApplication.focusWidget())
        assert len(passed) < 60, "Tab does not come back"
        QTest.keyClick(passed[-1], Qt.Key.Key_Tab)
    lines = [presence.list.line(number) for number in (9, 1, 5, 6)]
    stops = [part for line in lines for part in (line, line.delete) if part is not lines[2]]
    assert passed == [
        presence.choice, presence.is_here, presence.is_not_here, presence.begins, presence.ends, *stops,
        presence.import_file, presence.export_file, panel.classifier.run, panel.classifier.fold.heading,
        panel.map.subject, panel.map.method, panel.map.fold.heading, panel.map.run, panel.map.here,
        panel.map.check, hand_of(seeds.object_from), hand_of(seeds.background_below), seeds.make,
        seeds.clear, seeds.mark, seeds.radius, seeds.clear_points,
    ]  # fmt: skip


def test_everything_is_named_for_those_who_cannot_see_it(panel):
    for widget in (panel.presence.choice, panel.presence.list, panel.presence.list.line(1),
                   panel.presence.list.line(1).delete, panel.classifier.run, panel.classifier.scores,
                   panel.classifier.scores.lines[0], panel.map.subject, panel.map.method, panel.map.run,
                   panel.map.verdict, panel.seeds.object_from, panel.seeds.background_below,
                   panel.seeds.radius):  # fmt: skip
        assert widget.accessibleName()
    labels = {label.text(): label for label in panel.findChildren(QLabel)}
    assert labels["Ask"].buddy() is panel.map.subject
    assert labels["Method"].buddy() is panel.map.method
    assert labels["Object from %"].buddy() is panel.seeds.object_from
    assert labels["Background below %"].buddy() is panel.seeds.background_below
