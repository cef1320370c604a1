"""Learning without labels, and measuring encoders, as the worker process does it."""

import numpy as np
import pytest
from phantoms import make_image, make_truth
from phantoms_ssl import short_pretraining
from random_encoders import make_encoder
from worker_talk import Conversation, SharedImage

from napari_sparseseg import pretraining_job
from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.encoder_checkpoint import load_encoder, save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    EncoderProbed,
    EncoderTrained,
    Failed,
    ImageReady,
    Noted,
    PretextPictured,
    PretextScored,
    StepDone,
    WorkDone,
    WorkerReady,
)
from napari_sparseseg.pretraining_job import PretrainJob, ProbeJob
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.requests import Pretrain, ProbeEncoders, SaveModel, SharedHandle
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume import save_map, volume_from_array

TRUTH = make_truth()
IMAGE = make_image(TRUTH)
PAINTED = ClassTable.from_values([2, 9], {2: "ball", 9: "cube"})  # values as they are painted
NOWHERE = SharedHandle("", "float32", (1, *TRUTH.shape))
NOTHING = {"voxels": np.zeros(0, np.int64), "values": np.zeros(0, np.uint8)}
ALL = {"voxels": np.arange(TRUTH.size), "values": np.array([1, 2, 9], np.uint8)[TRUTH].reshape(-1)}

pytestmark = pytest.mark.usefixtures("few_checks")


def ask(folder, image=NOWHERE, steps=3, task="denoising", **changes):
    values = {
        "image": image,
        "spacing": (1.0, 1.0, 1.0),
        "name": "phantom",
        "uses_image": True,
        "files": (),
        "table": PAINTED,
        **NOTHING,
        "config": short_pretraining(task, steps=steps, batch_size=2),
        "pretext": PretextConfig(),
        "network": NetworkConfig(),
        "folder": str(folder),
        **changes,
    }
    return Pretrain(**values)


def probe(*folders, image=NOWHERE, labels=ALL):
    folders = tuple(map(str, folders))
    return ProbeEncoders(
        image, (1.0, 1.0, 1.0), PAINTED, "phantom", **labels, folders=folders, network=NetworkConfig()
    )


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def same(first, second):
    first, second = load_encoder(first).weights, load_encoder(second).weights
    return all(np.array_equal(tensor, second[name]) for name, tensor in first.items())


