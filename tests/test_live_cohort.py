import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import make_image, make_truth, mean_dice
from test_live import Live

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import PreparedCase
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.cohort_requests import LabelledCase
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, PictureChanged, PictureCompleted, StepDone, Waiting, finish
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.live_cohort import crop_to_labels
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.volume import save_map, volume_from_array


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Folder of a network that has learnt the phantom."""
    folder = tmp_path_factory.mktemp("network")
    live = Live()
    live.paint_slice(9)
    live.paint_slice(9, axis=2)
    live.session.train(True)
    live.until(StepDone, where=lambda event: event.step == 80)
    live.session.save_model(folder)
    return folder


@pytest.fixture
def taught(network):
    """A session on another image of the same kind, with that network."""
    live = Live(image=make_image(make_truth(18), seed=5))
    live.session.start_from(network)
    return live


def write_case(folder, name, seed, spacing=(1.0, 1.0, 1.0), values=None):
    """Write a phantom with one labelled slice as a case of a project."""
    truth = make_truth(18)
    image = make_image(truth, seed=seed)
    path = folder / f"{name}.nii.gz"
    affine = np.diag([*spacing, 1.0])
    save_map(path, image, volume_from_array(image, affine=affine))
    voxels = np.flatnonzero(np.indices(truth.shape)[0] == 9)
    painted = (truth.reshape(-1)[voxels] + 1).astype(np.uint8) if values is None else values
    return LabelledCase(name, str(path), spacing, voxels, painted, np.ones(len(voxels), np.uint8))


def until_others(live, count):
    """Run until so many other cases are learnt from; return the round."""
    live.until(StepDone, where=lambda _: len(live.session._round._others) == count)
    return live.session._round


def test_what_a_network_says_is_seen_before_anything_is_labelled(taught, network):
    events = taught.until(Waiting)
    assert isinstance(events[-2], PictureCompleted)
    assert events[-2].shown == "network"
    assert events[-2].region == ((0, 18),) * 3
    said = finish(predict_volume(load_model(network), taught.image, (1.0, 1.0, 1.0), InferenceConfig()))
    assert (taught.prediction == np.array([1, 2, 3])[said.channels]).all()
    assert taught.dice() > 0.6
    assert taught.uncertainty.any()


def test_a_stroke_lies_on_it_and_does_not_wipe_it_out(taught):
    taught.until(Waiting)
    before = taught.prediction.copy()
    voxels = taught.paint([0, 1, 2], 3)
    taught.until(Waiting)
    assert (taught.prediction.reshape(-1)[voxels] == 3).all()
    taught.prediction.reshape(-1)[voxels] = before.reshape(-1)[voxels]
    assert (taught.prediction == before).all()


def test_corrections_keep_what_the_network_found_elsewhere(taught):
    taught.until(Waiting)
    found = taught.dice()
    corner = np.ravel_multi_index((9, 1, 1), taught.truth.shape)
    taught.paint([corner, corner + 1], 1)
    taught.paint(np.flatnonzero(taught.truth.reshape(-1) == 1)[:9], 2)
    taught.session.train(True)
    events = taught.until(PictureCompleted, where=lambda event: "project's network" in event.reason)
    assert events[-1].shown == "network"
    assert taught.session._round.is_taught
    taught.until(StepDone, where=lambda event: event.step >= 20)
    taught.until(PictureCompleted)
    assert taught.dice() > found - 0.1


def test_a_network_of_other_classes_is_of_no_use_and_one_of_other_channels_is_refused(network):
    live = Live(table=ClassTable.from_values([2, 3, 7]))
    live.session.start_from(network)
    assert "strokes" in live.until(Waiting)[-1].reason
    two = Live(image=np.concatenate([make_image(make_truth(18))] * 2))
    with pytest.raises(InputError, match="takes 1 channels and the image has 2"):
        two.session.start_from(network)


def test_taking_the_network_away_shows_nothing_again(taught):
    taught.until(Waiting)
    taught.session.start_from(None)
    taught.paint([0], 1)
    events = taught.until(Waiting)
    assert any(isinstance(event, PictureChanged) for event in events)
    assert not taught.prediction.any()


def test_other_cases_are_learnt_from_too(tmp_path):
    live = Live()
    live.session.learn_from((write_case(tmp_path, "one", 1), write_case(tmp_path, "two", 2)))
    live.paint_slice(9)
    live.session.train(True)
    learner = until_others(live, 2)
    drawn = [learner._sampler.draw().case for _ in range(200)]
    assert set(drawn) == {0, 1, 2}
    learner.learn_beside(list(learner._others) * 20)
    drawn = [learner._sampler.draw().case for _ in range(200)]
    assert drawn.count(0) > 40  # the user waits for an answer there
    live.session.learn_from(())
    live.session.restart()
    live.until(StepDone, where=lambda event: event.step == 3)
    assert live.session._round._others == ()


def test_others_teach_what_the_image_itself_hardly_says(tmp_path):
    whole, found = (slice(0, 18),) * 3, []
    others = (write_case(tmp_path, "one", 1), write_case(tmp_path, "two", 2))
    for told in ((), others):
        live = Live()
        live.session.learn_from(told)
        live.paint_slice(1)  # background alone
        live.paint(np.flatnonzero(live.truth == 1)[:4], 2)
        live.session.train(True)
        live.until(StepDone, where=lambda event: event.step == 100)
        session, labels = live.session, live.session._labels
        session._round.set_region(session._image.normalised, whole, labels.annotation, labels.sources)
        found.append(mean_dice(live.truth, session._round.predict(whole).argmax(0)))
    assert found[1] > found[0] + 0.15


def test_a_case_that_cannot_be_read_is_named_once_and_the_others_teach(tmp_path):
    bad = LabelledCase("lost", str(tmp_path / "lost.nii.gz"), (1.0,) * 3, *[np.ones(1, np.uint8)] * 3)
    live = Live()
    live.session.learn_from((bad, write_case(tmp_path, "one", 1)))
    live.paint_slice(9)
    live.session.train(True)
    events = live.until(StepDone, where=lambda _: len(live.session._round._others) == 1)
    live.session.restart()
    events += live.until(StepDone, where=lambda _: len(live.session._round._others) == 1)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert len(notes) == 1
    assert notes[0].startswith("lost is not learnt from: ")


def test_a_case_is_brought_to_the_spacing_of_the_image(tmp_path):
    case = write_case(tmp_path, "coarse", 1, spacing=(1.0, 2.0, 2.0))
    live = Live()
    live.session.learn_from((case,))
    live.paint_slice(9)
    live.session.train(True)
    (other,) = until_others(live, 1)._others
    assert other.whole == (18, 36, 36)


@pytest.mark.parametrize("margin", [0, 2, 30])
def test_what_is_looked_at_holds_labels_and_all_that_is_foreseen(taught, margin):
    forecast = taught.session._forecast
    corner = (slice(0, 2), slice(0, 1), slice(16, 18))
    assert forecast.widen(corner, margin) == corner  # nothing is known yet
    taught.until(Waiting)
    found = np.argwhere(taught.prediction > 1)
    low, high = found.min(0) - margin, found.max(0) + 1 + margin
    for edge, own, first, stop in zip(forecast.widen(corner, margin), corner, low, high, strict=True):
        assert edge == slice(min(own.start, max(0, first)), max(own.stop, min(18, stop)))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    places=st.lists(st.tuples(*[st.floats(0, 0.999)] * 3), min_size=1, max_size=4),
    margin=st.integers(0, 4),
)
def test_a_crop_has_all_labels_and_knows_where_it_lies(shape, places, margin):
    annotation = np.zeros(shape, np.uint8)
    for place in places:
        annotation[tuple(int(share * size) for share, size in zip(place, shape, strict=True))] = 2
    image = np.arange(annotation.size, dtype=np.float32).reshape(1, *shape)
    case = PreparedCase(image, (1.0, 1.0, 1.0), annotation, start=(5, 6, 7), whole=(30, 30, 30))
    near = crop_to_labels(case, margin)
    assert (near.annotation > 0).sum() == (annotation > 0).sum()
    low = np.subtract(near.start, case.start)
    box = tuple(slice(a, a + n) for a, n in zip(low, near.annotation.shape, strict=True))
    assert (near.image[0] == image[0][box]).all()
    assert (near.annotation == annotation[box]).all()
    labelled = np.argwhere(near.annotation)
    assert (labelled.min(0) <= margin).all()


def test_what_the_network_says_stays_until_it_has_learnt_from_corrections(taught):
    taught.until(Waiting)
    found = taught.dice()
    corner = np.ravel_multi_index((9, 1, 1), taught.truth.shape)
    taught.paint([corner, corner + 1], 1)
    taught.paint(np.flatnonzero(taught.truth.reshape(-1) == 1)[:9], 2)
    events = taught.until(Waiting)  # learning is paused
    assert {event.shown for event in events if isinstance(event, PictureChanged)} == {"network"}
    assert taught.dice() > found - 0.02


def test_a_network_is_asked_as_soon_as_the_classes_are_its_own(network):
    live = Live(table=ClassTable.from_values([2, 3, 7]))
    live.session.start_from(network)
    live.until(Waiting)
    live.session.set_classes(ClassTable.from_values([2, 3]))
    assert any(isinstance(event, PictureCompleted) for event in live.until(Waiting))
    live.session.start_from(None)
    assert any(isinstance(event, PictureChanged) for event in live.until(Waiting))
    assert not live.prediction.any()


def test_a_network_of_other_voxels_or_classes_says_so(network):
    notes = []
    tables = (ClassTable.from_values([2, 3]), ClassTable.from_values([2, 3, 7]))
    for spacing, table in zip(((1.0, 2.0, 2.0), (1.0,) * 3), tables, strict=True):
        live = Live(spacing=spacing, table=table)
        live.session.start_from(network)
        live.paint_slice(9)
        live.session.train(True)
        events = live.until(StepDone)
        notes += [event.text for event in events if isinstance(event, Noted)]
    assert len(notes) == 2
    assert "learnt at voxels of 1 × 1 × 1 mm" in notes[0]
    assert "knows other classes" in notes[1]


def test_a_network_sees_intensities_as_it_learnt_them_whatever_was_kept(network, tmp_path):
    kept = Live(folder=tmp_path)
    kept.paint_slice(9)
    kept.session.train(True)
    kept.until(StepDone)
    kept.session.save_state()
    path = tmp_path / "state.json"
    state = json.loads(path.read_text())
    state["normalisation"] = [[-100.0, 100.0, 0.0, 1.0]]
    path.write_text(json.dumps(state))
    again = Live(folder=tmp_path)
    again.session.start_from(network)
    again.paint_slice(9)
    again.session.train(True)
    again.until(StepDone)
    assert again.session._round.normalisation == load_model(network).normalisation


def test_a_stroke_is_still_drawn_round_when_another_case_has_been_read():
    live = Live()
    live.paint_slice(9)
    live.session.train(True)
    live.until(StepDone)
    live.paint([0, 1, 2], 1)
    live.until(StepDone)
    learner = live.session._round
    before = learner._sampler._focus_draws
    assert before > 0
    learner.learn_beside(learner._others)
    assert learner._sampler._focus_draws == before


def test_cases_that_are_no_longer_told_are_no_longer_learnt_from(tmp_path):
    live = Live()
    live.session.learn_from((write_case(tmp_path, "one", 1),))
    live.paint_slice(9)
    live.session.train(True)
    until_others(live, 1)
    live.session.learn_from(())
    until_others(live, 0)
