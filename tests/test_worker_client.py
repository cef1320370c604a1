import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from worker_talk import Conversation, SharedImage, is_running, paint, wait_until_gone

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import ImageReady, Noted, PictureChanged, StepDone, StrokeLearnt, WorkerReady
from napari_sparseseg.requests import CloseImage, Look, SetClasses, Train
from napari_sparseseg.worker_client import WorkerClient
from napari_sparseseg.worker_process import WorkerProcess


@pytest.fixture
def talk():
    with Conversation() as conversation:
        yield conversation


@pytest.fixture
def image():
    with SharedImage("lung") as shared:
        yield shared


class Later:
    """A dispatch that keeps what it is given until it is told to run it, as a window's event loop does."""

    def __init__(self):
        self._kept = []
        self._changed = threading.Condition()

    def __call__(self, function):
        with self._changed:
            self._kept.append(function)
            self._changed.notify_all()

    def wait_for(self, number):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._kept) >= number, 120)

    def run(self):
        with self._changed:
            kept, self._kept = self._kept, []
        for function in kept:
            function()


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("worker")]


def test_a_client_knows_its_worker():
    talk = Conversation()
    client = talk.client
    assert not client.alive
    assert client.pid is None
    client.start()
    worker = client.pid
    assert client.alive
    assert is_running(worker)
    client.start()  # there is one
    assert client.pid == worker
    client.close()
    client.close()
    assert not client.alive
    assert client.pid is None
    assert not is_running(worker)
    assert talk.exits == []


def test_nothing_is_left_of_a_closed_client(talk):
    talk.wait_for(WorkerReady)
    before = len(threads())
    talk.client.close(60)
    assert before >= 3
    assert threads() == []


def test_a_worker_that_dies_is_told_and_another_can_be_started(talk, image):
    talk.client.send(image.request)
    talk.wait_for(ImageReady)
    for _ in range(3):
        worker = talk.client.pid
        os.kill(worker, signal.SIGKILL)
        talk.wait(lambda: talk.exits)
        (sentence,) = talk.exits
        assert sentence.startswith("The background worker ended unexpectedly (SIGKILL")
        assert sentence.endswith(").")
        assert not talk.client.alive
        assert not is_running(worker)
        talk.client.send(paint(1))  # nobody hears it
        talk.exits.clear()
        talk.events.clear()
        talk.client.restart()
        talk.client.send(image.request)
        talk.client.send(paint(2))
        talk.wait_for(StrokeLearnt)
        assert [type(event) for event in talk.events][:2] == [WorkerReady, ImageReady]
        assert StrokeLearnt(1) not in talk.events


@pytest.mark.parametrize("name", ["lung", "endless computation"])
def test_a_worker_that_works_can_be_restarted_or_killed(talk, image, name):
    talk.client.send(replace(image.request, name=name))
    talk.wait_for(ImageReady)
    first = talk.client.pid
    talk.events.clear()
    talk.client.restart()
    second = talk.client.pid
    assert second != first
    talk.wait_for(WorkerReady)
    wait_until_gone(first)
    talk.client.kill()
    wait_until_gone(second)
    assert not talk.client.alive
    talk.client.kill()
    talk.client.start()
    talk.client.send(image.request)
    talk.wait_for(ImageReady)
    assert talk.exits == []


def test_the_next_image_never_hears_of_the_one_before(image):
    later = Later()
    with Conversation(dispatch=later) as talk:
        talk.client.send(image.request)
        for number in range(20):
            talk.client.send(paint(number))
        later.wait_for(2 + 2 * 20)  # ready, image; picture and stroke
        talk.client.send(image.request)
        talk.client.send(paint(100))
        end = time.monotonic() + 60
        while StrokeLearnt(100) not in talk.events and time.monotonic() < end:
            later.run()
            time.sleep(0.01)
        kinds = [type(event) for event in talk.events if not isinstance(event, WorkerReady)]
        assert kinds[:3] == [ImageReady, PictureChanged, StrokeLearnt]
        assert StrokeLearnt(100) in talk.events
        assert not any(StrokeLearnt(number) in talk.events for number in range(20))


