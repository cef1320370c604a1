import math

import numpy as np
import pytest
import torch
from phantoms_ssl import make_sources, run_pretraining, short_pretraining

from napari_sparseseg import pretraining
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import PretextPictured, PretextScored
from napari_sparseseg.networks import plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.pretext import TaskContext
from napari_sparseseg.pretext_grouping import MOVE, to_place
from napari_sparseseg.pretext_similarity import SIMILARITY_TASKS, draw_apart
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.views import distort, standardise
from napari_sparseseg.volume_pool import ReadVolume, VolumePool, VolumeSource

CROP = (16, 16, 16)
SPACING = (1.0, 1.0, 1.0)
SMALL = PretextConfig(clusters=4, clustered=48, exemplars=8)
GROUPING = ["clustering", "deep_cluster", "self_labelling"]


def make_pool(images=None, count=4, shape=(24, 28, 26)):
    sources = make_sources(count, shape=shape)
    if images is not None:
        sources = [VolumeSource("", lambda image=image: ReadVolume(image, SPACING)) for image in images]
    pool = VolumePool(sources, [1] * len(sources), Normalisation((None,)), SPACING, CROP, 1024, 0)
    pool.turn(0)
    return pool


def make_task(name, config=SMALL, batch_size=8):
    network = NetworkConfig(size="small")
    plan = plan_network(CROP, SPACING, network, math.prod(CROP))
    context = TaskContext(config, network, plan, 1, SPACING, CROP, CROP, CROP, batch_size, 4, 0, False)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return SIMILARITY_TASKS[name](context)


@torch.no_grad()
def regrouped(name, pool, config=SMALL, seed=0):
    """Return a task that has grouped the pool's pieces, and what it said of them."""
    task = make_task(name, config).eval()
    notes = task.regroup(pool, np.random.default_rng(seed))
    return task, notes


def grouped_pieces(task, pool):
    return torch.stack([pool.cut(to_place(row), CROP) for row in task.places])


@pytest.mark.parametrize("name", SIMILARITY_TASKS)
def test_each_task_learns(name, monkeypatch, few_checks):
    monkeypatch.setattr(pretraining, "TURN_STEPS", 15)
    shape = (36, 36, 36) if name == "exemplar" else (24, 28, 26)
    config = short_pretraining(name, steps=45, held_out_share=0.4)
    pretext = PretextConfig(clusters=6, clustered=96)
    _, events = run_pretraining(make_sources(10, shape=shape), config, pretext, NetworkConfig(size="small"))
    first, last = (event for event in events if isinstance(event, PretextScored))
    assert last.figure == "accuracy"
    assert last.value > last.trivial + 0.15
    if name in ("exemplar", "clustering"):  # the others' labels are their own, and change; see below
        assert last.value > first.value + 0.05
    assert not last.collapsed
    pictured = next(event for event in events if isinstance(event, PretextPictured))
    assert pictured.names == ("input", "target", "prediction" if name == "exemplar" else "alike")
    assert pictured.images.shape == (3, *CROP)


@pytest.mark.parametrize("name", SIMILARITY_TASKS)
def test_grouping_twice_is_grouping_once(name):
    pool = make_pool()
    task, _ = regrouped(name, pool)
    before = {key: tensor.clone() for key, tensor in task.state_dict().items()}
    with torch.no_grad():
        task.regroup(pool, np.random.default_rng(0))
    assert all(torch.equal(tensor, before[key]) for key, tensor in task.state_dict().items())


@pytest.mark.parametrize("name", SIMILARITY_TASKS)
def test_a_batch_depends_on_the_generator_alone(name):
    pool = make_pool()
    task, _ = regrouped(name, pool)
    for _ in ("measured", "learnt"):
        first, second = (task.draw(pool, np.random.default_rng(5)) for _ in range(2))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        task.train()
    assert len(first["input"]) == task.context.batch_size


