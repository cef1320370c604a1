import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantoms import label_slices, make_image, make_truth, mean_dice
from worker_talk import STAND_IN, Conversation, SharedImage, is_running, paint, wait_until, wait_until_gone

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.events import (
    Failed,
    ImageReady,
    ModelSaved,
    Noted,
    PictureCompleted,
    StepDone,
    StrokeLearnt,
    Waiting,
    WorkerReady,
)
from napari_sparseseg.messages import encode, read_message, write_message
from napari_sparseseg.requests import (
    CloseImage,
    Configure,
    KeepState,
    Look,
    Paint,
    Restart,
    SaveModel,
    SetClasses,
    Train,
)
from napari_sparseseg.settings import InferenceConfig, NetworkConfig, TrainingConfig
from napari_sparseseg.shared_array import sweep_dead
from napari_sparseseg.worker_process import WorkerProcess

WINDOW = str(Path(__file__).with_name("stand_in_window.py"))


@pytest.fixture
def talk():
    with Conversation() as conversation:
        yield conversation


@pytest.fixture
def image():
    with SharedImage("lung") as shared:
        yield shared


@pytest.fixture
def process():
    """A worker without a client."""
    worker = WorkerProcess(STAND_IN)
    assert isinstance(read_message(worker.events).item, WorkerReady)
    yield worker
    worker.kill()
    if not worker.requests.closed:
        worker.requests.close()
    worker.finish()


def test_a_worker_does_what_it_is_asked_in_order(talk, image):
    assert talk.wait_for(WorkerReady) == WorkerReady("stand-in")
    send = talk.client.send
    send(image.request)
    send(paint(7, [0, 3]))
    send(Look(1, 2))
    send(SetClasses(ClassTable.from_values([2], {2: "liver"})))
    send(paint(8, [4], value=1, source="preview"))
    talk.wait(lambda: StrokeLearnt(8) in talk.events)
    told = [event for event in talk.events if isinstance(event, StrokeLearnt | Noted | ImageReady)]
    assert told == [
        ImageReady(), StrokeLearnt(7), Noted("look 1 2"), Noted("background, liver"), StrokeLearnt(8),
    ]  # fmt: skip
    assert image.prediction.array.reshape(-1)[:6].tolist() == [2, 0, 0, 2, 1, 0]
    assert talk.wait_for(Waiting) == Waiting("lung")


def test_a_stray_print_does_no_harm(image):
    with Conversation("talkative") as talk:
        talk.wait_for(WorkerReady)
        talk.client.send(image.request)
        talk.client.send(Configure(TrainingConfig(seed=5), NetworkConfig(size="large"), InferenceConfig()))
        assert talk.wait_for(Noted) == Noted("5 large 0.5")


def test_requests_are_heard_between_steps_of_training(talk, image):
    talk.client.send(image.request)
    talk.client.send(Train(True))
    talk.wait_for(StepDone)
    talk.client.send(paint(1))
    talk.wait_for(StrokeLearnt)
    after = len(talk.events)
    assert talk.wait_for(StepDone, after).step > 1
    talk.client.send(Train(False))
    talk.wait_for(Waiting, after)
    steps = [event.step for event in talk.events if isinstance(event, StepDone)]
    assert steps == list(range(1, len(steps) + 1))


def test_of_many_looks_the_last_counts_and_every_stroke_does(tmp_path, image):
    gate = tmp_path / "gate"
    with Conversation(f"gate={gate}") as talk:
        talk.client.send(image.request)
        for number in range(1000):
            talk.client.send(Look(0, number))
            talk.client.send(paint(number))
        gate.touch()
        talk.wait(lambda: StrokeLearnt(999) in talk.events)
        strokes = [event.number for event in talk.events if isinstance(event, StrokeLearnt)]
        looks = [int(text.split()[-1]) for text in talk.texts(Noted)]
    assert strokes == list(range(1000))
    assert len(looks) < 1000
    assert looks == sorted(looks)
    assert looks[-1] == 999


def test_what_the_user_did_wrong_is_told_and_the_work_goes_on(talk, image):
    talk.client.send(image.request)
    talk.client.send(paint(1, [10**6]))
    talk.client.send(SaveModel("model"))
    talk.client.send(paint(2))
    talk.wait_for(StrokeLearnt)
    assert talk.texts(Failed) == [
        "a label lies outside the image; open the image again.",
        "no network has learnt yet; start learning first.",
    ]
    talk.client.send(Train(True))
    talk.wait_for(StepDone)
    talk.client.send(SaveModel("model"))
    assert talk.wait_for(ModelSaved) == ModelSaved("model")


