import json
from dataclasses import replace

import numpy as np
import pytest
from phantoms import make_image, make_truth, mean_dice
from random_encoders import make_encoder

from napari_sparseseg import live as live_module
from napari_sparseseg import live_lesson, live_preview, live_round
from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.encoder_checkpoint import save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    HeldOutScored,
    ImageReady,
    Noted,
    PictureChanged,
    PictureCompleted,
    RoundStarted,
    StepDone,
    StrokeLearnt,
    Waiting,
    WindowDone,
    finish,
)
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.live import LiveSession
from napari_sparseseg.settings import LIVE_TRAINING, InferenceConfig, NetworkConfig

TABLE = ClassTable.from_values([2, 3], {2: "ball", 3: "cube"})
QUICK = replace(LIVE_TRAINING, steps=120, patch_voxels=12**3, device="cpu", precision="float32")
EVERY = 20_000


class Live:
    """A session on the phantom, and what it has said."""

    def __init__(self, size=18, spacing=(1.0, 1.0, 1.0), table=TABLE, folder=None, image=None):
        self.truth = make_truth(size)
        self.image = make_image(self.truth) if image is None else image
        shape = self.image.shape[1:]
        self.prediction, self.uncertainty = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self.session = LiveSession(
            self.image, spacing, self.prediction, self.uncertainty, table, state_folder=folder
        )
        self.session.configure(QUICK, NetworkConfig(), InferenceConfig())
        self.work = self.session.run()
        self.number = 0

    def paint(self, voxels, values, source="stroke"):
        self.number += 1
        voxels = np.asarray(voxels, np.int64)
        values = np.broadcast_to(np.asarray(values, np.uint8), voxels.shape)
        self.session.paint(self.number, voxels, values, source)
        return voxels

    def paint_slice(self, index, axis=0, keep=lambda values: values > 0):
        """Label a slice as the truth has it, in painted values."""
        where = np.zeros(self.truth.shape, bool)
        where[(slice(None),) * axis + (index,)] = True
        voxels = np.flatnonzero(where)
        values = self.truth.reshape(-1)[voxels] + 1
        chosen = keep(values)
        return self.paint(voxels[chosen], values[chosen])

    def until(self, *kinds, where=lambda event: True):
        """Run until an event of these kinds comes; return all events up to it."""
        events = []
        for _ in range(EVERY):
            event = next(self.work)
            events.append(event)
            if isinstance(event, kinds) and where(event):
                return events
        raise AssertionError(f"{kinds} never came")

    def dice(self):
        return mean_dice(self.truth, np.maximum(self.prediction, 1) - 1)


def started(**options):
    live = Live(**options)
    live.until(ImageReady)
    return live


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_one_class_alone_only_waits_and_says_why():
    live = started()
    live.paint_slice(9, keep=lambda values: values == 1)
    assert "one more class" in live.until(Waiting)[-1].reason
    assert not live.prediction.any()


def test_the_visible_slice_comes_first_then_the_whole():
    live = started()
    live.session.look(1, 6)
    live.paint_slice(9)
    pictures = of_kind(live.until(PictureCompleted), PictureChanged)
    assert pictures[0].region == ((0, 18), (6, 7), (0, 18))
    assert {picture.shown for picture in pictures} == {"preview"}
    assert live.prediction.all()
    assert set(np.unique(live.prediction)) <= {1, 2, 3}
    assert live.dice() > 0.5


def test_looking_elsewhere_during_a_refresh_shows_that_slice_next():
    live = started()
    live.paint_slice(9)
    live.until(PictureChanged)
    live.session.look(2, 11)
    shown = live.until(PictureChanged)[-1]
    assert shown.region[2] == (11, 12)


def test_the_network_takes_over_and_does_well():
    live = started()
    live.paint_slice(5)
    live.paint_slice(9)
    live.paint_slice(12)
    live.session.train(True)
    events = live.until(PictureCompleted, where=lambda event: event.shown != "preview")
    assert of_kind(events, RoundStarted)[0].labelled == 3 * 18 * 18
    scores = of_kind(events, HeldOutScored)
    assert scores
    assert all(0 <= score.dice <= 1 for score in scores)
    last = live.until(Waiting)[-1]
    assert "has learnt" in last.reason
    assert live.dice() > 0.85


