import math

import numpy as np
import pytest
import torch
from phantoms_ssl import make_sources, run_pretraining, short_pretraining
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
from torch import nn
from torch.nn import functional

from napari_sparseseg import pretraining
from napari_sparseseg.encoders import Encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, PretextScored
from napari_sparseseg.networks import plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.pretext import Outcome, TaskContext
from napari_sparseseg.pretext_contrastive import (
    CONTRASTIVE_TASKS,
    BootstrapLatent,
    SimilarViews,
    bootstrap_loss,
    follow,
    sample_features,
)
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.representation import has_collapsed
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.views import draw_views
from napari_sparseseg.volume_pool import ReadVolume, VolumePool, VolumeSource

SIZE = (16, 16, 16)
SPACING = (1.0, 1.0, 1.0)


def make_pool(seed=0, labelled=False, count=4):
    sources = make_sources(count, seed=seed, labelled=labelled, noise=0.5)
    pool = VolumePool(sources, [1] * count, Normalisation((None,)), SPACING, SIZE, 1024, 0)
    pool.turn(0)
    return pool


def make_task(name, batch_size=4, **config):
    plan = plan_network(SIZE, SPACING, NetworkConfig(), math.prod(SIZE))
    context = TaskContext(
        PretextConfig(**config), NetworkConfig(), plan, 1, SPACING, SIZE, SIZE, SIZE, batch_size, 4,
        2 if name == "supcon" else 0, False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return CONTRASTIVE_TASKS[name](context)


def draw(task, seed=0, labelled=False):
    return task.draw(make_pool(labelled=labelled), np.random.default_rng(seed))


def make_optimizer(task, rate=2e-3):
    return torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=rate)


def take_step(task, optimizer, batch):
    optimizer.zero_grad()
    task.learn(batch).loss.backward()
    optimizer.step()
    task.advance()


def measure(task, pool):
    task.eval()
    with torch.no_grad():
        outcomes = [task.learn(task.draw(pool, np.random.default_rng([9, i]))) for i in range(6)]
    task.train()
    return tuple(float(torch.stack([getattr(o, k) for o in outcomes]).mean()) for k in ("figure", "trivial"))


# figures measured: simclr 0.53, moco 0.56, supcon 0.82, byol 0.33
@pytest.mark.parametrize(
    ("name", "margin", "gain", "config"),
    [
        ("simclr", 0.2, 0.05, {}),
        ("moco", 0.2, 0.05, {"momentum": 0.9, "queue": 64}),
        ("supcon", 0.35, 0.03, {}),
        ("byol", 0.08, 0.08, {"momentum": 0.9}),
    ],
)
def test_each_task_learns(name, margin, gain, config):
    """On volumes that it has not seen: better than chance, and than with random weights."""
    labelled = name == "supcon"
    task, pool = make_task(name, batch_size=8, **config), make_pool(labelled=labelled)
    held_out, optimizer = make_pool(seed=1, labelled=labelled), make_optimizer(task)
    before, _ = measure(task, held_out)
    for step in range(30):
        take_step(task, optimizer, task.draw(pool, np.random.default_rng([1, step])))
    after, trivial = measure(task, held_out)
    assert after > trivial + margin
    assert after > before + gain


# losses


def info_nce(queries, keys, others, temperature):
    """Mean of -log(e^(q·k/t) / (e^(q·k/t) + Σ e^(q·n/t))), n over the others of each query."""
    losses = []
    for query, key, negatives in zip(queries, keys, others, strict=True):
        query = query / query.norm()
        right = math.exp(float(query @ key / key.norm()) / temperature)
        wrong = [math.exp(float(query @ one / one.norm()) / temperature) for one in negatives]
        losses.append(-math.log(right / (right + sum(wrong))))
    return np.mean(losses)


def make_features(count, seed=0):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_of_simclr_equals_its_formula_and_the_library_s(temperature):
    task = make_task("simclr", temperature=temperature)
    first, second = make_features(5), make_features(5, seed=1)
    views = torch.cat([first, second])
    keys = views.roll(5, 0)
    others = [[views[j] for j in range(10) if j % 5 != i % 5] for i in range(10)]
    loss = float(task.criterion(first, second))
    assert loss == pytest.approx(info_nce(views, keys, others, temperature), rel=1e-4)
    assert loss == pytest.approx(float(SelfSupervisedLoss(NTXentLoss(temperature))(first, second)), rel=1e-4)