def test_an_image_that_cannot_be_opened_is_told(talk, image):
    talk.client.send(replace(image.request, name="unreadable"))
    assert talk.wait_for(Failed) == Failed("this image is unreadable; choose another.")
    talk.client.send(Restart())
    talk.wait(lambda: len(talk.texts(Failed)) == 2)
    assert "no image is open" in talk.texts(Failed)[1]
    talk.client.send(image.request)
    talk.wait_for(ImageReady)


def test_an_unforeseen_error_ends_the_session_but_not_the_worker(talk, image):
    talk.client.send(image.request)
    talk.client.send(Restart())
    assert talk.wait_for(Failed) == Failed(
        "the work was stopped by an error in the program (RuntimeError: nobody foresaw this); "
        "open the image again.",
        ended=True,
    )
    talk.wait(lambda: any(isinstance(e, Waiting) and "open the image again" in e.reason for e in talk.events))
    for request in (paint(1), Look(0, 0), Train(True)):  # sent before that was known
        talk.client.send(request)
    after = len(talk.events)
    talk.client.send(image.request)
    talk.wait_for(ImageReady, after)
    assert len(talk.texts(Failed)) == 1
    assert talk.client.alive


def test_an_event_that_cannot_travel_is_told_and_the_work_goes_on(talk, image):
    talk.client.send(replace(image.request, name="unspeakable"))
    talk.client.send(Look(0, 0))
    assert "Noted.text must be of type str" in talk.wait_for(Failed).text
    talk.client.send(Train(True))
    talk.wait_for(StepDone)


def test_a_full_memory_is_told(talk, image):
    talk.client.send(replace(image.request, name="bad training"))
    talk.client.send(Train(True))
    assert talk.wait_for(Failed).text.startswith("the memory is full")


def test_the_traceback_is_on_stderr(process, image):
    write_message(process.requests, image.request, 1)
    write_message(process.requests, Restart(), 1)
    while not isinstance(read_message(process.events).item, Failed):
        pass
    process.requests.close()
    process.finish()
    assert "RuntimeError: nobody" in process.last_words


def test_state_is_kept_when_an_image_is_closed_or_another_opened(tmp_path, talk, image):
    closed = tmp_path / "closed"
    for request in (CloseImage(), image.request):
        talk.client.send(replace(image.request, name="one", state_folder=str(tmp_path)))
        talk.client.send(request)
        talk.client.send(replace(image.request, name="unreadable"))  # answered after all before
        talk.wait_for(Failed)
        assert closed.read_text() == "one"
        closed.unlink()
        talk.events.clear()


def test_where_state_is_kept_may_be_said_later(tmp_path, talk, image):
    talk.client.send(image.request)
    talk.client.send(KeepState(str(tmp_path)))
    talk.client.close(60)
    assert (tmp_path / "closed").exists()


def test_state_that_cannot_be_kept_is_told_whatever_came_after(tmp_path, talk, image):
    talk.client.send(replace(image.request, name="unsaveable", state_folder=str(tmp_path)))
    talk.client.send(image.request)
    assert talk.wait_for(Failed) == Failed("the state cannot be written; free some space.")
    talk.wait_for(ImageReady)


def test_work_that_comes_to_its_end_is_closed(tmp_path, talk, image):
    talk.client.send(replace(image.request, name="short work", state_folder=str(tmp_path)))
    wait_until((tmp_path / "closed").exists)
    talk.client.send(SaveModel("model"))
    assert "no image is open" in talk.wait_for(Failed).text


def test_a_worker_that_cannot_warm_up_says_why():
    with Conversation("broken") as talk:
        talk.wait(lambda: talk.exits)
        (failure,) = talk.events
    assert failure.fatal
    assert "ImportError: no torch" in failure.text
    assert "exit code 1" in talk.exits[0]