def test_what_the_user_painted_is_shown_as_painted_at_once():
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step > 20)
    wrong = np.flatnonzero(live.truth == 0)[200:260]
    live.paint(wrong, 3)
    live.until(PictureChanged)
    live.until(PictureCompleted)
    assert (live.prediction.reshape(-1)[wrong] == 3).all()
    assert not live.uncertainty.reshape(-1)[wrong].any()


def test_each_change_is_acknowledged_once_and_in_order():
    live = started()
    for index in (3, 9, 14):
        live.paint_slice(index)
    live.session.train(True)
    events = live.until(StepDone, where=lambda event: event.step == 3)
    live.paint_slice(6)
    events += live.until(StepDone, where=lambda event: event.step == 5)
    assert [event.number for event in of_kind(events, StrokeLearnt)] == [1, 2, 3, 4]


def test_labels_held_out_are_not_learnt_until_they_are_painted_anew():
    live = started()
    for index in (4, 9, 13):
        live.paint_slice(index)
    live.session.train(True)
    live.until(RoundStarted)
    learner = live.session._round
    held_out = learner.held_out
    assert len(held_out)
    assert not learner._own.labels.reshape(-1)[held_out].any()
    again = held_out[:30]
    live.paint(again, live.truth.reshape(-1)[again] + 1)
    live.until(StrokeLearnt)
    assert (learner._own.labels.reshape(-1)[again].numpy() == live.truth.reshape(-1)[again] + 1).all()


def test_a_pause_keeps_the_state_and_a_later_session_goes_on(tmp_path):
    live = started(folder=tmp_path)
    live.paint_slice(5)
    live.paint_slice(10)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 30)
    live.session.train(False)
    live.until(Waiting)
    assert (tmp_path / "state.json").exists()
    again = started(folder=tmp_path)
    again.paint_slice(5)
    again.paint_slice(10)
    again.session.train(True)
    assert of_kind(again.until(StepDone), StepDone)[0].step == 31
    again.session.restart()
    assert of_kind(again.until(StepDone), StepDone)[0].step == 1


def test_a_state_can_be_kept_from_later_on(tmp_path):
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 2)
    live.session.keep_state(tmp_path)
    live.session.close()
    again = started()
    again.session.keep_state(tmp_path)
    again.paint_slice(9)
    again.session.train(True)
    assert again.until(StepDone)[-1].step == 3


def test_a_state_that_cannot_be_kept_is_told_of_and_work_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    live = started(folder=tmp_path / "file" / "state")
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 2)
    live.session.train(False)
    assert "could not be kept" in live.until(Noted)[-1].text
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 4)


def test_a_damaged_state_is_told_of_and_learning_begins_anew(tmp_path):
    live = started(folder=tmp_path)
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 2)
    live.session.close()
    (tmp_path / "state.safetensors").write_bytes(b"nothing")
    again = started(folder=tmp_path)
    again.paint_slice(9)
    again.session.train(True)
    events = again.until(StepDone)
    assert "begins anew" in of_kind(events, Noted)[0].text
    assert events[-1].step == 1


def test_a_new_class_begins_a_new_round():
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 3)
    table = ClassTable.from_values([2, 3, 7])
    live.session.set_classes(table)
    live.paint([0, 1, 2], 7)
    assert live.until(RoundStarted)[-1].number == 2
    live.until(PictureCompleted)
    assert live.prediction.reshape(-1)[0] == 7


def test_without_labels_again_nothing_is_shown_and_the_network_is_kept():
    live = started()
    voxels = live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 5)
    live.paint(voxels, 0)
    assert "one more class" in live.until(Waiting)[-1].reason
    assert not live.prediction.any()
    live.paint_slice(9)
    assert of_kind(live.until(StepDone), StepDone)[0].step == 6