class TestExemplars:
    def test_lie_so_far_apart_that_no_two_distortions_have_one_middle(self):
        pool = make_pool(count=2, shape=(32, 32, 32))
        places = draw_apart(pool, np.random.default_rng(0), CROP, 40)
        assert 4 <= len(places) < 40
        for number, place in enumerate(places):
            for other in places[:number]:
                apart = max(abs(a - b) for a, b in zip(place.start, other.start, strict=True))
                assert place.volume != other.volume or apart > 2 * MOVE * 16

    def test_without_that_some_would_be_the_same_piece(self):
        pool, random = make_pool(count=2, shape=(32, 32, 32)), np.random.default_rng(0)
        places = [pool.draw_place(random, CROP) for _ in range(40)]
        close = [
            all(abs(a - b) <= 2 * MOVE * 16 for a, b in zip(first.start, second.start, strict=True))
            for number, first in enumerate(places)
            for second in places[:number]
            if first.volume == second.volume
        ]
        assert any(close)

    def test_there_are_at_least_two_even_of_one_piece(self):
        pool = make_pool([np.random.default_rng(0).standard_normal((1, *CROP)).astype(np.float32)])
        assert len(draw_apart(pool, np.random.default_rng(0), CROP, 5)) == 2

    def test_fewer_than_wanted_are_said_once(self):
        task, notes = regrouped("exemplar", make_pool(count=1), PretextConfig(exemplars=64))
        assert "exemplars; 64 were asked for" in notes[0]
        assert 2 <= int(task.found) < 64
        with torch.no_grad():
            assert not task.regroup(make_pool(count=1), np.random.default_rng(1))

    def test_brightness_does_not_tell_them_apart_but_would_without_distortion(self):
        pool = make_pool(count=4, shape=(36, 36, 36))
        task, _ = regrouped("exemplar", pool)
        random = np.random.default_rng(0)
        batch = dict(task.draw(pool, random))
        with torch.no_grad():
            distorted = task.learn(batch).trivial
            plain = task.learn({**batch, "input": batch["target"], "other": batch["target"]}).trivial
        assert plain == 1
        assert distorted < 0.5

    def test_new_ones_begin_with_their_own_prototypes(self):
        pool = make_pool(shape=(36, 36, 36))
        task, _ = regrouped("exemplar", pool)
        pieces = grouped_pieces(task, pool)
        batch = {"input": pieces, "target": pieces, "label": torch.arange(len(pieces))}
        with torch.no_grad():
            assert task.learn(batch).figure == 1


