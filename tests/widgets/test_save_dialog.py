"""The dialog that asks where to save, with names typed into it."""

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QLineEdit, QMessageBox, QWidget

from napari_sparseseg.volume import WRITABLE_SUFFIXES
from napari_sparseseg.widgets.save_dialog import FORMATS, SaveDialog
from tests.widgets.conftest import settle, wait_for


@pytest.fixture
def owner():
    made = QWidget()
    made.show()
    settle()
    yield made
    made.close()
    made.deleteLater()
    settle()


@pytest.fixture
def ask(owner, tmp_path):
    def open_dialog(name="mask", formats=FORMATS):
        saved = []
        SaveDialog("Save", tmp_path / name, saved.append, formats, owner).open()
        return saved

    return open_dialog


def the_dialog(owner):
    wait_for(lambda: any(dialog.isVisible() for dialog in owner.findChildren(SaveDialog)))
    (dialog,) = (dialog for dialog in owner.findChildren(SaveDialog) if dialog.isVisible())
    return dialog


def type_name(dialog, name):
    line = dialog.findChild(QLineEdit)
    line.setFocus()
    line.selectAll()
    QTest.keyClicks(line, name)
    QTest.keyClick(line, Qt.Key.Key_Return)
    settle()


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("liver", "liver.nii.gz"), ("liver.nii", "liver.nii"), ("liver.NRRD", "liver.NRRD"),
        ("patient.1", "patient.1.nii.gz"),
    ],
)  # fmt: skip
def test_a_name_gets_a_suffix_that_can_be_written(ask, owner, tmp_path, typed, written):
    saved = ask()
    type_name(the_dialog(owner), typed)
    assert saved == [str(tmp_path / written)]


def test_the_suffix_follows_the_format(ask, owner, tmp_path):
    saved = ask()
    dialog = the_dialog(owner)
    box = next(box for box in dialog.findChildren(QComboBox) if box.findText("NRRD (*.nrrd)") >= 0)
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert dialog.findChild(QLineEdit).text() == "mask.nrrd"
    type_name(dialog, "other")
    assert saved == [str(tmp_path / "other.nrrd")]


@pytest.mark.parametrize("typed", ["mask", "patient.1"])
def test_nothing_is_overwritten_unasked(ask, owner, tmp_path, typed):
    complete = f"{typed}.nii.gz"
    (tmp_path / complete).touch()
    saved, asked = ask(), []

    def refuse():
        for box in owner.findChildren(QMessageBox):
            asked.append(box.text())
            box.button(QMessageBox.StandardButton.No).click()

    timer = QTimer()  # Qt's question waits for an answer
    timer.timeout.connect(refuse)
    timer.start(20)
    type_name(the_dialog(owner), typed)
    if not asked:  # a name with a point in it is completed by us, and offered again
        again = the_dialog(owner)
        assert again.findChild(QLineEdit).text() == complete
        type_name(again, complete)
    timer.stop()
    assert len(asked) == 1
    assert complete in asked[0]
    assert saved == []
    the_dialog(owner).reject()


def test_a_folder_gets_a_name_that_is_free(ask, owner, tmp_path):
    (tmp_path / "model").mkdir()
    saved = ask("model", {})
    dialog = the_dialog(owner)
    assert dialog.findChild(QLineEdit).text() == "model 2"
    dialog.accept()
    assert saved == [str(tmp_path / "model 2")]


def test_every_format_offered_can_be_written():
    for suffixes in FORMATS.values():
        assert set(suffixes) <= set(WRITABLE_SUFFIXES)