@pytest.mark.parametrize("moment", [WindowDone, HeldOutScored, PictureChanged, StepDone])
@pytest.mark.parametrize("then", ["nothing", "restart"])
def test_a_class_can_be_deleted_at_any_moment(moment, then):
    live = started()
    for index in (5, 9, 12):
        live.paint_slice(index)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 49)
    live.until(moment)
    live.session.set_classes(ClassTable.from_values([2]))
    if then == "restart":
        live.session.restart()
    live.until(StepDone, where=lambda event: event.step == 3)
    live.session.train(False)
    live.until(PictureCompleted)
    assert set(np.unique(live.prediction)) <= {1, 2}


def test_a_new_name_goes_into_the_model(tmp_path):
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone)
    live.session.set_classes(ClassTable.from_values([2, 3], {2: "liver", 3: "spleen"}))
    live.session.save_model(tmp_path / "model")
    assert load_model(tmp_path / "model").table.names == ("background", "liver", "spleen")


def test_what_is_forgotten_stays_forgotten(tmp_path):
    live = started(folder=tmp_path)
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 3)
    live.session.save_state()
    live.session.restart()
    live.session.close()
    again = started(folder=tmp_path)
    again.paint_slice(9)
    again.session.train(True)
    assert of_kind(again.until(StepDone), StepDone)[0].step == 1


def test_a_state_of_other_settings_is_told_of(tmp_path):
    live = started(folder=tmp_path)
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 3)
    live.session.close()
    again = started(folder=tmp_path)
    again.session.configure(QUICK, NetworkConfig(architecture="segresnet"), InferenceConfig())
    again.paint_slice(9)
    again.session.train(True)
    events = again.until(StepDone)
    assert "other classes or settings" in of_kind(events, Noted)[0].text
    assert events[-1].step == 1


def test_a_device_that_is_not_there_is_refused_and_work_goes_on():
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone)
    with pytest.raises(InputError, match="no usable mps device"):
        live.session.configure(replace(QUICK, device="mps"), NetworkConfig(), InferenceConfig())
    assert live.until(StepDone)[-1].step == 2


def test_numbers_out_of_range_are_told_of_and_learning_begins_anew(monkeypatch):
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 3)
    losses = iter([float("nan")])
    plain = live_round.take_step
    monkeypatch.setattr(live_round, "take_step", lambda *a, **k: next(losses, None) or plain(*a, **k))
    events = live.until(StepDone)
    assert "half the learning rate" in of_kind(events, Noted)[0].text
    assert events[-1].step == 1


def make_ct():
    """Return a CT ``(1, Z, Y, X)`` of air, soft tissue and bone, and where the last two are."""
    random = np.random.default_rng(0)
    image = np.full((1, 20, 24, 24), -1000, np.float32)
    image[0, :, 4:20, 4:20] = 40
    image[0, :, 14:18, 14:18] = 900
    return image + random.normal(0, 10, image.shape).astype(np.float32)


def test_the_window_of_a_ct_follows_new_classes_and_is_kept_with_the_network(tmp_path):
    live = started(image=make_ct(), folder=tmp_path)
    plane = np.zeros(live.image.shape[1:], bool)
    plane[10, 5:12, 5:12] = True
    soft = live.paint(np.flatnonzero(plane), 2)
    live.paint([0, 1, 2, 3], 1)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 3)
    low, high, *_ = live.session._round.normalisation.windows[0]
    assert -100 < low < high < 200
    live.session.close()
    bone = np.zeros(live.image.shape[1:], bool)
    bone[10, 15:17, 15:17] = True
    live.paint(np.flatnonzero(bone), 3)
    live.session.set_classes(ClassTable.from_values([2, 3, 4]))
    live.until(RoundStarted)
    assert live.session._round.normalisation.windows[0][1] > 800
    again = started(image=make_ct(), folder=tmp_path)
    again.paint(soft, 2)
    again.paint([0, 1, 2, 3], 1)
    again.paint(np.flatnonzero(bone), 2)  # a fit of today would have another window
    again.session.train(True)
    assert of_kind(again.until(StepDone), StepDone)[0].step == 4
    assert again.session._round.normalisation.windows[0][:2] == (low, high)


