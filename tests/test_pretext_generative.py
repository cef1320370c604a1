from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms_ssl import make_sources, make_volume
from scipy import ndimage

from napari_sparseseg.adversary import Adversary
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import plan_network
from napari_sparseseg.normalisation import fit_normalisation_to_samples, sample_voxels
from napari_sparseseg.pretext import TaskContext
from napari_sparseseg.pretext_generative import CT_WINDOWS, GENERATIVE_TASKS, rarity
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.trivial_answers import fill_smoothly
from napari_sparseseg.volume_pool import ReadVolume, VolumePool, VolumeSource

PIECE = (16, 16, 16)
TASKS = list(GENERATIVE_TASKS)
HIDING = ["inpainting", "masked_autoencoder"]


def ct_sources(count=5):
    """Return phantoms in Hounsfield units."""

    def read(number):
        volume = make_volume(seed=number)
        return ReadVolume(700 * volume.image - 1000, volume.spacing)

    return [VolumeSource(f"ct {n}", lambda n=n: read(n)) for n in range(count)]


def colour_sources(count=5):
    """Return phantoms of two channels: where the chin is, their difference cannot be told from their mean."""

    def read(number):
        volume = make_volume(seed=number, labelled=True, noise=0.05)
        chin = ndimage.gaussian_filter((volume.annotation == 3).astype(np.float32), 0.7)
        image = np.concatenate([volume.image + 3 * chin, volume.image - 3 * chin])
        return ReadVolume(image, volume.spacing)

    return [VolumeSource(f"colours {n}", lambda n=n: read(n)) for n in range(count)]


def make_pool(sources, piece=PIECE, spacing=(1.0, 1.0, 1.0)):
    images = [source.read().image for source in sources]
    normalisation = fit_normalisation_to_samples([sample_voxels(image, 20_000) for image in images])
    pool = VolumePool(sources, [image.size for image in images], normalisation, spacing, piece, 1000, 0)
    pool.turn(0)
    return pool


def make_task(name, pretext=None, channels=1, piece=PIECE, spacing=(1.0, 1.0, 1.0), is_ct=False, batch=4):
    network = NetworkConfig(size="small")
    plan = plan_network(piece, spacing, network, 16**3)
    context = TaskContext(
        pretext or PretextConfig(), network, plan, channels, spacing, piece, piece, piece, batch, 4, 0, is_ct
    )
    torch.manual_seed(0)
    return GENERATIVE_TASKS[name](context)


def task_and_pool(name, pretext=None, **options):
    """Return a task, and a pool that suits it."""
    if name == "colorization":
        return make_task(name, pretext, channels=2, **options), make_pool(colour_sources())
    return make_task(name, pretext, **options), make_pool(make_sources())


def random(seed=0):
    return np.random.default_rng(seed)


class StillPool:
    """A pool that has nothing but the given pieces."""

    def __init__(self, pieces):
        self.pieces = pieces

    def draw_pieces(self, random, size, count):
        assert self.pieces.shape[0] == count
        assert tuple(self.pieces.shape[2:]) == size
        return self.pieces.clone()


def noise_like(seed, *shape):
    return torch.from_numpy(random(seed).standard_normal(shape, dtype=np.float32))


LEARNING = [  # steps, and what share of the trivial answer's error is left at most
    ("inpainting", "phantom", PretextConfig(mask_voxels=8), 30, 0.97),
    ("masked_autoencoder", "phantom", PretextConfig(mask_voxels=8), 60, 0.96),
    ("super_resolution", "phantom", PretextConfig(), 40, 0.95),
    ("colorization", "colours", PretextConfig(), 36, 0.8),
    ("colorization", "ct", PretextConfig(), 45, 0.95),
    ("denoising", "phantom", PretextConfig(noise=0.3), 80, 0.96),
]


@pytest.mark.parametrize(("name", "kind", "pretext", "steps", "share"), LEARNING)
def test_each_task_learns_more_than_the_trivial_answer(name, kind, pretext, steps, share):
    phantoms = {"phantom": lambda: make_sources(5, noise=0.05), "colours": colour_sources, "ct": ct_sources}
    channels = 2 if kind == "colours" else 1
    task = make_task(name, pretext, channels=channels, is_ct=kind == "ct")
    figure, trivial = learn(task, phantoms[kind](), steps)
    assert figure < share * trivial


