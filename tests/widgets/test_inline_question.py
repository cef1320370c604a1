"""A question within a panel."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_sparseseg.widgets.inline_question import InlineQuestion
from tests.widgets.conftest import settle
from tests.widgets.panel_window import click, record, shown


@pytest.fixture
def question():
    page = QWidget()
    layout = QVBoxLayout(page)
    made = InlineQuestion("Delete <liver>?", "Delete", "Keep")
    layout.addWidget(made)
    with shown(page):
        made.heard = record(made, "accepted", "declined")
        yield made


def test_it_is_hidden_until_it_is_asked(question):
    assert not question.isVisible()
    assert not question.is_asked
    question.ask()
    assert question.isVisible()
    question.withdraw()
    assert not question.is_asked
    assert question.heard == []


@pytest.mark.parametrize("answer", ["accepted", "declined", "escape"])
def test_each_answer_is_given_once_and_ends_it(question, answer):
    question.ask()
    settle()
    if answer == "escape":
        QTest.keyClick(question.decline_button, Qt.Key.Key_Escape)
    else:
        click(question.accept_button if answer == "accepted" else question.decline_button)
    assert question.heard == [("accepted" if answer == "accepted" else "declined",)]
    assert not question.is_asked


def test_its_words_can_change_and_are_taken_as_they_are(question):
    assert question.text == question.accessibleName() == "Delete <liver>?"
    question.set_text("Delete <spleen>?")
    assert question.text == question.accessibleName() == "Delete <spleen>?"


def test_the_keyboard_comes_to_it_only_from_its_own_panel(question):
    line = QLineEdit(question.parentWidget())
    question.parentWidget().layout().addWidget(line)
    line.show()
    settle()
    line.setFocus()
    question.ask()
    assert question.decline_button.hasFocus()
    question.withdraw()
    question.window().setFocus()
    question.ask()
    assert not question.decline_button.hasFocus()
