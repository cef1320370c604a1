import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import InferenceConfig, NetworkConfig, TrainingConfig

CLASSES = (NetworkConfig, TrainingConfig, InferenceConfig)
ENTRIES = [(settings_class, entry) for settings_class in CLASSES for entry in fields(settings_class)]


@pytest.mark.parametrize(("settings_class", "entry"), ENTRIES, ids=lambda x: getattr(x, "name", None))
def test_every_setting_is_declared_in_full_and_keeps_its_range(settings_class, entry):
    data = entry.metadata
    assert data["label"]
    assert data["help"].endswith(".")
    bounded = data["minimum"] is not None or data["maximum"] is not None
    if data["choices"]:
        for choice in data["choices"]:
            assert getattr(settings_class(**{entry.name: choice}), entry.name) == choice
        wrong = ["something else"]
    elif bounded:
        wrong = [data["minimum"] - 1, float("nan")]
        wrong += [] if data["maximum"] is None else [data["maximum"] + 1]
        settings_class(**{entry.name: data["minimum"]})
    else:
        assert isinstance(entry.default, bool)
        wrong = []
    for value in wrong:
        with pytest.raises(InputError, match=data["label"]):
            settings_class(**{entry.name: value})


@given(
    steps=st.integers(0, 10**6),
    seconds=st.floats(0, 1e6),
    held_out_share=st.floats(0, 0.5),
    allow_flips=st.booleans(),
    device=st.sampled_from(["auto", "cuda", "mps", "cpu"]),
)
def test_settings_round_trip_through_json(**values):
    config = TrainingConfig(**values)
    assert TrainingConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("settings_class", CLASSES)
@pytest.mark.parametrize(
    "values", [None, [], "x", 5, {"nothing": 1}, {"device": "tpu"}, {"size": 3}], ids=str
)
def test_other_json_is_refused(settings_class, values):
    with pytest.raises(InputError):
        settings_class.from_json(values)


@pytest.mark.parametrize(
    "values", [{"steps": "5"}, {"steps": 5.5}, {"seed": None}, {"learning_rate": "fast"}]
)
def test_values_of_another_type_are_refused(values):
    with pytest.raises(InputError, match="must be of type"):
        TrainingConfig.from_json(values)
    assert TrainingConfig.from_json({"seconds": 5}).seconds == 5


def test_missing_entries_are_the_default_ones():
    assert TrainingConfig.from_json({}) == TrainingConfig()