def taught_by(truth_of_held_out):
    """Return what the network is taught and what is measured, when the held-out labels are so."""
    live = started()
    for index in (4, 9, 13):
        live.paint_slice(index)
    live.until(Waiting)  # the classifier is chosen before labels are held out
    live.session.train(True)
    live.until(RoundStarted)
    learner = live.session._round
    held_out = learner.held_out
    if truth_of_held_out == "wrong":
        flat = live.session._labels.annotation.reshape(-1)
        flat[held_out] = flat[held_out] % 3 + 1
    live.session._classifier._partial = None
    live.session._lesson = live.session._teach(live.session._classifier.fitted, learner)
    for _ in live.session._lesson:
        pass
    taught = learner._own.taught.numpy().copy()
    taught.reshape(-1)[held_out] = 0
    partial = live.session._classifier.fit_without(learner.held_out, live.session._region)
    rows = np.random.default_rng(0).normal(size=(50, partial.model.n_features_in_))
    return taught, partial.model.predict_proba(rows)


def test_nothing_that_is_taught_depends_on_what_is_held_out():
    taught, classified = taught_by("right")
    taught_too, classified_too = taught_by("wrong")
    assert np.array_equal(classified, classified_too)
    assert np.array_equal(taught, taught_too)


def test_the_preview_is_measured_by_a_classifier_that_has_not_seen_the_labels(monkeypatch):
    live = started()
    for index in (4, 9, 13):
        live.paint_slice(index)
    live.session.train(True)
    asked = []
    plain = live_lesson.score_held_out

    def score(answer, held_out):
        asked.append((answer.fitted, answer.annotation, held_out))
        return plain(answer, held_out)

    monkeypatch.setattr(live_lesson, "score_held_out", score)
    live.until(HeldOutScored)
    fitted, _, held_out = asked[0]
    assert fitted is not live.session._classifier.fitted
    assert fitted is live.session._classifier._partial
    assert len(held_out)


def test_a_correction_on_a_slice_held_out_lets_all_of_it_be_learnt():
    live = started()
    for index in (4, 9, 13):
        live.paint_slice(index)
    live.session.train(True)
    live.until(RoundStarted)
    learner = live.session._round
    held_out = learner.held_out
    live.paint(held_out[::2], live.truth.reshape(-1)[held_out[::2]] + 1)
    live.until(StrokeLearnt)
    assert not np.isin(held_out, learner.held_out).any()


def test_a_fresh_stroke_is_drawn_first_and_the_learning_rate_rises():
    live = started()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 100)
    learner = live.session._round
    before = learner.progress
    live.paint_slice(5)
    live.until(StrokeLearnt)
    assert learner.progress < before
    case, voxels = learner._sampler._focus
    assert (case, learner._sampler._focus_draws) == (0, 24)
    assert (np.unravel_index(voxels, learner._own.labels.shape)[0] == 5 - live.session._region[0].start).all()


def test_the_visible_slice_follows_the_network(monkeypatch):
    monkeypatch.setattr(live_module, "_VIEW_SECONDS", 0.0)
    monkeypatch.setattr(live_module, "_REST_SECONDS", 1e9)
    live = started()
    live.paint_slice(9)
    live.session.look(0, 6)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 105)
    pictures = of_kind(live.until(StepDone, where=lambda e: e.step == 110), PictureChanged)
    assert any(picture.region[0] == (6, 7) for picture in pictures)


def test_doubled_labels_are_measured_anew():
    live = started()
    live.paint_slice(5)
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.progress > 0.5)
    for index in (2, 7, 12, 14):
        live.paint_slice(index)
    events = live.until(HeldOutScored)
    assert of_kind(events, RoundStarted)[-1].number == 2


