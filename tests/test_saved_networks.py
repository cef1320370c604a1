"""What is told of a saved network without loading it."""

import json
from datetime import datetime, timedelta

import pytest
from batch_models import write_model

from napari_sparseseg.errors import InputError
from napari_sparseseg.saved_networks import read_network


def test_a_network_tells_its_classes_age_and_quality(tmp_path):
    model = write_model(tmp_path / "model", channels=2)
    network = read_network(model)
    assert network.folder == str(model)
    assert network.channels == 2
    assert [entry.name for entry in network.table.classes[1:]] == ["ball", "cube"]
    assert datetime.now().astimezone() - network.made < timedelta(minutes=5)
    assert network.dice is None
    description = json.loads((model / "model.json").read_text())
    for scores, dice in (({"network": 0.5}, 0.5), ({"network": "good"}, None), ([], None), ({}, None)):
        description["summary"] = {"held_out_dice": scores}
        (model / "model.json").write_text(json.dumps(description))
        assert read_network(model).dice == dice


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", "[" * 100_000, '{"format": "napari-sparseseg model"}']
)
def test_what_is_no_network_is_told_in_a_sentence(tmp_path, text):
    if text is not None:
        (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError, match="holds no network that can be read; choose"):
        read_network(tmp_path)
