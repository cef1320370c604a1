import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_encoders import make_encoder

from napari_sparseseg import classifier_training
from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.classifier import save_classifier
from napari_sparseseg.classifier_training import TaggedCase, find_threshold, train_classifier
from napari_sparseseg.encoder_checkpoint import load_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import ClassifierScored, Noted, StepDone, finish
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.settings import ClassifierConfig, NetworkConfig

TABLE = ClassTable.from_values([1], {1: "ball"})
TWO = ClassTable.from_values([1, 2], {1: "ball", 2: "rod"})
CONFIG = ClassifierConfig(classifier_steps=40, device="cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def phantom(centre=(18, 12, 14), seed=0, shape=(28, 26, 30), radius=5):
    """Return noise with a bright ball, and the ball."""
    grid = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    ball = (grid**2).sum(0) <= radius**2
    noise = np.random.default_rng(seed).normal(size=shape)
    return (noise + 3 * ball).astype(np.float32)[None], ball


def ranges(mask, label=2, axes=(0, 1, 2)):
    labels = []
    for axis in axes:
        seen = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        labels.append(ImageLabel(label, True, axis, int(seen[0]), int(seen[-1])))
    return labels


def case(axes=(0, 1, 2), name="volume", **options):
    image, ball = phantom(**options)
    return TaggedCase(image, (1.0, 1.0, 1.0), ranges(ball, axes=axes), name)


def train(cases, table=TABLE, config=CONFIG, **options):
    events = []
    classifier = finish(train_classifier(cases, table, config, **options), events.append)
    return classifier, events


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_training, "choose_precision", plain)
        return train([case()])


def plain(*_):
    return classifier_training.Precision("float32", channels_last=False)


def test_a_ball_is_learnt_from_one_volume(trained):
    classifier, events = trained
    scores = [event for event in events if isinstance(event, ClassifierScored)]
    assert len(scores) == 4
    assert scores[-1].step == CONFIG.classifier_steps
    assert scores[-1].within_volume
    assert scores[-1].balanced_accuracy["ball"] > 0.9
    assert scores[-1].auc["ball"] > 0.9
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, CONFIG.classifier_steps + 1))
    assert steps[-1].progress == 1
    assert classifier.summary["learnt"] == ["ball"]
    assert classifier.summary["held_out"]["auc"] == scores[-1].auc


def test_its_map_points_into_the_ball(trained):
    classifier, _ = trained
    place = (10, 15, 20)
    image, ball = phantom(place, seed=3)  # another volume
    network = classifier.build()
    normalised = torch.from_numpy(classifier.normalisation.apply(image))[None]
    wide = torch.nn.functional.interpolate(normalised, classifier.window, mode="trilinear")
    with torch.no_grad():
        features = network.features(wide)[0]
        values = torch.einsum("f,fzyx->zyx", network.head.weight[0], features)
    highest = np.array(np.unravel_index(int(values.argmax()), values.shape))
    voxel = highest * network.encoder.strides[-1] * np.array(ball.shape) / classifier.window
    assert np.linalg.norm(voxel - place) <= 7


def test_the_same_seed_gives_the_same_weights():
    config = ClassifierConfig(classifier_steps=3, device="cpu", seed=3)
    before = torch.get_rng_state()
    one, _ = train([case()], config=config)
    assert torch.equal(torch.get_rng_state(), before)
    two = finish(train_classifier([case()], TABLE, config), lambda _: torch.rand(3))  # somebody else draws
    other, _ = train([case()], config=ClassifierConfig(classifier_steps=3, device="cpu", seed=4))
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert not all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_volumes_of_both_kinds_are_seen(batch):
    cases = []
    for number in range(6):
        image, _ = phantom(seed=number, shape=(8, 9, 10), centre=(4, 4, 4))
        cases.append(TaggedCase(image, (1.0, 1.0, 1.0), [ImageLabel(2, number == 0)]))
    config = ClassifierConfig(device="cpu", held_out=0, classifier_batch=batch)
    training = classifier_training._Training(cases, TABLE, config, NetworkConfig())
    seen = []
    for training.steps in range(20):
        chosen = training._choose_volumes(2)
        assert len(set(chosen)) == len(chosen) > 0
        seen += chosen
    assert seen.count(0) in (10, 20)  # the only one that shows the class; in a larger batch, each time
    assert {*seen} == {*range(6)}


def test_a_training_that_diverges_is_told(monkeypatch):
    monkeypatch.setattr(classifier_training, "bag_loss", lambda logits, _: logits.sum() * float("inf"))
    with pytest.raises(InputError, match="diverged; lower the learning rate"):
        train([case()])


