"""The Batch panel: what it shows, what it asks for, and that all of it is readable at 320 pixels."""

from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.widgets.batch_panel import BatchPanel
from napari_sparseseg.widgets.batch_snapshots import BatchRow, BatchState
from tests.widgets.conftest import settle
from tests.widgets.panel_window import click, cut_off, record, shown

REQUESTS = (
    "sources_requested", "network_requested", "network_folder_requested", "out_requested",
    "settings_requested", "run_requested", "cancel_requested", "result_requested",
)  # fmt: skip
ROWS = (
    BatchRow("patient1/abdomen", "liver 1480 ml, kidney 310 ml"),
    BatchRow("patient2/abdomen", "liver 0 ml, kidney 290 ml", "look", ("The liver is empty.",)),
    BatchRow("patient3/abdomen", "Patient3/abdomen.nii.gz is damaged; copy it again.", "failed"),
)
READY = BatchState(
    sources=("/data/hospital/abdomen 2026",),
    sources_words="abdomen 2026 · 1,000 volumes",
    networks={
        "project": "The project's network", "live": "The network in work, as it is now",
        "folder": "liver network",
    },
    network="project",
    network_words="Saved 3 January 2026 at 14:05. Dice 0.87. Finds: liver, kidney, spleen, aorta and 2 more.",
    out="/data/hospital/abdomen 2026 masks",
    command="sparseseg predict '/data/hospital/abdomen 2026' --model /data/hospital/models/liver --out /x",
    why_no_run="",
    why_no_folder="",
)  # fmt: skip
RUNNING = {"running": True, "progress": 0.185, "rows": ROWS, "results_words": "3 volumes · 1 failed"}


def changed(**values):
    return replace(READY, **values)


@pytest.fixture(scope="module")
def window():
    with shown(BatchPanel(), height=1300) as panel:
        yield panel


@pytest.fixture
def panel(window):
    """The panel, as it is when the window opens."""
    window.show_state(BatchState())
    for fold in (window.choices.fold, window.fold):
        fold.unfold(False)
    settle()
    yield window
    for dialog in window.findChildren(QFileDialog):
        dialog.close()
    settle()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off(theme):
    panel = BatchPanel()
    states = (
        BatchState(),
        READY,
        changed(why_no_dicom="Needs highdicom.", out_warning="The results would lie among the volumes."),
        changed(**RUNNING, sentence="1,037 of 12,200 done, about 12 h 40 min left, 131 failed"),
        changed(
            rows=ROWS, results_words="12,345 volumes · 1,234 failed · 1,234 to look at", report="/r.html"
        ),
    )
    with shown(panel, theme, height=1400):
        for unfolded in (False, True):
            panel.choices.fold.unfold(unfolded)
            panel.fold.unfold(unfolded)
            for state in states:
                panel.show_state(state)
                settle()
                assert cut_off(panel) == []
                assert panel.width() <= 320


def test_a_state_is_shown_and_nothing_is_asked_for_by_it(panel):
    heard = record(panel, *REQUESTS)
    assert not panel.run.isEnabled()
    assert panel.run.toolTip() == "Choose the volumes first."
    assert panel.work.sentence.text() == "Choose the volumes first."
    assert not panel.results.isVisible()
    assert not panel.fold.isVisible()
    panel.show_state(READY)
    choices = panel.choices
    assert choices.sources.whole_text == "abdomen 2026 · 1,000 volumes"
    assert choices.network.currentText() == "The project's network"
    assert choices.about.text() == READY.network_words
    assert choices.out.whole_text == "abdomen 2026 masks"
    assert choices.out.toolTip() == READY.out
    assert panel.run.isEnabled()
    assert panel.run.text() == "Run"
    assert panel.command.toPlainText() == READY.command
    assert not panel.keep_open.isVisible()
    panel.show_state(changed(**RUNNING, why_no_change="Volumes are being segmented.", sentence="3 of 9 done"))
    assert panel.run.text() == "Stop"
    assert panel.keep_open.isVisible()
    assert panel.work.progress.isVisible()
    assert panel.work.progress.value() == 185
    for part in (choices.folder, choices.network, choices.choose_out, choices.clear):
        assert not part.isEnabled()
    assert heard == []


