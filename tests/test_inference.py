import copy
import itertools
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from phantoms import TABLE, fix_precision

from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WindowDone, finish
from napari_sparseseg.inference import (
    PlacedNetwork,
    Slab,
    entropy,
    most_probable,
    place_model,
    predict_slabs,
    predict_volume,
    predict_voxels,
)
from napari_sparseseg.networks import NETWORKS, NetworkPlan, Precision, build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.placed_network import one_thread_per_window, prepare_network
from napari_sparseseg.settings import InferenceConfig, NetworkConfig

CPU = torch.device("cpu")


class Stretch(torch.nn.Module):
    """Logits from the window's own mean: like instance norm, another window gives another answer."""

    def forward(self, windows):
        logits = windows - windows.mean((2, 3, 4), keepdim=True)
        return torch.cat([logits[:, :1], -logits[:, :1]], 1)


class Constant(torch.nn.Module):
    def forward(self, windows):
        logits = torch.zeros(len(windows), 3, *windows.shape[2:])
        logits[:, 1] = 1.0
        return logits


def place(network, patch, classes=2, position=False):
    plan = NetworkPlan(patch, ((1, 1, 1), (1, 1, 1)), ((3, 3, 3), (3, 3, 3)))
    return PlacedNetwork(network, plan, CPU, Precision("float32", channels_last=False), position, classes)


def collect(placed, image, overlap, **others):
    """Return all probabilities; every slice comes exactly once, in order."""
    slabs, windows = [], []
    for item in predict_slabs(placed, image, overlap, **others):
        (slabs if isinstance(item, Slab) else windows).append(item)
    firsts = [slab.first for slab in slabs]
    ends = [slab.first + slab.probabilities.shape[1] for slab in slabs]
    assert firsts == [0, *ends[:-1]]
    assert ends[-1] == image.shape[1]
    assert [window.done for window in windows] == list(range(1, windows[0].total + 1))
    return torch.cat([slab.probabilities for slab in slabs], 1)


def starts_by_hand(length, size, overlap):
    if length <= size:
        return [0]
    number = math.ceil((length - size) / max(1, size * (1 - overlap))) + 1
    return [round(i * (length - size) / (number - 1)) for i in range(number)]