@given(st.lists(st.tuples(st.booleans(), st.integers(-9, 9)), min_size=2, max_size=20))
def test_no_threshold_is_better(answers):
    shown, logits = np.array([a for a, _ in answers]), np.array([float(b) for _, b in answers])
    if not 0 < shown.sum() < len(shown):
        return

    def accuracy(threshold):
        return (logits[shown] > threshold).mean() + (logits[~shown] <= threshold).mean()

    found = accuracy(find_threshold(shown, logits))
    assert found >= max(accuracy(threshold) for threshold in np.arange(-9.5, 9, 1)) - 1e-9


def test_it_can_be_stopped_at_an_event():
    work = train_classifier([case()], TABLE, CONFIG)
    next(work)
    work.close()
    with pytest.raises(StopIteration):
        next(work)


@pytest.mark.parametrize("count", [3, 5])
def test_labels_of_whole_volumes_suffice(count):
    cases = []
    for number in range(count):
        image, _ = phantom(seed=number, radius=7 if number % 2 else 0, shape=(16, 18, 20), centre=(8, 8, 10))
        cases.append(TaggedCase(image, (1.0, 1.0, 1.0), [ImageLabel(2, number % 2 == 1)], f"v{number}"))
    config = ClassifierConfig(classifier_steps=4, device="cpu", held_out=0.4)
    classifier, events = train(cases, config=config)
    scores = [event for event in events if isinstance(event, ClassifierScored)]
    assert not any(score.within_volume for score in scores)
    assert bool(scores) == (count >= 4)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert [note.startswith("Nothing could be held out") for note in notes] == [True] * (count < 4)
    assert classifier.summary["cases"] == [f"v{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([ImageLabel(2, True)], "absent nowhere"),
        ([ImageLabel(2, False)], "present nowhere"),
        ([], "no image-level label"),
    ],
)
def test_one_kind_of_answer_is_not_enough(labels, words):
    image, _ = phantom()
    with pytest.raises(InputError, match=words):
        train([TaggedCase(image, (1.0, 1.0, 1.0), labels)])


def test_what_cannot_be_learnt_is_noted_and_the_rest_learnt():
    image, ball = phantom()
    labels = [*ranges(ball), ImageLabel(3, True)]
    config = ClassifierConfig(classifier_steps=2, device="cpu")
    classifier, events = train([TaggedCase(image, (1.0, 1.0, 1.0), labels)], TWO, config)
    (note,) = [event.text for event in events if isinstance(event, Noted)]
    assert note.startswith("The class rod is said to be absent nowhere")
    assert classifier.summary["learnt"] == ["ball"]
    with torch.no_grad():
        answer = classifier.build()(torch.from_numpy(image)[None])
    assert answer[0, 1] == 0


def test_a_trained_encoder_is_taken_over(trained, tmp_path):
    classifier, _ = trained
    config = ClassifierConfig(classifier_steps=1, classifier_rate=1e-6, device="cpu")
    save_classifier(tmp_path, classifier)
    again, events = train([case(seed=1)], config=config, initial=load_encoder(tmp_path))
    told = [event.text for event in events if isinstance(event, Noted)]
    assert any("(classifier, 1 volume, 40 steps) was taken over" in text for text in told)
    for name, weight in again.weights.items():
        if name.startswith("encoder"):
            torch.testing.assert_close(weight, classifier.weights[name], atol=1e-4, rtol=0)
    for strange, words in (
        (make_encoder(NetworkConfig("dynunet")), "architecture dynunet"),
        (make_encoder(channels=2), "takes 2 channels"),
    ):
        with pytest.raises(InputError, match=words):
            train([case(seed=1)], config=config, initial=strange)


def test_without_memory_it_goes_on_with_less(monkeypatch):
    real, failures = classifier_training._Training._see, [0]

    def see(self, network, volume, start, *, augment):
        if self._device.type == "cpu" and failures[0] < 9 and self._precision.dtype == "failing":
            failures[0] += 1
            raise torch.cuda.OutOfMemoryError
        return real(self, network, volume, start, augment=augment)

    monkeypatch.setattr(classifier_training._Training, "_see", see)
    monkeypatch.setattr(
        classifier_training, "choose_precision", lambda *_: classifier_training.Precision("failing", False)
    )
    config = ClassifierConfig(classifier_steps=2, device="cpu")
    classifier, events = train([case()], config=config)
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert notes[0].endswith("going on with one volume at a time.")
    assert notes[-1].endswith("going on with the CPU.")
    assert classifier.summary["precision"] == "float32"


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 5, 4), (2, 64, 1)])
def test_tiny_and_flat_volumes(shape):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    axis = int(np.argmax(shape))
    labels = [ImageLabel(2, True, axis, 0, 1)]
    config = ClassifierConfig(classifier_steps=2, device="cpu")
    classifier, _ = train([TaggedCase(image, (5.0, 1.0, 1.0), labels)], config=config)
    assert all(np.isfinite(weight.numpy()).all() for weight in classifier.weights.values())