def test_a_message_that_is_not_valid_is_told_and_the_next_is_read(process, image):
    process.requests.write(encode(image.request, 1))
    process.requests.write(encode(paint(1), 1).replace(b'"stroke"', b"strokes:"))
    process.requests.write(encode(WorkerReady("")))
    write_message(process.requests, paint(2), 1)
    heard = []
    while StrokeLearnt(2) not in heard:
        heard.append(read_message(process.events).item)
    first, second = (event.text for event in heard if isinstance(event, Failed))
    assert "cannot be read" in first
    assert "does not know what WorkerReady means" in second


def test_garbage_on_the_pipe_ends_the_worker_with_a_sentence(process):
    process.requests.write(b"garbage" * 1000)
    process.requests.flush()
    failure = read_message(process.events).item
    assert failure.fatal
    assert "do not understand each other" in failure.text
    assert read_message(process.events) is None
    assert process.finish() == "exit code 2"
    process.requests.close()


@pytest.mark.parametrize("name", ["lung", "endless computation"])
@pytest.mark.parametrize("cut", [0, 10, 100])
def test_the_worker_ends_when_its_pipe_does(process, image, name, cut):
    write_message(process.requests, replace(image.request, name=name), 1)
    assert read_message(process.events).item == ImageReady()
    process.requests.write(encode(Look(0, 0), 1)[:cut])
    process.requests.close()
    assert process.wait(60)
    assert process.finish() == "exit code 0"


def test_a_worker_that_was_just_started_ends_with_its_pipe(tmp_path):
    process = WorkerProcess((*STAND_IN, f"gate={tmp_path / 'never'}"))
    process.requests.close()
    assert process.finish() == "exit code 0"


def test_ctrl_c_is_for_the_window(process, image):
    os.kill(process.pid, signal.SIGINT)
    write_message(process.requests, image.request, 1)
    assert read_message(process.events).item == ImageReady()


@pytest.mark.parametrize("name", ["lung", "endless computation"])
@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_killed_window_leaves_nothing(name, how):
    with subprocess.Popen([sys.executable, WINDOW, name, how], stdout=subprocess.PIPE, text=True) as window:
        worker, shared, fork = window.stdout.readline().split()
        try:
            assert is_running(int(worker))
            assert Path(shared).exists()
            window.kill()
            window.wait()
            wait_until_gone(int(worker))
        finally:
            window.kill()
            if int(fork):
                os.kill(int(fork), signal.SIGKILL)
    sweep_dead()
    assert not Path(shared).exists()


@pytest.mark.parametrize("name", ["lung", "endless computation"])
def test_a_window_that_ends_without_a_word_leaves_nothing(name):
    answer = subprocess.run(
        [sys.executable, WINDOW, name, "leave"], capture_output=True, text=True, check=True
    )
    worker, shared, _ = answer.stdout.split()
    wait_until_gone(int(worker))
    assert not Path(shared).exists()
    assert answer.stderr == ""


def test_the_window_never_loads_what_the_worker_computes_with():
    slow = {"torch", "monai", "sklearn", "qtpy", "napari"}
    code = (
        "import sys, napari_sparseseg.worker_client, napari_sparseseg.shared_array, napari_sparseseg.worker;"
        f"print(sorted({slow!r} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_real_session_learns_in_the_worker(tmp_path):
    truth = make_truth()
    labels = label_slices(truth, axial=(5, 9, 12)).reshape(-1)
    voxels = np.flatnonzero(labels)
    with (
        SharedImage("phantom", truth.shape, tmp_path, classes=2) as image,
        Conversation(command=None) as talk,
    ):
        image.image.array[:] = make_image(truth)
        talk.client.send(image.request)
        talk.client.send(
            Configure(TrainingConfig(device="cpu", precision="float32"), NetworkConfig(), InferenceConfig())
        )
        talk.client.send(Paint(1, voxels, labels[voxels], "stroke"))
        assert talk.wait_for(WorkerReady).device
        talk.wait_for(PictureCompleted)
        prediction = image.prediction.array
        assert prediction.reshape(-1)[voxels].tolist() == labels[voxels].tolist()
        assert mean_dice(truth, np.maximum(prediction, 1) - 1) > 0.7
        talk.client.send(Train(True))
        talk.wait(lambda: any(isinstance(event, StepDone) and event.step == 3 for event in talk.events))
        talk.client.send(SaveModel(str(tmp_path / "model")))
        talk.wait_for(ModelSaved)
        assert talk.texts(Failed) == []
        talk.client.close(60)
    assert (tmp_path / "state.json").exists()
    assert (tmp_path / "model" / "model.safetensors").exists()