@given(
    shape=st.tuples(*[st.integers(6, 11)] * 3),
    patch=st.tuples(*[st.integers(2, 6)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
def test_slabs_equal_blending_by_brute_force(shape, patch, overlap):
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    importance = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, device="cpu")
    importance = importance.clamp_min(1e-3)
    total, weight = torch.zeros(2, *shape), torch.zeros(shape)
    axes = [starts_by_hand(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    for corner in itertools.product(*axes):
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        probabilities = Stretch()(image[(slice(None), *window)][None]).softmax(1)[0]
        total[(slice(None), *window)] += probabilities * importance
        weight[window] += importance
    expected = total / weight
    assert torch.allclose(collect(place(Stretch(), patch), image, overlap), expected, atol=1e-5)


@pytest.mark.parametrize("at_once", [{"threads": 3}, {"batch": 3}, {"batch": 100}])
def test_windows_may_be_computed_side_by_side(at_once):
    image = torch.randn(1, 11, 9, 12, generator=torch.Generator().manual_seed(2))
    placed = place(Stretch(), (4, 5, 6))
    one_by_one = collect(placed, image, 0.5)
    assert torch.equal(collect(replace(placed, **at_once), image, 0.5), one_by_one)


def test_stopping_leaves_no_thread_behind():
    placed = replace(place(Stretch(), (4, 4, 4)), threads=3)
    work = predict_slabs(placed, torch.randn(1, 12, 12, 12), 0.5)
    next(work)
    assert any(thread.name.startswith("window") for thread in threading.enumerate())
    work.close()
    assert not any(thread.name.startswith("window") for thread in threading.enumerate())


@pytest.mark.parametrize(
    "precision", [Precision("float32", False), Precision("bfloat16", True)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_prepared_network_answers_as_before(architecture, precision):
    config = NetworkConfig(architecture=architecture)
    plan = plan_network((16, 16, 16), (1.0, 1.0, 1.0), config, 4096)
    torch.manual_seed(0)
    network = precision.place(build_network(config, plan, 1, 3), CPU).eval()
    prepared = prepare_network(copy.deepcopy(network), precision)
    windows = torch.randn(2, 1, *plan.patch)
    plain, ready = (
        PlacedNetwork(each, plan, CPU, precision, position=False, classes=3) for each in (network, prepared)
    )
    tolerance = 1e-5 if precision.dtype == "float32" else 0.02
    for some in (windows[:1], windows):  # one alone takes another way through the network
        assert torch.allclose(ready.predict_windows(some), plain.predict_windows(some), atol=tolerance)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with one_thread_per_window() as threads:
        assert (threads, torch.get_num_threads()) == (before, 1)
    assert torch.get_num_threads() == before


@given(seed=st.integers(0, 1000), classes=st.integers(1, 6))
def test_the_most_probable_class_is_the_first_of_the_largest(seed, classes):
    probabilities = torch.randint(0, 4, (classes, 3, 4, 5), generator=torch.Generator().manual_seed(seed)) / 3
    expected = probabilities.numpy().argmax(0)
    assert np.array_equal(most_probable(probabilities).numpy(), expected)


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), overlap=st.floats(0, 0.9))
def test_a_constant_network_gives_a_constant(shape, overlap):
    probabilities = collect(place(Constant(), (4, 3, 5), classes=3), torch.randn(1, *shape), overlap)
    expected = torch.tensor([0.0, 1.0, 0.0]).softmax(0)[:, None, None, None].expand_as(probabilities)
    assert torch.allclose(probabilities, expected, atol=1e-5)


def test_a_volume_smaller_than_the_patch_is_continued_by_its_edge():
    image = torch.randn(1, 2, 3, 4)
    probabilities = collect(place(Stretch(), (6, 6, 6)), image, 0.5)
    window = torch.nn.functional.pad(image[None], (1, 1, 2, 1, 2, 2), mode="replicate")
    expected = Stretch()(window).softmax(1)[0, :, 2:4, 2:5, 1:5]
    assert torch.allclose(probabilities, expected, atol=1e-5)


class ReadPosition(torch.nn.Module):
    def forward(self, windows):
        return torch.cat([windows[:, 1:4], torch.zeros_like(windows[:, :1])], 1)


def test_position_is_that_of_the_whole_volume():
    shape = (7, 8, 9)
    where = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij"))
    expected = torch.cat([where, torch.zeros(1, *shape)]).softmax(0)
    placed = place(ReadPosition(), (4, 4, 4), classes=4, position=True)
    image = torch.zeros(1, *shape)
    assert torch.allclose(collect(placed, image, 0.5), expected, atol=1e-5)
    part = collect(placed, image[:, 2:, 3:, 1:], 0.5, start=(2, 3, 1), whole=shape)
    assert torch.allclose(part, expected[:, 2:, 3:, 1:], atol=1e-5)


def test_voxels_agree_with_the_whole_where_their_box_is_the_volume():
    image = torch.randn(1, 7, 8, 9)
    placed = place(Stretch(), (4, 4, 4))
    whole = collect(placed, image, 0.25).reshape(2, -1).numpy()
    voxels = np.array([0, 100, 7 * 8 * 9 - 1])
    assert predict_voxels(placed, image, voxels) == pytest.approx(whole[:, voxels], abs=1e-6)


@given(voxel=st.integers(0, 10 * 3 * 12 - 1))
def test_single_voxels_are_found_at_their_place(voxel):
    placed = place(ReadPosition(), (4, 4, 4), classes=4, position=True)
    shape = (10, 3, 12)
    place_in_volume = np.unravel_index(voxel, shape)
    expected = [2 * i / (n - 1) - 1 for i, n in zip(place_in_volume, shape, strict=True)]
    found = predict_voxels(placed, torch.zeros(1, *shape), np.array([voxel]))
    assert found[:, 0] == pytest.approx(torch.tensor([*expected, 0.0]).softmax(0).numpy(), abs=1e-5)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6))
def test_entropy_runs_from_sure_to_undecided(seed, classes):
    logits = torch.randn(classes, 3, 3, 3, generator=torch.Generator().manual_seed(seed)) * 5
    values = entropy(logits.softmax(0))
    assert (values >= 0).all()
    assert (values <= 1 + 1e-6).all()
    assert torch.allclose(entropy(torch.full((classes, 2), 1 / classes)), torch.ones(2))
    assert entropy(torch.eye(classes)).tolist() == [0.0] * classes


@pytest.fixture
def model(monkeypatch):
    fix_precision(monkeypatch)
    config = NetworkConfig()
    plan = plan_network((8, 8, 8), (2.0, 1.0, 1.0), config, 512)
    torch.manual_seed(0)
    weights = build_network(config, plan, 1, 3).state_dict()
    return Model(config, plan, 1, False, TABLE, (2.0, 1.0, 1.0), Normalisation((None,)), weights, {})


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (1.0, 1.3, 0.7), (7.0, 3.0, 3.0), (0.5, 0.5, 0.5)])
def test_a_volume_of_any_spacing_keeps_its_own_shape(model, spacing):
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 9, 11, 13)).astype(np.float32)
    events = []
    work = predict_volume(model, image, spacing, InferenceConfig(device="cpu"), probabilities=True)
    prediction = finish(work, events.append)
    assert prediction.channels.shape == prediction.uncertainty.shape == (9, 11, 13)
    assert prediction.probabilities.shape == (3, 9, 11, 13)
    assert np.abs(prediction.probabilities.astype(np.float32).sum(0) - 1).max() < 5e-3
    best = np.take_along_axis(prediction.probabilities, prediction.channels[None].astype(int), 0)[0]
    assert (best >= prediction.probabilities.max(0) - 2e-3).all()
    assert prediction.uncertainty.min() >= 0
    assert prediction.uncertainty.max() <= 1.001
    assert isinstance(events[-1], WindowDone)


