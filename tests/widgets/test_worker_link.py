"""Events come in the window's thread; a death is mended, but not for ever."""

import threading

import pytest
from qtpy.QtCore import QThread

from napari_sparseseg.requests import CloseImage, Restart
from napari_sparseseg.widgets.worker_link import MOST_RESTARTS, WorkerLink
from tests.widgets.conftest import InstantWorker, settle, wait_for


@pytest.fixture
def linked(workers):
    def make(*callbacks, dispatch):
        workers.append(InstantWorker(*callbacks, dispatch=dispatch))
        return workers[-1]

    link = WorkerLink(make)
    yield link, workers[0]
    link.close()


def test_events_of_any_thread_arrive_in_the_windows_thread_in_order(linked):
    link, worker = linked
    link.start()
    settle()
    arrived = []
    link.arrived.connect(lambda event: arrived.append((event, QThread.currentThread())))
    sender = threading.Thread(target=lambda: [worker.on_event(number) for number in range(100)])
    sender.start()
    sender.join()
    wait_for(lambda: len(arrived) == 100)
    assert [event for event, _ in arrived] == list(range(100))
    assert all(thread is QThread.currentThread() for _, thread in arrived)


def test_a_dead_worker_is_started_again_a_few_times(linked):
    link, worker = linked
    link.start()
    told = []
    link.died.connect(lambda sentence: told.append((sentence, link.alive)))
    for _ in range(MOST_RESTARTS + 1):
        worker.on_exit("It was killed.")
    wait_for(lambda: len(told) == MOST_RESTARTS + 1)
    assert [alive for _, alive in told] == [True] * MOST_RESTARTS + [False]
    assert worker.starts == 1 + MOST_RESTARTS
    link.send(CloseImage())
    assert worker.requests == []
    link.revive()
    link.send(CloseImage())
    assert worker.requests == [CloseImage()]


def test_nothing_arrives_after_closing(linked):
    link, worker = linked
    link.start()
    settle()
    arrived = []
    link.arrived.connect(arrived.append)
    link.died.connect(arrived.append)
    worker.on_event("late")
    link.close()
    link.close()
    worker.on_event("later")
    worker.on_exit("gone")
    link.send(Restart())
    settle(0.05)
    assert arrived == []
    assert worker.closed
    assert worker.requests == []
    assert worker.starts == 1