def test_the_loss_of_supcon_equals_its_formula():
    """Khosla et al. (2020), equation 2."""
    features, labels, temperature = make_features(8), torch.tensor([1, 1, 2, 2, 2, -3, -3, 1]), 0.3
    unit = functional.normalize(features, dim=1)
    losses = []
    for i in range(8):
        terms = {j: float(unit[i] @ unit[j]) / temperature for j in range(8) if j != i}
        whole = sum(math.exp(value) for value in terms.values())
        like = [j for j in terms if labels[j] == labels[i]]
        losses.append(-np.mean([math.log(math.exp(terms[j]) / whole) for j in like]))
    loss = make_task("supcon", temperature=temperature).criterion(features, labels)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_supcon_is_simclr_where_all_labels_differ():
    first, second = make_features(5), make_features(5, seed=1)
    labels = torch.tensor([1, 2, 3, -4, -5])
    supervised = make_task("supcon").criterion(torch.cat([first, second]), torch.cat([labels, labels]))
    assert float(supervised) == pytest.approx(float(make_task("simclr").criterion(first, second)), rel=1e-6)


def test_the_loss_of_byol_is_two_minus_twice_the_cosine_and_stops_at_the_target():
    first, second = make_features(5).requires_grad_(), make_features(5, seed=1).requires_grad_()
    loss = bootstrap_loss(first, second)
    cosine = functional.cosine_similarity(first, second)
    torch.testing.assert_close(loss, (2 - 2 * cosine).mean())
    loss.backward()
    assert first.grad is not None
    assert second.grad is None


def test_byol_predicts_both_ways():
    task = make_task("byol").eval()
    batch = draw(task)
    swapped = {"first": batch["second"], "second": batch["first"]}
    forth, back = (task.compare(one) for one in (batch, swapped))
    expected = bootstrap_loss(*forth) + bootstrap_loss(*back)
    torch.testing.assert_close(task.learn(batch).loss, expected)


# slow networks and the queue


def test_a_slow_network_keeps_its_share():
    slow, fast = nn.Linear(3, 2), nn.Linear(3, 2)
    before = slow.weight.detach().clone()
    follow([slow], [fast], 0.9)
    torch.testing.assert_close(slow.weight, 0.9 * before + 0.1 * fast.weight)
    follow([slow], [fast], 0)
    torch.testing.assert_close(slow.weight, fast.weight)


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_slow_networks_begin_as_copies_and_take_no_gradient(name):
    task = make_task(name)
    pairs = list(
        zip(task.slow.parameters(), nn.ModuleList([task.encoder, task.head]).parameters(), strict=True)
    )
    for slow, fast in pairs:
        assert torch.equal(slow, fast)
        assert slow.data_ptr() != fast.data_ptr()
        assert not slow.requires_grad
    take_step(task, make_optimizer(task), draw(task))
    assert all(slow.grad is None for slow, _ in pairs)
    assert any(not torch.equal(slow, fast) for slow, fast in pairs)


def test_the_target_of_byol_slows_down():
    task = make_task("byol", momentum=0.5)
    shares = []
    for _ in range(400):
        with torch.no_grad():
            task.slow[1][0].weight.zero_()
            task.head[0].weight.fill_(1)
        task.advance()
        shares.append(1 - float(task.slow[1][0].weight[0, 0]))
    assert shares[0] == pytest.approx(0.5)
    assert (np.diff(shares) > 0).all()
    assert 0.5 < shares[-1] < 1


def test_the_queue_is_first_in_first_out_and_wraps():
    task = make_task("moco", batch_size=3, queue=8)
    expected = torch.zeros_like(task.keys)
    for step in range(5):
        batch = draw(task, seed=step)
        task.learn(batch)
        with torch.no_grad():
            for number, key in enumerate(task.compare(batch)[1]):
                expected[(3 * step + number) % 8] = key
        task.advance()
        torch.testing.assert_close(task.keys, expected)
        assert int(task.written) == 3 * (step + 1)