def test_without_holding_out_more_labels_never_restart_the_network():
    live = started()
    live.session.configure(replace(QUICK, held_out_share=0.0), NetworkConfig(), InferenceConfig())
    live.paint_slice(5)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 5)
    for index in (7, 9, 12):
        live.paint_slice(index)
    events = live.until(StepDone, where=lambda event: event.step == 10)
    assert not of_kind(events, RoundStarted)


def test_a_model_can_be_saved_only_when_there_is_one(tmp_path):
    live = started()
    live.paint_slice(9)
    live.paint_slice(5)
    with pytest.raises(InputError, match="start learning"):
        live.session.save_model(tmp_path / "model")
    live.session.train(True)
    live.until(Waiting)
    live.session.save_model(tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert model.table == TABLE
    channels = finish(predict_volume(model, live.image, (1.0, 1.0, 1.0))).channels
    assert mean_dice(live.truth, channels) > 0.6


def test_a_small_object_in_a_large_volume_is_looked_at_alone():
    image = np.random.default_rng(0).normal(0, 0.2, (1, 70, 70, 70)).astype(np.float32)
    image[0, 30:38, 30:38, 30:38] += 2
    live = started(image=image)
    labels = np.zeros(image.shape[1:], np.uint8)
    labels[34, 25:45, 25:45] = 1
    labels[34, 30:38, 30:38] = 2
    voxels = np.flatnonzero(labels)
    live.paint(voxels, labels.reshape(-1)[voxels])
    region = live.until(PictureCompleted)[-1].region
    assert all(stop - start < 70 for start, stop in region)
    assert all(start <= 30 and stop >= 38 for start, stop in region)
    live.until(Waiting)
    truth = image[0] > 1.2
    found = live.prediction == 2
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
    far = np.ones(found.shape, bool)
    far[tuple(slice(*edge) for edge in region)] = False
    assert (live.prediction[far] == 1).all()


@pytest.mark.parametrize("coarse", [False, True])
def test_an_object_that_reaches_the_border_of_the_region_is_followed(monkeypatch, coarse):
    if coarse:
        monkeypatch.setattr(live_preview, "_GRID_VOXELS", 20_000)
    image = np.random.default_rng(0).normal(0, 0.2, (1, 120, 30, 30)).astype(np.float32)
    image[0, 5:115, 10:20, 10:20] += 2
    live = started(image=image)
    labels = np.zeros(image.shape[1:], np.uint8)
    labels[60, 2:28, 2:28] = 1
    labels[60, 10:20, 10:20] = 2
    voxels = np.flatnonzero(labels)
    live.paint(voxels, labels.reshape(-1)[voxels])
    live.until(Waiting)
    column = live.prediction[:, 12:18, 12:18] == 2
    assert column[8:112].mean() > 0.95


def test_cleaning_leaves_one_part_of_each_class():
    live = started()
    live.paint_slice(9)
    far = live.paint([0], 2)
    live.until(Waiting)
    live.session.configure(QUICK, NetworkConfig(), InferenceConfig(largest_component=True))
    live.until(Waiting)
    from scipy import ndimage

    ball = live.prediction == 2
    ball.reshape(-1)[far] = False
    assert ndimage.label(ball, np.ones((3, 3, 3)))[1] == 1


def test_a_label_outside_the_volume_is_refused():
    live = started()
    for voxel in (-1, 18**3):
        with pytest.raises(InputError, match="outside the volume"):
            live.paint([voxel], 1)


@pytest.mark.parametrize("shape", [(1, 1, 24, 20), (2, 6, 16, 14), (1, 3, 40, 2)])
def test_flat_and_multichannel_images_work(shape):
    random = np.random.default_rng(0)
    truth = np.zeros(shape[1:], np.uint8)
    truth[:, 4:12] = 1
    image = (random.normal(0, 0.2, shape) + 2 * truth).astype(np.float32)
    live = started(image=image, spacing=(5.0, 1.0, 1.0))
    voxels = random.choice(truth.size, 40, replace=False)
    live.paint(voxels, truth.reshape(-1)[voxels] + 1)
    live.session.train(True)
    live.until(Waiting)
    assert mean_dice(truth, np.maximum(live.prediction, 1) - 1) > 0.8


def test_image_labels_join_in_at_once_and_stay(monkeypatch):
    asked = []
    plain = live_round.take_step

    def step(learner, sampler, arrays, *others, **options):
        asked.append(arrays[0].presence)
        return plain(learner, sampler, arrays, *others, **options)

    monkeypatch.setattr(live_round, "take_step", step)
    live = started()
    live.session.configure(replace(QUICK, expansion=1.0, constraint=0.5), NetworkConfig(), InferenceConfig())
    live.paint_slice(5)
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone)
    assert asked == [None]
    live.session.label_image((ImageLabel(2, True, 0, 4, 13), ImageLabel(7, False)), "absent")
    assert np.isfinite(live.until(StepDone)[-1].loss)
    assert asked[-1].slices(2, 0).tolist() == [0] * 4 + [1] * 10 + [0] * 4
    assert asked[-1].classes == 3  # nothing is known of the class that is not in the table
    live.session.label_image((ImageLabel(2, True, 0, 4, 13),), "unknown")
    live.session.restart()
    assert live.until(RoundStarted, StepDone)
    live.until(StepDone)
    assert asked[-1].slices(2, 0).tolist() == [-1] * 4 + [1] * 10 + [-1] * 4
    live.session.label_image((), "absent")
    live.until(StepDone)
    assert asked[-1] is None


