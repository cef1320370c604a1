"""Files are read and written beside the window; what goes wrong is told in a sentence."""

import threading

import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.widgets.background import Background
from tests.widgets.conftest import settle, wait_for


@pytest.fixture
def background():
    made = Background()
    yield made
    made.close()


def test_results_come_in_order_to_the_windows_thread(background):
    results, words = [], []
    background.busy_changed.connect(words.append)
    for number in range(3):
        background.run(
            f"job {number}",
            lambda number=number: (number, threading.current_thread()),
            lambda result: results.append((*result, threading.current_thread())),
        )
    wait_for(lambda: len(results) == 3)
    assert [number for number, _, _ in results] == [0, 1, 2]
    assert all(worked is not threading.main_thread() for _, worked, _ in results)
    assert all(told is threading.main_thread() for _, _, told in results)
    assert words[0] == "job 0"
    assert words[-1] == ""


@pytest.mark.parametrize("error", [InputError("no such file."), OSError("disk full"), MemoryError()])
def test_mistakes_are_told(background, error):
    def job():
        raise error

    told, stopped = [], []
    background.failed.connect(told.append)
    background.run("reading", job, pytest.fail, lambda: stopped.append(True))
    wait_for(lambda: told)
    assert stopped == [True]
    assert str(error) in told[0]


def test_a_mistake_in_what_follows_is_told_too(background):
    def done(_):
        raise InputError("it does not fit.")

    told = []
    background.failed.connect(told.append)
    background.run("reading", lambda: 1, done)
    wait_for(lambda: told == ["it does not fit."])


def test_closing_waits_for_what_is_being_written(background):
    started, may_end, written = threading.Event(), threading.Event(), []

    def job():
        started.set()
        may_end.wait()
        written.append(True)

    background.run("writing", job, pytest.fail)
    background.run("never", lambda: written.append(False), pytest.fail)
    started.wait()
    threading.Timer(0.05, may_end.set).start()
    background.close()
    settle()
    assert written == [True]