def test_a_batch_larger_than_the_queue_leaves_its_last_keys():
    task = make_task("moco", batch_size=10, queue=8)
    batch = draw(task)
    task.learn(batch)
    task.advance()
    torch.testing.assert_close(task.keys, task.compare(batch)[1][-8:])


def test_the_loss_of_moco_is_against_the_keys_that_were_written():
    task = make_task("moco", batch_size=3, queue=16, temperature=0.3)
    for step in range(2):
        task.learn(draw(task, seed=step))
        task.advance()
    batch = draw(task, seed=2)
    queries, keys = (part.detach() for part in task.compare(batch))
    others = [[*(key for j, key in enumerate(keys) if j != i), *task.keys[:6]] for i in range(3)]
    loss = task.learn(batch).loss.detach()
    assert float(loss) == pytest.approx(info_nce(queries, keys, others, 0.3), rel=1e-4)


def test_measuring_leaves_moco_and_byol_as_they_are():
    for name in ("moco", "byol"):
        task = make_task(name)
        batch = draw(task)
        take_step(task, make_optimizer(task), batch)
        before = {key: value.clone() for key, value in task.state_dict().items()}
        measure(task, make_pool())
        assert all(torch.equal(before[key], value) for key, value in task.state_dict().items())


@pytest.mark.parametrize("name", ["simclr", "moco", "supcon"])
def test_no_piece_is_recognised_by_what_else_is_in_the_batch(name):
    """The leak of batch norm, of which these heads have none."""
    task = make_task(name).train()
    batch = draw(task, labelled=name == "supcon")
    alone = {key: value[:2] for key, value in batch.items()}
    for whole, part in zip(task.compare(batch), task.compare(alone), strict=True):
        torch.testing.assert_close(whole[:2], part, rtol=1e-4, atol=1e-5)


def test_the_keys_of_moco_stay_consistent_while_the_network_learns():
    task = make_task("moco", momentum=0.99)
    batch, optimizer = draw(task), make_optimizer(task, rate=1e-2)
    queries, keys = (functional.normalize(part.detach(), dim=1) for part in task.compare(batch))
    for step in range(3):
        take_step(task, optimizer, draw(task, seed=step))
    after, later = (functional.normalize(part.detach(), dim=1) for part in task.compare(batch))
    assert float((keys - later).norm()) < 0.3 * float((queries - after).norm())


def test_byol_measures_with_what_its_batch_norms_have_learnt():
    task = make_task("byol", batch_size=2)
    optimizer = make_optimizer(task)
    for step in range(3):
        take_step(task, optimizer, draw(task, seed=step))
    assert any("running_mean" in name for name in task.state_dict())
    task.eval()
    batch = draw(task, seed=5)
    one = {name: value[:1] for name, value in batch.items()}
    for whole, part in zip(task.compare(batch), task.compare(one), strict=True):
        torch.testing.assert_close(whole[:1], part, rtol=1e-4, atol=1e-5)


# collapse


class _Naive(BootstrapLatent):
    """`byol` without what keeps it from collapse: no predictor, no slow target, no head."""

    def __init__(self, context):
        super().__init__(context)
        self.predictor = self.head = nn.Identity()

    def compare(self, batch):
        return self.embed(batch["first"]), self.embed(batch["second"])

    def learn(self, batch):
        first, second = (functional.normalize(part, dim=1) for part in self.compare(batch))
        loss = (first - second).square().sum(1).mean()
        return Outcome(loss, loss.detach(), loss.detach())

    def advance(self):
        pass


class _Blank(SimilarViews):
    """An encoder that says the same of everything after its first step, but for a hundredth."""

    def embed(self, pieces):
        random = np.random.default_rng(0).standard_normal((len(pieces), 128))
        same = torch.from_numpy(1 + 0.01 * random).float()
        return same if self.blank else super().embed(pieces)

    blank = False

    def advance(self):
        self.blank = True


