"""A network and volumes so small that a batch takes a moment, shared by the tests of batches."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import torch
from phantoms import TABLE, make_image, make_truth

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.checkpoint import Model, save_model
from napari_sparseseg.networks import Precision, build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume import save_map, volume_from_array

SPACING = (2.0, 1.0, 1.0)
CONFIG = BatchConfig(formats="nii.gz,mha", uncertainty=True)


def write_model(folder, channels=1, seed=0, spacing=SPACING):
    """Write a network with random weights, which segments something; return its folder."""
    config = NetworkConfig()
    plan = plan_network((8, 8, 8), spacing, config, 512)
    torch.manual_seed(seed)
    weights = build_network(config, plan, channels, 3).state_dict()
    normalisation = Normalisation((None,) * channels)
    save_model(folder, Model(config, plan, channels, False, TABLE, spacing, normalisation, weights, {}))
    return folder


def write_image(path, seed=0, size=10):
    """Write a volume; return its path."""
    volume = volume_from_array(make_image(make_truth(size), seed), SPACING)
    save_map(path, volume.data[0], volume)
    return Path(path)


def stop_the_clock(monkeypatch):
    """Let everything take no time and measure nothing, so that two runs write the same bytes."""
    clock = SimpleNamespace(perf_counter=lambda: 0.0)
    precision = Precision("float32", channels_last=False)
    for module in ("batch_case", "batch_pipeline"):
        monkeypatch.setattr(f"napari_sparseseg.{module}.time", clock)
    monkeypatch.setattr("napari_sparseseg.inference.choose_precision", lambda *_: precision)


def contents(out):
    """Return the hashes of all files that a batch left, by name."""
    files = [path for path in Path(out).rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