class TestGroups:
    @pytest.mark.parametrize("name", GROUPING)
    def test_pieces_keep_their_places_and_labels_until_the_next_grouping(self, name):
        pool = make_pool()
        task, _ = regrouped(name, pool)
        task.train()
        batch = task.draw(pool, np.random.default_rng(1))
        pieces = grouped_pieces(task, pool)
        for target, label in zip(batch["target"], batch["label"], strict=True):
            assert any(torch.equal(target, pieces[i]) for i in torch.nonzero(task.labels == label)[:, 0])

    @pytest.mark.parametrize("name", GROUPING)
    def test_new_pieces_are_labelled_by_the_rule_that_labelled_the_grouped_ones(self, name):
        pool = make_pool()
        task, _ = regrouped(name, pool)
        with torch.no_grad():
            torch.testing.assert_close(task.label(grouped_pieces(task, pool)), task.labels)

    @pytest.mark.parametrize("name", GROUPING)
    def test_that_rule_stays_while_the_network_learns(self, name):
        pool = make_pool()
        task, _ = regrouped(name, pool)
        task.train()
        batch = task.draw(pool, np.random.default_rng(1))
        optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            task.learn(batch).loss.backward()
            optimizer.step()
        task.eval()
        with torch.no_grad():
            torch.testing.assert_close(task.label(grouped_pieces(task, pool)), task.labels)

    @pytest.mark.parametrize("name", GROUPING)
    def test_do_not_follow_brightness_and_contrast(self, name):
        pool = make_pool()
        task, _ = regrouped(name, pool)
        pieces, random = grouped_pieces(task, pool), np.random.default_rng(0)
        with torch.no_grad():
            lit = task.label(1.4 * pieces + 0.7)
            noisy = task.label(torch.stack([distort(piece, random) for piece in pieces]))
        assert (lit == task.labels).float().mean() > 0.95
        assert (noisy == task.labels).float().mean() > 0.8

    @pytest.mark.parametrize("name", GROUPING)
    def test_all_come_alike_often(self, name):
        pool = make_pool()
        task, _ = regrouped(name, pool)
        task.train()
        task.labels.copy_(torch.tensor([0] * 42 + [1, 1, 2, 2, 3, 3]))
        labels = [task.draw(pool, np.random.default_rng(seed))["label"] for seed in range(40)]
        shares = torch.bincount(torch.cat(labels)) / 320
        assert shares.min() > 0.15
        assert shares.max() < 0.35

    @pytest.mark.parametrize("name", GROUPING)
    def test_too_few_pieces_are_refused(self, name):
        with pytest.raises(InputError, match="7 pieces are too few to be parted into 4 clusters"):
            make_task(name, PretextConfig(clusters=4, clustered=7))

    def test_the_trivial_answer_is_the_most_frequent_label(self):
        pool = make_pool()
        task, _ = regrouped("clustering", pool)
        batch = {**task.draw(pool, np.random.default_rng(0)), "label": torch.tensor([2] * 12 + [1] * 4)}
        with torch.no_grad():
            assert task.learn(batch).trivial == 0.75

    def test_the_clusters_of_the_first_time_stay_and_later_pieces_go_to_the_nearest(self):
        pool = make_pool()
        task, _ = regrouped("clustering", pool)
        centroids, places = task.centroids.clone(), task.places.clone()
        with torch.no_grad():
            task.regroup(pool, np.random.default_rng(1))
            assert torch.equal(task.centroids, centroids)
            assert not torch.equal(task.places, places)
            assert torch.equal(task.label(grouped_pieces(task, pool)), task.labels)

    def test_the_head_of_deep_cluster_is_made_anew_of_the_centroids(self):
        pool = make_pool()
        task, _ = regrouped("deep_cluster", pool)
        pieces = standardise(grouped_pieces(task, pool))
        with torch.no_grad():
            answers = task.head(task.embed(pieces)).argmax(1)
        assert (answers == task.labels).float().mean() > 0.8

    @pytest.mark.parametrize("name", ["deep_cluster", "self_labelling"])
    def test_its_own_labels_are_learnt_also_where_its_head_knows_nothing(self, name):
        pool = make_pool()
        task, _ = regrouped(name, pool)
        with torch.no_grad():
            task.head.prototypes.zero_()
        optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=5e-3)
        task.train()
        losses = []
        for step in range(60):
            loss = task.learn(task.draw(pool, np.random.default_rng([1, step]))).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(math.log(4), abs=1e-4)
        assert np.mean(losses[-20:]) < 0.8 * math.log(4)
        task.eval()
        with torch.no_grad():
            outcomes = [task.learn(task.draw(pool, np.random.default_rng(seed))) for seed in range(4)]
        assert sum(outcome.figure - outcome.trivial for outcome in outcomes) / 4 > 0.05

    def test_empty_clusters_are_refilled_and_said(self):
        image = np.zeros((1, 24, 24, 24), np.float32)
        task, notes = regrouped("deep_cluster", make_pool([image]))
        assert torch.bincount(task.labels, minlength=4).tolist() == [12, 12, 12, 12]
        assert notes[0].startswith("3 of 4 clusters were empty")
        _, notes = regrouped("deep_cluster", make_pool())
        assert not notes

    def test_a_cluster_of_more_than_half_is_said_once(self):
        image = np.zeros((1, 64, 64, 64), np.float32)
        image[0, 60:, 60:, 60:] = np.random.default_rng(0).standard_normal((4, 4, 4))
        pool = make_pool()
        task, _ = regrouped("clustering", pool)
        with torch.no_grad():
            first, second = (task.regroup(make_pool([image]), np.random.default_rng(s)) for s in (1, 2))
        assert "of the pieces" in first[0]
        assert not second

    def test_self_labelling_parts_equally_though_the_predictions_have_collapsed(self):
        pool = make_pool()
        task, _ = regrouped("self_labelling", pool)
        with torch.no_grad():
            first = task.head.space.directions[:, 0]
            task.head.space.centre -= 20 * first / first.square().sum()  # all lie on one side of it
            answers = task.head(task.embed(standardise(grouped_pieces(task, pool)))).argmax(1)
            assert torch.bincount(answers).max() >= 45  # of 48
            task.regroup(pool, np.random.default_rng(0))
        assert torch.bincount(task.labels, minlength=4).min() >= 8  # of 12