def test_probabilities_are_returned_only_where_asked_for(model):
    image = np.zeros((1, 8, 8, 8), np.float32)
    work = predict_volume(model, image, model.spacing, placed=place_model(model, "cpu"))
    assert finish(work).probabilities is None


def test_another_number_of_channels_is_told_in_a_sentence(model):
    with pytest.raises(InputError, match="2 channels and the model was trained on 1"):
        finish(predict_volume(model, np.zeros((2, 8, 8, 8), np.float32), model.spacing))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_when_memory_runs_out_the_cpu_takes_over(model, dtype):
    image = np.random.default_rng(0).normal(size=(1, 9, 9, 9)).astype(np.float32)
    placed = place_model(model, "cpu", precision=Precision(dtype, dtype == "bfloat16"))
    plain = finish(predict_volume(model, image, model.spacing, placed=placed))
    calls = []

    class Full(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = placed.network

        def forward(self, windows):
            calls.append(windows.dtype)
            if len(calls) == 3:
                raise torch.cuda.OutOfMemoryError
            return self.network(windows)

    full = replace(placed, network=Full())
    events = []
    prediction = finish(predict_volume(model, image, model.spacing, placed=full), events.append)
    assert next(e for e in events if isinstance(e, Noted)).text.endswith("predicting on the CPU instead.")
    assert np.mean(prediction.channels == plain.channels) > (0.9 if dtype == "bfloat16" else 0.999)
    assert next(placed.network.parameters()).dtype == getattr(torch, dtype)  # the caller's is as it was
