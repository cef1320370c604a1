"""Folders of encoders as pre-training leaves them, of no use but to be listed."""

import json

from napari_sparseseg.pretraining_settings import ENCODER_FORMAT, ENCODER_VERSION, STATE_FORMAT
from napari_sparseseg.settings import NetworkConfig

SUMMARY = {
    "steps": 40,
    "seconds": 3.0,
    "volumes": ["a", "b", "c"],
    "scores": {"figure": "accuracy", "value": 0.75, "trivial": 0.25},
}


def describe(of, **changes):
    """Return what encoder.json holds."""
    values = {
        "format": ENCODER_FORMAT,
        "format_version": ENCODER_VERSION,
        "task": of,
        "network": NetworkConfig().to_json(),
        "channels": 1,
        "summary": SUMMARY,
    }
    return values | changes


def make_encoder(folder, **changes):
    """Write an encoder that has learnt; return its folder."""
    folder.mkdir(parents=True)
    (folder / "encoder.safetensors").write_bytes(b"weights")
    values = describe(folder.name.rpartition("-")[0], **changes)
    (folder / "encoder.json").write_text(json.dumps(values))
    return folder


def make_state(folder, steps=7):
    """Write an encoder that was stopped before it had learnt to the end; return its folder."""
    folder.mkdir(parents=True)
    values = {"format": STATE_FORMAT, "steps": steps}
    (folder / "state.json").write_text(json.dumps(values))
    return folder
