import numpy as np
import pytest
from phantoms import label_slices, make_image, make_truth, mean_dice
from scipy import ndimage

from napari_sparseseg import preview
from napari_sparseseg.features import FeatureVolume
from napari_sparseseg.preview import (
    PREVIEW_METHODS,
    Preview,
    PreviewChoice,
    PreviewTeacher,
    choose_classifier,
    classify_volume,
    confident_labels,
)

CUBIC = (1.0, 1.0, 1.0)


def smooth_image(shape=(10, 11, 12), seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, 1.0) * 5).astype(np.float32)[None]


@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("method", PREVIEW_METHODS)
def test_every_classifier_completes_a_phantom(method, position):
    truth = make_truth(16)
    annotation = label_slices(truth, axial=(2, 5, 8, 11))
    features = FeatureVolume(make_image(truth, noise=0.1), CUBIC)
    probabilities = classify_volume(annotation, features, 3, PreviewChoice(method, position), seed=0)
    assert probabilities.shape == (3, 16, 16, 16)
    assert probabilities.sum(0) == pytest.approx(1, abs=1e-4)
    assert mean_dice(truth, probabilities.argmax(0), annotation == 0) > 0.7
    again = classify_volume(annotation, features, 3, PreviewChoice(method, position), seed=0)
    assert np.array_equal(probabilities, again)


def test_a_class_without_labels_gets_no_probability():
    truth = make_truth(12)
    annotation = label_slices(truth, axial=(4, 6)).clip(0, 2)
    features = FeatureVolume(make_image(truth), CUBIC)
    probabilities = classify_volume(annotation, features, 3, PreviewChoice("forest", False), seed=0)
    assert (probabilities[2] == 0).all()


def test_position_is_used_where_nothing_else_tells_classes_apart():
    truth = np.zeros((12, 16, 16), np.uint8)
    truth[:, :, 8:] = 1
    noise = np.random.default_rng(0).normal(size=(1, 12, 16, 16)).astype(np.float32)
    annotation = label_slices(truth, axial=(3, 8))
    choice = choose_classifier(annotation, FeatureVolume(noise, CUBIC), 2, seed=0)
    assert choice.position
    assert choice.held_out_dice > 0.9
    assert choice.name.endswith("with position")


def test_one_slice_gives_a_choice_that_was_not_tried():
    truth = make_truth(12)
    features = FeatureVolume(make_image(truth), CUBIC)
    choice = choose_classifier(label_slices(truth, axial=(6,)), features, 3, seed=0)
    assert choice == PreviewChoice("forest", False)
    assert choice.held_out_dice is None


def make_preview(shape=(12, 12, 12)):
    truth = make_truth(shape[0])
    annotation = label_slices(truth, axial=(3, 6, 8))
    return truth, annotation, PreviewTeacher(make_image(truth), CUBIC, 3, seed=0)


def test_the_picture_keeps_the_labels_and_is_better_than_chance():
    truth, annotation, teacher = make_preview()
    picture = teacher.picture(annotation, PreviewChoice("forest", False))
    channels = picture.probabilities.argmax(0)
    labelled = annotation > 0
    assert np.array_equal(channels[labelled], truth[labelled])
    assert mean_dice(truth, channels, ~labelled) > 0.6
    assert picture.probabilities.dtype == np.float16


def test_there_is_no_picture_of_one_class():
    _, annotation, teacher = make_preview()
    assert teacher.picture(annotation.clip(0, 1), PreviewChoice("forest", False)) is None
    assert teacher.picture(annotation * 0, PreviewChoice("forest", False)) is None


def test_large_volumes_are_pictured_on_a_coarser_grid(monkeypatch):
    monkeypatch.setattr(preview, "_GRID_VOXELS", 16**3 // 4)
    truth = make_truth(16)
    annotation = label_slices(truth, axial=(4, 7, 11))
    teacher = PreviewTeacher(make_image(truth), CUBIC, 3, seed=0)
    picture = teacher.picture(annotation, teacher.choose(annotation))
    assert picture.probabilities.shape == (3, 16, 16, 16)
    assert mean_dice(truth, picture.probabilities.argmax(0)) > 0.5


def test_only_confident_unlabelled_voxels_teach():
    probabilities = np.array([[0.95, 0.05], [0.55, 0.45], [0.1, 0.9], [0.0, 1.0]], np.float16).T
    shown = Preview(probabilities.reshape(2, 1, 1, 4), PreviewChoice("forest", False))
    annotation = np.array([[[0, 0, 0, 1]]], np.uint8)
    assert confident_labels(shown, annotation).tolist() == [[[1, 0, 2, 0]]]
    assert not confident_labels(None, annotation).any()


@pytest.mark.parametrize(("walker_is_right", "walked"), [(True, True), (False, False)])
def test_held_out_labels_decide_whether_a_random_walker_follows(monkeypatch, walker_is_right, walked):
    truth = make_truth()
    annotation = label_slices(truth, axial=(5, 9, 12))
    held_out = np.flatnonzero(annotation.reshape(-1) == 0)[::7]
    right = np.eye(3, dtype=np.float32)[truth].transpose(3, 0, 1, 2)
    answer = right if walker_is_right else np.roll(right, 1, axis=0)
    monkeypatch.setattr(preview, "walk_from_labels", lambda *_: answer)
    teacher = PreviewTeacher(make_image(truth), CUBIC, 3, seed=0)
    check = (held_out, truth.reshape(-1)[held_out].astype(np.int64))
    picture = teacher.picture(annotation, PreviewChoice("forest", position=False), check)
    assert picture.choice.walked is walked
    assert (picture.probabilities.argmax(0) == truth).mean() > 0.9
    again = teacher.picture(annotation, picture.choice)
    np.testing.assert_array_equal(again.probabilities, picture.probabilities)
