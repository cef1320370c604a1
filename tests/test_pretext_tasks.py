"""What holds for each pretext task: it takes any volumes or says why not, and can be stopped."""

from functools import partial

import numpy as np
import pytest
import torch
from phantoms_ssl import make_volume, run_pretraining, short_pretraining, stop_pretraining

from napari_sparseseg import pretraining
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import PretextPictured, PretextScored, StepDone
from napari_sparseseg.pretraining import PRETEXT_TASKS
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume_pool import ReadVolume, VolumeSource

PRETEXT = PretextConfig(clusters=4, clustered=8, exemplars=8, permutations=8, queue=8, momentum=0.8)
NETWORK = NetworkConfig(size="small")
KINDS = {
    "thick slices": {"shape": (10, 120, 120), "spacing": (7.5, 1.0, 1.0)},
    "one slice": {"shape": (1, 40, 36)},
    "several channels": {"channels": 3},
    "tiny": {"shape": (20, 20, 20)},
    "CT": {"hounsfield": True},
}
REFUSED = {
    ("colorization", "thick slices"): "one channel without such a unit",
    ("colorization", "one slice"): "one channel without such a unit",
    ("colorization", "tiny"): "one channel without such a unit",
    ("relative_position", "tiny"): "three tiles",
    ("jigsaw", "tiny"): "a jigsaw needs 4 tiles",
    ("supcon", "one slice"): "learns from labels",
}

STATELESS = {"masked_autoencoder", "super_resolution", "denoising", "relative_position", "rotation", "simclr"}
"""Tasks with nothing but a network and a head, which the others have, too."""


@pytest.fixture(autouse=True)
def _measure_little(few_checks, monkeypatch):
    monkeypatch.setattr(pretraining, "_MEASURED_BATCHES", 1)


def make_sources(count=2, hounsfield=False, shape=(24, 34, 32), **options):
    sources = []
    for number in range(count):
        volume = make_volume(shape, seed=number, labelled=True, **options)
        image = 700 * volume.image - 1000 if hounsfield else volume.image
        volume = ReadVolume(image, volume.spacing, volume.annotation)
        sources.append(VolumeSource(f"phantom {number}", partial(lambda volume: volume, volume)))
    return sources


@pytest.fixture(scope="module")
def sources():
    return {kind: make_sources(**options) for kind, options in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", PRETEXT_TASKS)
def test_any_volumes_are_learnt_from_or_refused_in_a_sentence(task, kind, sources):
    config = short_pretraining(task, steps=2, batch_size=2)
    if (task, kind) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[task, kind]) as refusal:
            run_pretraining(sources[kind], config, PRETEXT, NETWORK)
        assert str(refusal.value).endswith(".")
        assert ". " not in str(refusal.value)
        return
    encoder, events = run_pretraining(sources[kind], config, PRETEXT, NETWORK)
    assert all(tensor.isfinite().all() for tensor in encoder.weights.values())
    for event in events:
        if isinstance(event, PretextScored):
            assert np.isfinite([event.value, event.trivial, event.alignment, event.uniformity]).all()
        if isinstance(event, PretextPictured):
            assert np.isfinite(event.images).all()
            assert "input" in event.names


@pytest.mark.parametrize("task", [task for task in PRETEXT_TASKS if task not in STATELESS])
def test_stopped_twice_and_gone_on_with_is_uninterrupted(task, tmp_path, monkeypatch):
    """Before and after pieces are grouped anew; 2 channels and labels are what every task can learn from."""
    monkeypatch.setattr(pretraining, "TURN_STEPS", 2)
    volumes, config = make_sources(3, channels=2), short_pretraining(task, steps=4, batch_size=2)
    run = partial(run_pretraining, volumes, config, PRETEXT, NETWORK)
    whole, events = run()
    for step in (2, 3):
        stop_pretraining(volumes, config, PRETEXT, NETWORK, folder=tmp_path, after=step)
    resumed, rest = run(state_folder=tmp_path, resume=True)
    assert [event.step for event in rest if isinstance(event, StepDone)] == [4]
    scored, again = ([e for e in some if isinstance(e, PretextScored)][-1] for some in (events, rest))
    assert scored == again
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in whole.weights.items())