def test_image_labels_of_a_class_that_comes_later_count_from_then_on():
    live = started()
    live.paint_slice(9)
    live.session.label_image((ImageLabel(4, True),), "absent")
    live.session.train(True)
    live.until(StepDone)
    assert live.session._round.presence is None
    live.session.set_classes(ClassTable.from_values([2, 3, 5]))
    live.until(RoundStarted)
    live.until(StepDone)
    assert live.session._round.presence.is_present(4)


def test_image_labels_stay_with_their_class_when_the_table_loses_another():
    live = started()
    live.paint_slice(5)
    live.session.set_classes(ClassTable.from_values([2, 3, 5]))
    live.session.label_image((ImageLabel(2, False), ImageLabel(4, True, 0, 4, 13)), "absent")
    live.session.train(True)
    live.until(StepDone)
    live.session.set_classes(ClassTable.from_values([3, 5]))  # nothing more is said of images
    live.until(RoundStarted)
    live.until(StepDone)
    presence = live.session._round.presence
    assert (presence.is_present(2), presence.is_present(3), presence.classes) == (None, True, 3)
    live.session.label_image((ImageLabel(3, True, 0, 4, 13),), "absent")
    live.session.set_classes(ClassTable.from_values([3]))
    live.until(RoundStarted)
    live.until(StepDone)
    assert live.session._round.presence is None


@pytest.mark.parametrize("label", [ImageLabel(2, True, 0, 4, 18), ImageLabel(9, True, 1, 5, 3)])
def test_image_labels_of_slices_outside_the_volume_are_refused(label):
    live = started()
    live.session.label_image((ImageLabel(2, True, 0, 1, 2),), "absent")
    before = live.session._labels.presence
    with pytest.raises(InputError, match="not in the volume"):
        live.session.label_image((label,), "absent")
    assert live.session._labels.presence is before


def test_without_seeding_seeds_are_as_good_as_unlabelled():
    live = started()
    live.session.configure(replace(QUICK, seeding=0.0), NetworkConfig(), InferenceConfig())
    live.paint_slice(9)
    live.paint(np.arange(18 * 18), 3, source="cam")
    live.session.train(True)
    live.until(StepDone)
    assert not live.session._labels.annotation[0].any()
    assert live.session._round.labelled_at_start == 18 * 18
    live.session.configure(replace(QUICK, seeding=2.0), NetworkConfig(), InferenceConfig())
    live.until(RoundStarted)
    live.until(StepDone)
    assert (live.session._labels.annotation[0] == 3).all()
    learner = live.session._round
    part = learner._own.labels[0] == 3
    weight = float(learner._own.class_weights[3]) * 0.6
    np.testing.assert_allclose(learner._own.weights[0][part].float().numpy(), weight, rtol=1e-3)