@pytest.mark.parametrize(("build", "collapses"), [(_Naive, True), (BootstrapLatent, False)])
def test_without_predictor_and_slow_target_byol_collapses(build, collapses):
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        task = build(make_task("byol").context)
    pool, optimizer = make_pool(), make_optimizer(task, rate=1e-2)
    pieces = draw_views(pool, np.random.default_rng(9), SIZE, 32)[0]
    assert not has_collapsed(task.embed(pieces).detach())
    for step in range(45):
        take_step(task, optimizer, task.draw(pool, np.random.default_rng([1, step])))
    assert has_collapsed(task.embed(pieces).detach()) is collapses


def test_collapse_is_said_once(monkeypatch):
    monkeypatch.setitem(pretraining.PRETEXT_TASKS, "byol", _Blank)
    config = short_pretraining("byol", steps=2, batch_size=2)
    _, events = run_pretraining(make_sources(2, shape=SIZE), config)
    scores = [e for e in events if isinstance(e, PretextScored)]
    assert [score.collapsed for score in scores] == [False, True, True]
    assert sum(isinstance(e, Noted) and "collapsed" in e.text for e in events) == 1


# labels


def make_labelled_sources(values):
    def read():
        random = np.random.default_rng(0)
        annotation = np.zeros((16, 17, 18), np.uint8)
        annotation[4, 3:9, 3:9] = random.choice(values, (6, 6))
        return ReadVolume(random.random((1, 16, 17, 18), np.float32), SPACING, annotation)

    return [VolumeSource("labelled", read)]


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        (make_sources(2), "no volume has any besides background"),
        (make_labelled_sources((1,)), "no volume has any besides background"),
        (make_labelled_sources((2,)), "all of one"),
    ],
    ids=["no labels", "background alone", "one class alone"],
)
def test_supcon_says_which_labels_it_lacks(sources, reason):
    with pytest.raises(InputError, match=reason):
        run_pretraining(sources, short_pretraining("supcon", steps=1))


@pytest.mark.parametrize("values", [(1, 2), (2, 3)])
def test_two_values_are_enough_for_supcon(values):
    encoder, _ = run_pretraining(
        make_labelled_sources(values), short_pretraining("supcon", steps=1, batch_size=4)
    )
    assert all(tensor.isfinite().all() for tensor in encoder.weights.values())


def test_where_nothing_is_labelled_the_figure_of_supcon_is_finding_the_second_view():
    task = make_task("supcon", batch_size=5)
    outcome = task.learn(draw(task))
    assert float(outcome.trivial) == pytest.approx(1 / 5)


def test_features_at_a_voxel_are_the_nearest_ones_of_each_level():
    encoder = Encoder(
        [nn.Identity(), nn.AvgPool3d((1, 2, 2), ceil_mode=True), nn.AvgPool3d(2, ceil_mode=True)],
        [(1, 1, 1), (1, 2, 2), (2, 4, 4)], [3, 3, 3],
    )  # fmt: skip
    shape = (6, 8, 12)
    places = torch.stack(torch.meshgrid(*[torch.arange(n).float() for n in shape], indexing="ij"))
    spots = torch.from_numpy(np.random.default_rng(0).integers(0, shape, (2, 9, 3)))
    sampled = sample_features(encoder, places.expand(2, -1, -1, -1, -1), spots)
    assert sampled.shape == (2, 9, 9)
    torch.testing.assert_close(sampled[..., :3], spots.float())
    for level, stride in enumerate(encoder.strides):
        apart = (sampled[..., 3 * level : 3 * level + 3] - spots).abs()
        assert (apart <= torch.tensor(stride)).all()


# pictures


@pytest.mark.parametrize("name", list(CONTRASTIVE_TASKS))
def test_the_picture_shows_the_views_and_the_one_found(name):
    task = make_task(name).eval()
    batch = draw(task, labelled=name == "supcon")
    with torch.no_grad():
        pictures = {picture.name: picture.image for picture in task.picture(batch)}
    assert list(pictures) == ["input", "target", "prediction"]
    assert all(image.shape == SIZE and image.dtype == np.float32 for image in pictures.values())
    np.testing.assert_array_equal(pictures["input"], batch["first"][0, 0])
    np.testing.assert_array_equal(pictures["target"], batch["second"][0, 0])
    assert any(np.array_equal(pictures["prediction"], view[0]) for view in batch["second"])