def test_buttons_ask(panel):
    heard = record(panel, *REQUESTS)
    panel.show_state(READY)
    settle()
    click(panel.run)
    assert not panel.run.isChecked()  # what it shows is the state
    panel.show_state(changed(**RUNNING))
    click(panel.run)
    panel.show_state(changed(rows=ROWS))
    click(panel.choices.clear)
    panel.choices.network.setCurrentIndex(1)
    panel.choices.network.activated.emit(1)
    panel.fold.unfold()
    settle()
    click(panel.copy)
    assert QApplication.clipboard().text() == READY.command
    assert heard == [
        ("run_requested",), ("cancel_requested",), ("sources_requested", ()), ("network_requested", "live"),
    ]  # fmt: skip


def test_dialogs_ask_for_volumes_network_and_folder(panel, tmp_path):
    heard = record(panel, *REQUESTS)
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"")
    choices = panel.choices
    for button in (choices.folder, choices.other, choices.choose_out, choices.files, choices.table):
        click(button)
        (dialog,) = [each for each in panel.findChildren(QFileDialog) if each.isVisible()]
        wants_folder = dialog.fileMode() == QFileDialog.FileMode.Directory
        files = [str(tmp_path if wants_folder else scan)]
        dialog.filesSelected.emit(files)
        dialog.fileSelected.emit(files[0])
        dialog.close()
        settle()
    assert heard == [
        ("sources_requested", (str(tmp_path),)), ("network_folder_requested", str(tmp_path)),
        ("out_requested", str(tmp_path)), ("sources_requested", (str(scan),)),
        ("sources_requested", (str(scan),)),
    ]  # fmt: skip


def test_settings_are_asked_for_and_dicom_only_where_it_can_be_written(panel):
    heard = record(panel, *REQUESTS)
    panel.show_state(changed(why_no_dicom="Needs highdicom."))
    panel.choices.fold.unfold()
    settle()
    formats = panel.choices.form.editor("formats")
    assert not formats.box("dicom_seg").isEnabled()
    assert formats.box("dicom_seg").toolTip() == "Needs highdicom."
    click(formats.box("nrrd"))
    assert heard.pop() == ("settings_requested", BatchConfig(formats="nii.gz,nrrd"), InferenceConfig())
    panel.show_state(READY)
    assert formats.box("dicom_seg").isEnabled()
    assert formats.names == "nii.gz"
    click(panel.choices.inference_form.editor("fill_holes"))
    assert heard == [("settings_requested", BatchConfig(), InferenceConfig(fill_holes=True))]
    panel.show_state(changed(config=BatchConfig(formats="dicom_seg"), why_no_dicom="Needs highdicom."))
    assert formats.box("dicom_seg").isEnabled()  # what is ticked can always be taken back


def test_results_come_one_by_one_and_are_opened(panel):
    heard = record(panel, *REQUESTS)
    panel.show_state(changed(**(RUNNING | {"rows": ROWS[:1]})))
    panel.show_state(changed(**RUNNING))
    results = panel.results
    assert results.names == tuple(row.name for row in ROWS)
    results.setCurrentRow(1)
    panel.show_state(changed(rows=ROWS[::-1]))
    settle()
    assert results.names == tuple(row.name for row in ROWS[::-1])
    assert results.currentItem().text().startswith("patient2/abdomen\nliver 0 ml")
    assert "⚠ The liver is empty." in results.currentItem().toolTip()
    marks = [results.item(row).icon().pixmap(18, 18).toImage() for row in range(3)]
    assert len({bytes(mark.constBits()) for mark in marks}) == 3
    place = results.visualItemRect(results.item(2)).center()
    QTest.mouseClick(results.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseDClick(results.viewport(), Qt.MouseButton.LeftButton, pos=place)
    results.setFocus()
    QTest.keyClick(results, Qt.Key.Key_Up)
    QTest.keyClick(results, Qt.Key.Key_Return)
    assert heard == [("result_requested", "patient1/abdomen"), ("result_requested", "patient2/abdomen")]
    panel.show_state(READY)
    assert results.names == ()


def test_report_and_folder_are_opened_outside(panel, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "napari_sparseseg.widgets.batch_panel.QDesktopServices.openUrl",
        lambda url: opened.append(url.toLocalFile()),
    )
    panel.show_state(changed(rows=ROWS, out=str(tmp_path)))
    assert not panel.open_report.isEnabled()
    report = tmp_path / "report.html"
    panel.show_state(changed(rows=ROWS, out=str(tmp_path), report=str(report)))
    settle()
    click(panel.open_report)
    click(panel.open_folder)
    assert opened == [str(report), str(tmp_path)]