def stop(request, after):
    """Stop a pre-training after some steps."""
    work = PretrainJob(IMAGE, request).run()
    next(event for event in work if isinstance(event, StepDone) and event.step == after)
    work.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two volumes, and what is none."""
    folder = tmp_path_factory.mktemp("volumes")
    volume = volume_from_array(IMAGE, (1.0, 1.0, 1.0))
    for number in range(2):
        save_map(folder / f"{number}.nii.gz", IMAGE[0] + number * IMAGE[0, ::-1], volume)
    (folder / "2.nii.gz").write_bytes(b"nothing")
    return tuple(str(folder / name) for name in ("0.nii.gz", "1.nii.gz", "2.nii.gz", "3.nii.gz"))


def test_an_encoder_learns_from_image_and_files_and_is_written(tmp_path, files):
    events = list(PretrainJob(IMAGE, ask(tmp_path, files=files)).run())
    assert events[-1] == EncoderTrained(str(tmp_path))
    assert [event.step for event in of_kind(events, StepDone)] == [1, 2, 3]
    for kind in (PretextScored, PretextPictured, WorkDone):
        assert of_kind(events, kind)
    assert [note.text[:13] for note in of_kind(events, Noted)] == ["2 is left out", "3 is left out"]
    encoder = load_encoder(tmp_path)
    assert encoder.task == "denoising"
    assert encoder.summary["volumes"] == ["phantom", "0", "1"]
    assert not (tmp_path / "state.json").exists()


def test_without_the_image_only_the_files_are_learnt_from(tmp_path, files):
    list(PretrainJob(IMAGE, ask(tmp_path, files=files[:1], uses_image=False)).run())
    assert load_encoder(tmp_path).summary["volumes"] == ["0"]
    with pytest.raises(InputError, match="there is no volume to learn from"):
        list(PretrainJob(IMAGE, ask(tmp_path, uses_image=False)).run())


def test_labels_of_the_image_join_in(tmp_path, monkeypatch):
    seen = []

    def pretrain(sources, *_, **__):
        seen.extend(source.read().annotation for source in sources)
        yield Noted("enough")
        raise InputError("enough")

    monkeypatch.setattr(pretraining_job, "pretrain", pretrain)
    for labels in (NOTHING, ALL):
        with pytest.raises(InputError, match="enough"):
            list(PretrainJob(IMAGE, ask(tmp_path, **labels)).run())
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1], TRUTH + 1)
    outside = {"voxels": np.array([TRUTH.size]), "values": np.array([1], np.uint8)}
    with pytest.raises(InputError, match="outside the volume"):
        PretrainJob(IMAGE, ask(tmp_path, **outside))


def test_what_was_stopped_is_gone_on_with(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    list(PretrainJob(IMAGE, ask(whole, steps=4)).run())
    stop(ask(part, steps=4), after=2)
    assert (part / "state.json").exists()
    assert not (part / "encoder.json").exists()
    events = list(PretrainJob(IMAGE, ask(part, steps=4)).run())
    assert [event.step for event in of_kind(events, StepDone)] == [3, 4]
    assert same(whole, part)


def test_an_encoder_that_could_not_be_written_is_not_lost(tmp_path, monkeypatch):
    def save(*_):
        raise InputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pretraining_job, "save_encoder", save)
        with pytest.raises(InputError, match="full"):
            list(PretrainJob(IMAGE, ask(tmp_path)).run())
    events = list(PretrainJob(IMAGE, ask(tmp_path)).run())
    assert not of_kind(events, StepDone)
    assert load_encoder(tmp_path).summary["steps"] == 3
    assert not (tmp_path / "state.json").exists()


def test_what_does_not_fit_is_begun_anew_and_notes_come_once(tmp_path, files):
    stop(ask(tmp_path, files=files[2:]), after=1)
    events = list(PretrainJob(IMAGE, ask(tmp_path, steps=2, files=files[2:])).run())
    assert [event.step for event in of_kind(events, StepDone)] == [1, 2]
    notes = [note.text for note in of_kind(events, Noted)]
    assert sum("begins anew" in text for text in notes) == 1
    assert len(set(notes)) == len(notes) == 3
    assert events[-1] == EncoderTrained(str(tmp_path))


def test_what_goes_wrong_while_learning_is_not_tried_again(tmp_path, monkeypatch):
    stop(ask(tmp_path), after=1)
    calls = []

    def pretrain(*_, resume, **__):
        calls.append(resume)
        yield StepDone(2, 0.0, 0.5)
        raise InputError("it diverged")

    monkeypatch.setattr(pretraining_job, "pretrain", pretrain)
    with pytest.raises(InputError, match="diverged"):
        list(PretrainJob(IMAGE, ask(tmp_path)).run())
    assert calls == [True]


def test_encoders_are_measured_and_one_that_fails_is_noted(tmp_path):
    save_encoder(tmp_path / "good-1", make_encoder())
    save_encoder(tmp_path / "two-1", make_encoder(channels=2))
    events = list(ProbeJob(IMAGE, probe(tmp_path / "two-1", tmp_path / "none", tmp_path / "good-1")).run())
    probed = of_kind(events, EncoderProbed)
    assert [event.folder for event in probed] == ["", str(tmp_path / "good-1")]
    for event in probed:
        assert 0 <= event.dice <= 1
        assert set(event.per_class) <= {"ball", "cube"}
    notes = [note.text for note in of_kind(events, Noted)]
    assert [text.split()[0] for text in notes] == ["two-1", "none"]
    shares = [event.share for event in of_kind(events, WorkDone)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    with pytest.raises(InputError, match="no labels"):
        ProbeJob(IMAGE, probe(labels=NOTHING))


def test_the_worker_learns_stops_and_measures(tmp_path):
    with Conversation(command=None) as talk, SharedImage("phantom", TRUTH.shape, classes=2) as shared:
        talk.wait_for(WorkerReady)
        shared.image.array[:] = IMAGE
        folder, image = tmp_path / "denoising-1", shared.image.handle
        talk.client.send(ask(folder, image, steps=100_000))
        talk.wait_for(StepDone)
        talk.client.send(SaveModel("nowhere"))  # which this job does not do
        talk.wait_for(Failed)
        talk.client.send(shared.request)
        talk.wait_for(ImageReady)
        assert (folder / "state.json").exists()
        talk.client.send(ask(folder, image, **ALL))
        assert talk.wait_for(EncoderTrained) == EncoderTrained(str(folder))
        assert any("begins anew" in text for text in talk.texts(Noted))
        talk.client.send(probe(folder, image=image))
        talk.wait(lambda: len(of_kind(talk.events, EncoderProbed)) == 2)
