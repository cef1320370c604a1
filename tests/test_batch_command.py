"""The command line that does what the Batch panel does."""

import shlex
from dataclasses import fields

import pytest
import typer

from napari_sparseseg.batch_command import write_command
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cli import app
from napari_sparseseg.settings import InferenceConfig

SETTINGS = (
    (BatchConfig(), InferenceConfig()),
    (
        BatchConfig("nii.gz,dicom_seg", uncertainty=True, probabilities=True, overwrite=True, memory_mb=900),
        InferenceConfig(overlap=0.25, largest_component=True, fill_holes=True, device="cpu"),
    ),
)


@pytest.mark.parametrize(("config", "inference"), SETTINGS)
def test_the_command_means_what_was_asked_for(config, inference):
    sources = ("/data/it's a folder; rm -rf *", "a.nii.gz,b.nii.gz", "$HOME/scan 1.nii")
    command = write_command(sources, "/models/liver 2", "/out/masks", config, inference)
    program, name, *words = shlex.split(command)
    assert (program, name) == ("sparseseg", "predict")
    predict = typer.main.get_command(app).commands[name]
    values = predict.make_context(name, words).params
    assert tuple(values["images"]) == sources
    assert (str(values["model"]), str(values["out"])) == ("/models/liver 2", "/out/masks")
    for settings in (config, inference):
        for entry in fields(settings):
            assert values[entry.name] == getattr(settings, entry.name), entry.name


def test_what_is_as_always_is_left_out():
    command = write_command(("scans",), "model", "out", *SETTINGS[0])
    assert command == "sparseseg predict scans --model model --out out"