@pytest.mark.parametrize("turn", ["close image", "restart", "kill", "close"])
def test_what_is_over_is_not_heard_of(image, turn):
    later = Later()
    with Conversation(dispatch=later) as talk:
        talk.client.send(image.request)
        talk.client.send(paint(1))
        later.wait_for(4)
        if turn == "close image":
            talk.client.send(CloseImage())
        else:
            getattr(talk.client, turn)()
        later.run()
        assert [type(event) for event in talk.events] == ([WorkerReady] if turn == "close image" else [])
        assert talk.exits == []


def test_a_death_that_was_mended_is_not_told(image):
    later = Later()
    with Conversation(dispatch=later) as talk:
        later.wait_for(1)
        os.kill(talk.client.pid, signal.SIGKILL)
        later.wait_for(2)
        talk.client.restart()
        later.run()
        assert talk.exits == []
        assert talk.events == []


def test_events_are_dropped_by_generation_while_training_floods(talk, image):
    for number in range(10):
        after = len(talk.events)
        talk.client.send(replace(image.request, name=f"image {number}"))
        talk.client.send(Train(True))
        talk.wait_for(ImageReady, after)
        steps = talk.wait_for(StepDone, after + talk.events[after:].index(ImageReady()))
        assert steps.step == 1


def test_sending_never_waits_for_the_worker(talk, image):
    talk.client.send(image.request)
    talk.wait_for(ImageReady)
    many = np.zeros(10**6, np.int64)
    os.kill(talk.client.pid, signal.SIGSTOP)
    for number in range(10):  # far more than a pipe holds; would never return if it waited
        talk.client.send(paint(number, many))
    talk.client.send(Look(0, 0))
    os.kill(talk.client.pid, signal.SIGCONT)
    talk.wait_for(Noted)
    assert [event.number for event in talk.events if isinstance(event, StrokeLearnt)] == list(range(10))


def test_a_worker_that_does_not_listen_is_left_behind(image):
    with Conversation() as talk:
        talk.client.send(image.request)
        talk.wait_for(ImageReady)
        worker = talk.client.pid
        os.kill(worker, signal.SIGSTOP)
        talk.client.send(paint(0, np.zeros(10**6, np.int64)))
        talk.client.close(0.1)
        wait_until_gone(worker)
        assert talk.exits == []


def test_closing_lets_the_worker_keep_its_state(tmp_path, talk, image):
    talk.client.send(replace(image.request, state_folder=str(tmp_path)))
    talk.client.send(Train(True))
    talk.wait_for(StepDone)
    talk.client.close(60)
    assert (tmp_path / "closed").exists()


def test_a_client_may_be_closed_by_what_it_calls():
    closed = threading.Event()

    def close(event):
        client.close()
        closed.set()

    client = WorkerClient(close, lambda sentence: None, connect=Conversation().client._connect)
    client.start()
    assert closed.wait(120)
    assert not client.alive


def test_a_mistake_in_a_callback_does_not_end_the_conversation(caplog, image):
    heard = threading.Event()

    def stumble(event):
        if isinstance(event, ImageReady):
            heard.set()
        raise RuntimeError("a mistake")

    client = WorkerClient(stumble, lambda sentence: None, connect=Conversation().client._connect)
    client.start()
    client.send(image.request)
    assert heard.wait(120)
    client.close()
    assert "a mistake" in caplog.text


def test_a_program_that_is_no_worker_is_ended_with_a_sentence():
    with Conversation(command=(sys.executable, "-c", "print('hello, ' * 100); input()")) as talk:
        talk.wait(lambda: talk.exits)
        assert talk.exits == [
            "The background worker ended unexpectedly "
            "(window and worker do not understand each other: the stream holds no messages)."
        ]
        assert talk.events == []


def test_a_worker_that_cannot_start_is_told_in_a_sentence(tmp_path):
    client = WorkerClient(print, print, connect=lambda: WorkerProcess((str(tmp_path / "missing"),)))
    for begin in (client.start, client.restart):
        with pytest.raises(InputError, match="cannot be started"):
            begin()
    assert not client.alive
    client.send(Train(True))
    client.close()


def test_a_request_that_is_none_is_refused_at_once(talk, image):
    with pytest.raises(InputError):
        talk.client.send(SetClasses("liver"))
    talk.client.send(image.request)
    with pytest.raises(InputError):
        talk.client.send(replace(image.request, spacing=(1.0, 1.0)))
    talk.wait_for(ImageReady)  # the generation is still that of the first