def learn(task, sources, steps):
    """Learn from all volumes but one; return what is measured on that one."""
    pool, other = make_pool(sources[1:]), make_pool(sources[:1])
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for step in range(steps):
        optimizer.zero_grad()
        task.learn(task.draw(pool, random(step))).loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 5)
        optimizer.step()
        schedule.step()
    task.eval()
    with torch.no_grad():
        outcomes = [task.learn(task.draw(other, random(1000 + number))) for number in range(4)]
    return sum(float(o.figure) for o in outcomes) / 4, sum(float(o.trivial) for o in outcomes) / 4


@pytest.mark.parametrize("name", TASKS)
def test_a_draw_is_a_function_of_pool_and_generator(name):
    task, pool = task_and_pool(name)
    first, again, other = (task.draw(pool, random(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["input"], other["input"])


@pytest.mark.parametrize("name", TASKS)
def test_the_input_has_the_channels_of_the_volumes_and_is_no_answer(name):
    task, pool = task_and_pool(name)
    batch = task.draw(pool, random())
    assert batch["input"].shape == (4, task.context.channels, *PIECE)
    assert batch["input"].dtype == torch.float32
    assert float(task.learn(batch).trivial) > 0.01


@pytest.mark.parametrize("name", TASKS)
def test_the_encoder_learns_and_a_batch_can_have_any_size(name):
    task, pool = task_and_pool(name)
    task.context = replace(task.context, batch_size=2)
    torch.nn.init.ones_(task.head.weight)  # it begins with nothing, and lets nothing through
    outcome = task.learn(task.draw(pool, random()))
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.parameters())
    deepest = list(task.encoder.stages[-1].parameters())
    assert any(p.grad.abs().max() > 0 for p in deepest)
    assert not outcome.figure.requires_grad
    assert not outcome.trivial.requires_grad


@pytest.mark.parametrize("name", TASKS)
def test_pictures_have_one_shape(name):
    task, pool = task_and_pool(name)
    with torch.no_grad():
        pictures = task.picture(task.draw(pool, random()))
    assert pictures[0].name == "input"
    assert {picture.image.shape for picture in pictures} == {PIECE}
    assert all(picture.image.dtype == np.float32 for picture in pictures)
    assert any(picture.name.startswith("target") for picture in pictures)
    assert any(picture.name.startswith("prediction") for picture in pictures)
    assert len({picture.name for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("name", TASKS)
def test_thick_slices_will_do(name):
    piece, spacing = (3, 16, 16), (10.0, 1.0, 1.0)
    channels = 2 if name == "colorization" else 1
    task = make_task(name, PretextConfig(mask_voxels=4), channels, piece, spacing)
    pieces = noise_like(0, 4, channels, *piece)
    outcome = task.learn(task.draw(StillPool(pieces), random()))
    assert outcome.loss.isfinite()
    assert 0 < float(outcome.trivial) < 3


@pytest.mark.parametrize("name", TASKS)
def test_bfloat16_will_do(name):
    task, pool = task_and_pool(name)
    batch = task.draw(pool, random())
    exact = task.learn(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = task.learn(batch)
    assert rough.loss.dtype == torch.float32
    assert float(rough.trivial) == pytest.approx(float(exact.trivial), rel=1e-4)


@pytest.mark.parametrize("adversarial", [0, 0.1])
@pytest.mark.parametrize("name", HIDING)
def test_only_what_is_painted_at_hidden_voxels_matters(name, adversarial):
    task, pool = task_and_pool(name, PretextConfig(mask_voxels=4, adversarial=adversarial))
    batch = task.draw(pool, random())
    painted = noise_like(0, *batch["target"].shape).requires_grad_()
    task.paint = lambda shown: painted
    task.learn(batch).loss.backward()
    hidden = batch["hidden"].expand_as(painted)
    assert (painted.grad[~hidden] == 0).all()
    assert (painted.grad[hidden] != 0).float().mean() > 0.99


@pytest.mark.parametrize("name", HIDING)
def test_the_target_at_visible_voxels_does_not_matter(name):
    task, pool = task_and_pool(name, PretextConfig(mask_voxels=4, adversarial=0))
    batch = dict(task.draw(pool, random()))
    batch["target"] = batch["target"].requires_grad_()
    task.learn(batch).loss.backward()
    hidden = batch["hidden"]
    assert (batch["target"].grad[~hidden] == 0).all()
    assert batch["target"].grad[hidden].abs().max() > 0


@pytest.mark.parametrize("name", HIDING)
def test_hidden_voxels_never_enter_the_input(name):
    task = make_task(name, PretextConfig(mask_voxels=4), channels=2)
    pieces = noise_like(0, 4, 2, *PIECE)
    first = task.draw(StillPool(pieces), random())
    others = torch.where(first["hidden"], noise_like(1, *pieces.shape) + 5, pieces)
    second = task.draw(StillPool(others), random())
    assert torch.equal(first["hidden"], second["hidden"])
    assert torch.equal(first["input"], second["input"])
    assert not torch.equal(first["target"], second["target"])
    assert first["hidden"].shape == (4, 1, *PIECE)  # the same in all channels


def test_the_error_of_inpainting_is_that_of_hidden_voxels():
    task = make_task("inpainting", PretextConfig(mask_voxels=4, adversarial=0))
    batch = task.draw(StillPool(noise_like(0, 4, 1, *PIECE)), random())
    painted = noise_like(1, 4, 1, *PIECE)
    task.paint = lambda shown: painted
    outcome = task.learn(batch)
    filled = painted + fill_smoothly(batch["input"], batch["hidden"], (4, 4, 4))
    expected = (filled - batch["target"])[batch["hidden"]].square().mean()
    assert float(outcome.loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(outcome.figure) == pytest.approx(float(expected) ** 0.5, rel=1e-5)


def test_a_masked_autoencoder_wants_normalised_blocks():
    task = make_task("masked_autoencoder", PretextConfig(mask_voxels=4), channels=2)
    batch = task.draw(StillPool(noise_like(0, 4, 2, *PIECE)), random())
    painted = noise_like(1, 4, 2, *PIECE)
    task.paint = lambda shown: painted
    errors = []
    for b, c, z, y, x in np.ndindex(4, 2, 4, 4, 4):
        box = (b, slice(None), slice(4 * z, 4 * z + 4), slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4))
        block, hidden = batch["target"][box][c].numpy(), batch["hidden"][box]
        assert hidden.all() or not hidden.any()
        if hidden.any():
            wanted = (block - block.mean()) / np.sqrt(block.var() + 0.1**2)
            errors.append((painted[box][c].numpy() - wanted) ** 2)
    assert float(task.learn(batch).loss) == pytest.approx(float(np.mean(errors)), rel=1e-4)
    brighter = {**batch, "target": 3 * batch["target"] + 7}
    assert float(task.learn(brighter).loss) == pytest.approx(float(task.learn(batch).loss), rel=0.02)


def test_without_its_weight_there_is_no_adversary():
    without = dict(make_task("inpainting", PretextConfig(adversarial=0)).named_parameters())
    with_it = dict(make_task("inpainting", PretextConfig(adversarial=0.1)).named_parameters())
    assert not any("discriminator" in name for name in without)
    assert set(without) < set(with_it)
    assert all("adversary.discriminator" in name for name in set(with_it) - set(without))


def test_each_adversary_has_its_own_gradient():
    adversary = Adversary(2)
    made, real = noise_like(0, 2, 2, *PIECE).requires_grad_(), noise_like(1, 2, 2, *PIECE)
    better, wiser = adversary(made, real)
    better.backward()
    assert made.grad.abs().max() > 0
    assert all(p.grad is None for p in adversary.parameters())
    pull, made.grad = made.grad, None
    wiser.backward()
    assert made.grad is None
    assert all(p.grad.abs().max() > 0 for p in adversary.parameters())
    judged = adversary.discriminator(made)[-1].mean()
    judged.backward()
    assert float((pull * made.grad).sum()) < 0  # what is better for the one looks more real to the other


def test_the_discriminator_learns_what_is_real():
    torch.manual_seed(0)
    adversary = Adversary(1)
    optimizer = torch.optim.AdamW(adversary.parameters(), lr=1e-2)
    for step in range(40):
        rough = random(step).standard_normal((4, 1, *PIECE))
        smooth = 5 * torch.from_numpy(ndimage.gaussian_filter(rough, (0, 0, 1, 1, 1))).float()
        optimizer.zero_grad()
        _, wiser = adversary(noise_like(step, 4, 1, *PIECE), smooth)
        wiser.backward()
        optimizer.step()
    assert float(wiser.detach()) < 0.1  # to know nothing costs 0.25


def test_a_coarse_input_holds_nothing_but_the_means_of_blocks():
    task = make_task("super_resolution", PretextConfig(shrink=4))
    pieces = noise_like(0, 4, 1, *PIECE)
    parts = pieces.reshape(4, 1, 4, 4, 4, 4, 4, 4)
    turned = parts.flip(3, 5, 7).reshape(pieces.shape)  # other voxels, the same blocks
    first, second = (task.draw(StillPool(p), random())["input"] for p in (pieces, turned))
    assert (pieces - turned).abs().max() > 1
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_only_halved_axes_are_made_coarser():
    piece = (4, 16, 16)
    task = make_task("super_resolution", piece=piece, spacing=(10.0, 1.0, 1.0))
    assert task.factors == (1, 2, 2)
    stripes = torch.ones(4, 1, *piece)
    stripes[:, :, ::2] = -1
    batch = task.draw(StillPool(stripes), random())
    torch.testing.assert_close(batch["input"], stripes)
    assert make_task("super_resolution").factors == (2, 2, 2)


@pytest.mark.parametrize("name", ["inpainting", "super_resolution", "denoising"])
def test_what_is_added_to_the_input_begins_with_nothing(name):
    task, pool = task_and_pool(name, PretextConfig(adversarial=0))
    outcome = task.learn(task.draw(pool, random()))
    assert float(outcome.figure) >= float(outcome.trivial)
    assert float(outcome.figure) < 2 * float(outcome.trivial)


def test_one_channel_without_unit_has_no_colours():
    with pytest.raises(InputError, match="one channel without such a unit"):
        make_task("colorization", channels=1, is_ct=False)
    make_task("colorization", channels=1, is_ct=True)


def test_channels_are_told_from_nothing_but_their_mean():
    task = make_task("colorization", channels=3)
    pieces = noise_like(0, 4, 3, *PIECE)
    rolled = pieces.roll(1, 1)
    first, second = (task.draw(StillPool(p), random())["input"] for p in (pieces, rolled))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first[:, 0], pieces.mean(1))
    assert torch.equal(first[:, 0], first[:, 2])


def test_windows_of_ct_are_told_from_a_narrow_one():
    task = make_task("colorization", is_ct=True)
    pieces = 3 * noise_like(0, 4, 1, *PIECE)
    beyond = torch.where(pieces.abs() > 1, 2 * pieces, pieces)
    first, second = (task.draw(StillPool(p), random()) for p in (pieces, beyond))
    assert torch.equal(first["input"], second["input"])
    assert not torch.equal(first["target"], second["target"])
    assert first["target"].shape == (4, len(CT_WINDOWS), *PIECE)
    for channel, (low, high) in enumerate(CT_WINDOWS.values()):
        target = first["target"][:, channel]
        assert (target[pieces[:, 0] >= high] == 1).all()
        assert (target[pieces[:, 0] <= low] == -1).all()


def test_colours_that_grey_tells_are_the_trivial_answer():
    task = make_task("colorization", channels=2)
    values = torch.from_numpy(random().integers(-2, 3, (4, 1, *PIECE))).float()
    told = task.learn(task.draw(StillPool(torch.cat([values, 3 * values], 1)), random()))
    hidden = torch.from_numpy(random(1).choice([-1.0, 1.0], (4, 1, *PIECE))).float()
    untold = task.learn(task.draw(StillPool(torch.cat([values + hidden, values - hidden], 1)), random()))
    assert float(told.trivial) < 0.01
    assert float(untold.trivial) > 0.5


def test_rare_intensities_count_more():
    target = torch.zeros(1, 2, 4, 4, 4)
    target[0, 0, 0] = 1  # a quarter
    target[0, 1, 0, 0, 0] = 1  # one of 64
    weights = rarity(target)
    for channel, share in enumerate((1 / 4, 1 / 64)):
        rare, common = (1 / (0.5 * s + 0.5 / 16) for s in (share, 1 - share))
        mean = share * rare + (1 - share) * common
        assert float(weights[0, channel].max()) == pytest.approx(rare / mean, rel=1e-4)
        assert float(weights[0, channel].min()) == pytest.approx(common / mean, rel=1e-4)
        assert float(weights[0, channel].mean()) == pytest.approx(1, rel=1e-4)


def test_noise_is_of_the_size_asked_for_and_unlike_in_channels():
    task = make_task("denoising", PretextConfig(noise=0.3), channels=2)
    batch = task.draw(StillPool(noise_like(0, 4, 2, *PIECE)), random())
    noise = (batch["input"] - batch["target"]).numpy()
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1]) < 0.05


def test_the_better_of_blurred_and_noisy_is_trivial():
    smooth = torch.ones(4, 1, *PIECE)
    rough = 3 * noise_like(9, 4, 1, *PIECE)
    task = make_task("denoising", PretextConfig(noise=0.5))
    assert float(task.learn(task.draw(StillPool(smooth), random())).trivial) < 0.1
    assert float(task.learn(task.draw(StillPool(rough), random())).trivial) == pytest.approx(0.5, rel=0.1)
