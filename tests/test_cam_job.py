"""Classifiers and class maps as the worker process makes them."""

import numpy as np
import pytest
from phantoms import make_image, make_truth
from random_encoders import make_encoder
from worker_talk import Conversation, SharedImage

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cam_job import ClassifierJob, MapJob
from napari_sparseseg.classifier import load_classifier
from napari_sparseseg.encoder_checkpoint import save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    ClassifierScored,
    ClassifierTrained,
    ClassMapChecked,
    ClassMapMade,
    Failed,
    ImageReady,
    Noted,
    WorkDone,
    WorkerReady,
)
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.requests import MapClass, SaveModel, SharedHandle, TrainClassifier
from napari_sparseseg.settings import CamConfig, ClassifierConfig, CrfConfig, NetworkConfig
from napari_sparseseg.shared_array import SharedArray

TRUTH = make_truth()
PAINTED = ClassTable.from_values([2, 9], {2: "ball", 9: "cube"})  # values as they are painted
NOWHERE = SharedHandle("", "float32", (1, *TRUTH.shape))


def find_ranges(truth=TRUTH):
    """Return image-level labels: in which slices of each orientation the classes are."""
    labels = []
    for label in (2, 3):
        for axis in range(3):
            slices = np.flatnonzero((truth == label - 1).any(tuple({0, 1, 2} - {axis})))
            labels.append(ImageLabel(label, True, axis, int(slices[0]), int(slices[-1])))
    return tuple(labels)


def ask_classifier(folder, image=NOWHERE, steps=4, **changes):
    values = {
        "image": image,
        "spacing": (1.0, 1.0, 1.0),
        "table": PAINTED,
        "name": "phantom",
        "labels": find_ranges(),
        "config": ClassifierConfig(classifier_steps=steps, device="cpu"),
        "network": NetworkConfig(),
        "folder": str(folder),
        **changes,
    }
    return TrainClassifier(**values)


def ask_map(folder, image=NOWHERE, target=NOWHERE, **changes):
    values = {
        "image": image,
        "spacing": (1.0, 1.0, 1.0),
        "name": "phantom",
        "target": target,
        "value": 9,
        "folder": str(folder),
        "voxel": None,
        "check": False,
        "config": CamConfig(),
        "crf": CrfConfig(),
        **changes,
    }
    return MapClass(**values)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of a classifier that has hardly learnt, and the events on the way."""
    folder = tmp_path_factory.mktemp("classifier")
    return folder, list(ClassifierJob(make_image(TRUTH), ask_classifier(folder)).run())


def test_a_classifier_learns_and_is_written(trained):
    folder, events = trained
    assert events[-1] == ClassifierTrained(str(folder))
    shares = [event.share for event in events if isinstance(event, WorkDone)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    scored = next(event for event in events if isinstance(event, ClassifierScored))
    assert set(scored.balanced_accuracy) <= {"ball", "cube"}
    assert load_classifier(folder).table == PAINTED


def test_a_classifier_that_is_stopped_writes_nothing(tmp_path):
    work = ClassifierJob(make_image(TRUTH), ask_classifier(tmp_path / "c", steps=1000)).run()
    next(work)
    work.close()
    assert not (tmp_path / "c").exists()


def test_a_classifier_starts_from_an_encoder_where_there_is_one(tmp_path):
    save_encoder(tmp_path, make_encoder())
    request = ask_classifier(tmp_path / "c", steps=1, encoder=str(tmp_path))
    events = list(ClassifierJob(make_image(TRUTH), request).run())
    assert any("was taken over" in event.text for event in events if isinstance(event, Noted))


def test_a_map_lies_in_its_target(trained):
    target = np.zeros(TRUTH.shape, np.uint8)
    events = list(MapJob(make_image(TRUTH), target, ask_map(trained[0], config=CamConfig("saliency"))).run())
    made = events[-1]
    assert isinstance(made, ClassMapMade)
    assert made.label == 3
    assert not made.is_empty
    assert target.max() == 255
    assert 0 <= made.score <= 1


def test_a_check_leaves_the_target_alone(trained):
    target = np.zeros(TRUTH.shape, np.uint8)
    events = list(MapJob(make_image(TRUTH), target, ask_map(trained[0], check=True)).run())
    assert isinstance(events[-1], ClassMapChecked)
    assert events[-1].text.endswith(".")
    assert not target.any()


@pytest.mark.parametrize("value", [0, 1, 5])
def test_a_class_that_the_network_does_not_know_is_told(trained, value):
    work = MapJob(make_image(TRUTH), np.zeros(TRUTH.shape, np.uint8), ask_map(trained[0], value=value)).run()
    with pytest.raises(InputError, match="does not know this class"):
        list(work)


# -- in the worker process --


def test_the_worker_learns_maps_and_goes_back_to_strokes(tmp_path):
    with (
        Conversation(command=None) as talk,
        SharedImage("phantom", TRUTH.shape, classes=2) as shared,
        SharedArray.create(TRUTH.shape, np.uint8) as target,
        SharedArray.create((2, 2, 2), np.uint8) as small,
    ):
        talk.wait_for(WorkerReady)
        shared.image.array[:] = make_image(TRUTH)
        folder, image = tmp_path / "classifier", shared.image.handle
        talk.client.send(ask_classifier(folder, image))
        talk.wait_for(ClassifierTrained)
        talk.client.send(SaveModel("nowhere"))  # which a classifier does not do
        talk.wait_for(Failed)
        talk.client.send(ask_map(folder, image, target.handle, config=CamConfig("saliency")))
        assert talk.wait_for(ClassMapMade).label == 3
        assert target.array.max() == 255
        before = len(talk.events)
        talk.client.send(ask_map(folder, image, small.handle))
        assert "do not belong together" in talk.wait_for(Failed, before).text
        before = len(talk.events)
        talk.client.send(ask_map(tmp_path / "nothing", image, target.handle))
        assert "nothing" in talk.wait_for(Failed, before).text
        talk.client.send(shared.request)
        talk.wait_for(ImageReady)
