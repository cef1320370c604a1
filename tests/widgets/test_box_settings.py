"""The settings of masks from boxes."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sparseseg.settings import BOX_METHODS, DENOISING, BoxConfig, CrfConfig, RecursionConfig
from napari_sparseseg.widgets.box_settings import DENOISE_WORDS, METHOD_WORDS, BoxSettings
from tests.widgets.conftest import settle
from tests.widgets.panel_window import click, cut_off, record, shown

DEFAULTS = (BoxConfig(), RecursionConfig(), CrfConfig())


@pytest.fixture
def settings():
    with shown(BoxSettings(*DEFAULTS), height=900) as made:
        made.heard = record(made, "settings_requested")
        yield made


def test_every_method_and_step_has_plain_words():
    assert set(METHOD_WORDS) == set(BOX_METHODS)
    assert set(DENOISE_WORDS) == set(DENOISING)


@pytest.mark.parametrize("method", BOX_METHODS)
def test_the_chosen_method_is_explained(settings, method):
    settings.show_settings(BoxConfig(method=method), *DEFAULTS[1:])
    settle()
    assert settings.method.currentText() == METHOD_WORDS[method][0]
    assert settings.explanation.text() == METHOD_WORDS[method][1]
    assert method in settings.method.toolTip()
    assert cut_off(settings) == []
    assert settings.heard == []


@pytest.mark.parametrize(("rounds", "note"), [(0, "off"), (1, "1 round"), (3, "3 rounds")])
def test_the_heading_tells_how_many_rounds(settings, rounds, note):
    settings.show_settings(DEFAULTS[0], RecursionConfig(rounds=rounds), DEFAULTS[2])
    assert settings.recursion_fold.heading.text().endswith(f"· {note}")


def test_changes_add_up_before_the_state_comes_back(settings):
    QTest.keyClick(settings.method, Qt.Key.Key_Down)
    for fold in (settings.box_fold, settings.recursion_fold, settings.crf_fold):
        fold.unfold()
    settle()
    QTest.keyClick(settings.box_form.editor("iterations"), Qt.Key.Key_Up)
    click(settings.recursion_form.editor("denoise").box("reset"))
    QTest.keyClick(settings.recursion_form.editor("rounds"), Qt.Key.Key_Up)
    QTest.keyClick(settings.crf_form.editor("crf_iterations"), Qt.Key.Key_Up)
    second = list(METHOD_WORDS)[1]
    boxes = BoxConfig(method=second, iterations=6)
    denoise = "class,outside,crf,ignore"
    assert [given for _, *given in settings.heard] == [
        [BoxConfig(method=second), RecursionConfig(), CrfConfig()],
        [boxes, RecursionConfig(), CrfConfig()],
        [boxes, RecursionConfig(denoise=denoise), CrfConfig()],
        [boxes, RecursionConfig(denoise=denoise, rounds=1), CrfConfig()],
        [boxes, RecursionConfig(denoise=denoise, rounds=1), CrfConfig(crf_iterations=6)],
    ]
    assert settings.recursion_fold.heading.text().endswith("1 round")
