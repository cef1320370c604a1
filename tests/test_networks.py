import json
import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg import networks
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import (
    NETWORKS,
    NetworkPlan,
    Precision,
    build_network,
    choose_device,
    choose_precision,
    default_patch_voxels,
    plan_network,
    with_smaller_patch,
)
from napari_sparseseg.settings import NetworkConfig

CPU = torch.device("cpu")
GEOMETRIES = {
    "isotropic": ((40, 40, 40), (1.0, 1.0, 1.0)),
    "thick slices": ((10, 64, 64), (10.0, 1.4, 1.4)),
    "sagittal thick slices": ((64, 64, 10), (1.0, 1.0, 6.0)),
    "tiny": ((5, 4, 6), (1.0, 1.0, 1.0)),
    "one slice": ((1, 32, 32), (1.0, 1.0, 1.0)),
    "three voxels": ((3, 3, 3), (1.0, 1.0, 1.0)),
    "one voxel": ((1, 1, 1), (1.0, 1.0, 1.0)),
}


def divisors(plan):
    return [math.prod(level[axis] for level in plan.strides) for axis in range(3)]


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_network_learns_on_its_plan_s_patch(architecture, geometry):
    config = NetworkConfig(architecture)
    plan = plan_network(*GEOMETRIES[geometry], config, 16**3)
    network = build_network(config, plan, 2, 3)
    logits = network(torch.randn(1, 2, *plan.patch))
    assert logits.shape == (1, 3, *plan.patch)
    logits.square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert NetworkPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 12)] * 3),
    architecture=st.sampled_from(sorted(NETWORKS)),
    size=st.sampled_from(["small", "medium", "large"]),
    voxels=st.integers(8**3, 64**3),
)
def test_plans_hold_their_promises(shape, spacing, architecture, size, voxels):
    plan = plan_network(shape, spacing, NetworkConfig(architecture, size), voxels)
    assert 2 <= len(plan.strides) == len(plan.kernels)
    assert plan.strides[0] == (1, 1, 1)
    for length, divisor in zip(plan.patch, divisors(plan), strict=True):
        assert length % divisor == 0
        assert divisor == 1 or length // divisor >= 2  # two voxels at the bottleneck of a pooled axis
    assert NetworkPlan.from_json(plan.to_json()) == plan
    if architecture != "segresnet" and min(shape) >= 4:
        lengths = list(spacing)
        for stride in plan.strides[1:]:
            assert all(step == 1 or length <= 2 * min(lengths) for step, length in zip(stride, lengths))  # noqa: B905
            lengths = [length * step for length, step in zip(lengths, stride, strict=True)]


def test_ten_millimetre_slices_are_not_pooled_before_fine_pixels():
    plan = plan_network((12, 200, 200), (10.0, 1.4, 1.4), NetworkConfig(), 64**3)
    assert plan.strides[1] == (1, 2, 2)
    assert plan.strides[2] == (1, 2, 2)
    assert plan.kernels[0] == (1, 3, 3)
    assert plan.patch[1] * 1.4 == pytest.approx(plan.patch[2] * 1.4)


def test_cubes_of_isotropic_voxels_are_pooled_alike():
    plan = plan_network((200, 200, 200), (1.0, 1.0, 1.0), NetworkConfig(), 64**3)
    assert plan.patch == (64, 64, 64)
    assert plan.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert set(plan.kernels) == {(3, 3, 3)}


GOOD = {"patch": [8, 8, 8], "strides": [[1, 1, 1], [2, 2, 2]], "kernels": [[3, 3, 3], [3, 3, 3]]}


@pytest.mark.parametrize(
    "change",
    [
        {"patch": [8, 8]},
        {"patch": [0, 8, 8]},
        {"patch": [7, 8, 8]},
        {"patch": [4096, 8, 8]},
        {"patch": [float("nan"), 8, 8]},
        {"patch": [float("inf"), 8, 8]},
        {"patch": None},
        {"strides": [[1, 1, 1]]},
        {"strides": [[1, 1, 1], [0, 1, 1]]},
        {"strides": [[1, 1, 1], [64, 1, 1]]},
        {"strides": [[1, 1, 1]] * 50, "kernels": [[3, 3, 3]] * 50},
        {"kernels": [[3, 3, 3], [99, 3, 3]]},
        {"kernels": "abc"},
    ],
    ids=str,
)
def test_hostile_plans_are_refused(change):
    assert NetworkPlan.from_json(GOOD).patch == (8, 8, 8)
    with pytest.raises(InputError):
        NetworkPlan.from_json({**GOOD, **change})
    with pytest.raises(InputError):
        NetworkPlan.from_json({name: value for name, value in GOOD.items() if name not in change})
    with pytest.raises(InputError):
        NetworkPlan.from_json([change])