def test_without_seeding_seeds_alone_are_nothing_to_learn_from():
    live = started()
    live.paint(np.arange(18 * 18), 3, source="cam")
    live.paint(np.arange(18 * 18, 2 * 18 * 18), 1, source="cam")
    live.session.train(True)
    live.until(StepDone)
    live.session.configure(replace(QUICK, seeding=0.0), NetworkConfig(), InferenceConfig())
    assert "one more class" in live.until(Waiting)[-1].reason


def test_a_state_from_before_a_setting_was_there_is_gone_on_with(tmp_path):
    live = started(folder=tmp_path)
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 3)
    live.session.close()
    path = tmp_path / "state.json"
    description = json.loads(path.read_text())
    inner = description.get("training", description)
    for name in ("seeding", "expansion", "constraint", "encoder_rate", "encoder_share"):
        del inner[name]
    del description["encoder"]
    path.write_text(json.dumps(description))
    again = started(folder=tmp_path)
    again.paint_slice(9)
    again.session.train(True)
    assert again.until(StepDone)[-1].step == 4


def learning(folder=None, encoder=None):
    """A session whose network has taken its first step, and what it has said by then."""
    live = started(folder=folder)
    if encoder is not None:
        live.session.start_from(encoder)
    live.paint_slice(9)
    live.session.train(True)
    return live, live.until(StepDone)


def test_the_network_starts_from_an_encoder_and_is_learnt_anew_where_that_changes(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, seed in ((first, 1), (second, 2)):
        save_encoder(folder, make_encoder(seed=seed))
    live, events = learning(encoder=first)
    assert sum("was taken over" in note.text for note in of_kind(events, Noted)) == 1
    assert live.until(StepDone)[-1].step == 2
    live.session.start_from(first)
    assert live.until(StepDone)[-1].step == 3
    for folder, told in ((second, 1), (None, 0)):
        live.session.start_from(folder)
        events = live.until(StepDone)
        assert events[-1].step == 1
        assert sum("was taken over" in note.text for note in of_kind(events, Noted)) == told


def test_an_encoder_that_is_of_no_use_is_told_and_the_network_starts_at_random(tmp_path):
    good, two, other = tmp_path / "good", tmp_path / "two", tmp_path / "other"
    save_encoder(good, make_encoder())
    save_encoder(two, make_encoder(channels=2))
    save_encoder(other, make_encoder(NetworkConfig("dynunet")))
    live, _ = learning(encoder=good)
    for folder, words in ((tmp_path / "nowhere", "no readable encoder"), (two, "takes 2 channels")):
        live.session.start_from(good)
        live.until(StepDone)
        with pytest.raises(InputError, match=words):
            live.session.start_from(folder)
        events = live.until(StepDone)
        assert events[-1].step == 1
        assert not any("was taken over" in note.text for note in of_kind(events, Noted))
    live.session.start_from(other)  # the settings of the network may still follow
    notes = [note.text for note in of_kind(live.until(StepDone), Noted)]
    assert any("starts from random weights" in text and "architecture dynunet" in text for text in notes)
    live.session.configure(QUICK, NetworkConfig("dynunet"), InferenceConfig())
    assert any("was taken over" in note.text for note in of_kind(live.until(StepDone), Noted))


def test_a_state_is_gone_on_with_only_from_the_encoder_that_it_began_with(tmp_path):
    encoder, other, state = tmp_path / "encoder", tmp_path / "other", tmp_path / "state"
    save_encoder(encoder, make_encoder(seed=1))
    save_encoder(other, make_encoder(seed=2))
    live, _ = learning(state, encoder)
    live.session.close()
    again, events = learning(state, encoder)
    assert events[-1].step == 2
    assert not any("was taken over" in note.text for note in of_kind(events, Noted))
    again.session.close()
    for chosen in (other, None):
        changed, events = learning(state, chosen)
        assert events[-1].step == 1
        assert any("other classes or settings" in note.text for note in of_kind(events, Noted))
        changed.session.close()