def test_patches_shrink_until_they_cannot():
    plan = plan_network((64, 64, 64), (1.0, 1.0, 1.0), NetworkConfig(), 64**3)
    sizes = [math.prod(plan.patch)]
    while (smaller := with_smaller_patch(plan)) is not None:
        assert smaller.strides == plan.strides
        assert all(n % d == 0 and n // d >= 2 for n, d in zip(smaller.patch, divisors(plan), strict=True))
        sizes.append(math.prod(smaller.patch))
        plan = smaller
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) > 3
    assert sizes[-1] <= 16**3


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_missing_device_is_a_sentence(kind, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(InputError, match=f"no usable {kind} device; choose cpu or auto as the device"):
        choose_device(kind)
    assert choose_device("auto") == choose_device("cpu") == CPU


def test_cuda_comes_first(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert default_patch_voxels(torch.device("cuda")) > default_patch_voxels(CPU)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Replace timing by fixed times, and record what is timed; the cache lies in `tmp_path`."""
    calls = []

    def time_step(network, precision, batch, device):
        calls.append(precision)
        return {"float32": 2.0, "bfloat16": 1.0}[precision.dtype] - 0.5 * precision.channels_last

    monkeypatch.setattr(networks, "_time_step", time_step)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_: str(tmp_path / "cache"))
    return calls


def small_network():
    plan = plan_network((8, 8, 8), (1.0, 1.0, 1.0), NetworkConfig(), 512)
    return build_network(NetworkConfig(), plan, 1, 2), plan


def test_precision_is_measured_once_and_remembered(timed, tmp_path):
    network, plan = small_network()
    state = torch.get_rng_state()
    assert choose_precision("auto", network, plan, 1, CPU) == Precision("bfloat16", channels_last=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(timed) == 4
    assert choose_precision("auto", network, plan, 1, CPU) == Precision("bfloat16", channels_last=True)
    assert len(timed) == 4
    assert choose_precision("float32", network, plan, 1, CPU) == Precision("float32", channels_last=True)
    assert len(timed) == 6
    assert (tmp_path / "cache" / "precision.json").is_file()


@pytest.mark.parametrize("contents", ["", "[1, 2]", "{", "\x00"])
def test_a_damaged_cache_is_measured_anew(timed, tmp_path, contents):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "precision.json").write_text(contents)
    network, plan = small_network()
    choose_precision("auto", network, plan, 1, CPU)
    assert len(timed) == 4


def test_an_unwritable_cache_costs_only_a_measurement(timed, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    network, plan = small_network()
    for _ in range(2):
        assert choose_precision("auto", network, plan, 1, CPU).dtype == "bfloat16"
    assert len(timed) == 8


def test_measuring_leaves_the_weights_alone():
    network, plan = small_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    choose_precision("float32", network, plan, 1, CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_patch_that_would_end_the_process_is_trained_in_float32(monkeypatch):
    monkeypatch.setattr(networks, "_time_step", lambda n, candidate, b, d: candidate.dtype != "bfloat16")
    ends = []
    monkeypatch.setattr(
        networks.subprocess,
        "run",
        lambda command, **_: ends.append(command) or SimpleNamespace(returncode=-11),
    )
    plan = NetworkPlan((8, 120, 120), ((1, 1, 1), (1, 2, 2)), ((3, 3, 3), (3, 3, 3)))
    network = build_network(NetworkConfig(), plan, 1, 2)
    for _ in range(2):
        precision = choose_precision("auto", network, plan, 1, torch.device("cpu"))
        assert precision.dtype == "float32"
    assert len(ends) == 1  # then it is known
    thick = replace(plan, patch=(16, 120, 120))
    assert choose_precision("auto", network, thick, 1, torch.device("cpu")).dtype == "bfloat16"
    assert choose_precision("bfloat16", network, plan, 1, torch.device("cpu")).dtype == "bfloat16"


def test_training_on_thick_slices_survives():
    code = """
import torch
torch.set_num_threads(1)
from napari_sparseseg.learner import Learner
from napari_sparseseg.networks import *
from napari_sparseseg.settings import NetworkConfig
plan = NetworkPlan((8, 120, 120), ((1, 1, 1), (1, 2, 2), (1, 2, 2)), ((3, 3, 3),) * 3)
network = build_network(NetworkConfig(), plan, 1, 2)
cpu = torch.device("cpu")
learner = Learner(network, cpu, choose_precision("auto", network, plan, 1, cpu), 1e-3)
labels = torch.ones((1, 8, 120, 120), dtype=torch.uint8)
for _ in range(4):
    learner.step(torch.randn(1, 1, 8, 120, 120), [(labels, torch.ones(labels.shape), 1.0)], 1.0, 0.5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
