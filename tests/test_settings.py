import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.setting import split_several
from napari_sparseseg.settings import (
    BOX_METHODS,
    DENOISING,
    BoxConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)

CLASSES = (NetworkConfig, TrainingConfig, InferenceConfig, BoxConfig, RecursionConfig, CrfConfig)
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
    elif data["several"]:
        for chosen in ("none", "", *data["several"], ",".join(data["several"])):
            assert getattr(settings_class(**{entry.name: chosen}), entry.name) == chosen
        wrong = ["something else", f"{data['several'][0]},something else", "None"]
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


@given(
    boxes=st.builds(
        BoxConfig,
        method=st.sampled_from(BOX_METHODS),
        margin=st.floats(0.05, 1),
        runs=st.integers(2, 200),
        seed=st.integers(0, 2**31 - 1),
    ),
    recursion=st.builds(
        RecursionConfig,
        rounds=st.integers(0, 50),
        denoise=st.lists(st.sampled_from(["none", *DENOISING])).map(", ".join),
        reset_share=st.floats(0, 1),
    ),
    crf=st.builds(CrfConfig, appearance_mm=st.floats(0.01, 1000), crf_iterations=st.integers(1, 100)),
)
def test_settings_of_boxes_round_trip_through_json(boxes, recursion, crf):
    for config in (boxes, recursion, crf):
        assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config


@given(
    names=st.lists(st.sampled_from(["none", "", *DENOISING])),
    gap=st.text(" ", max_size=2),
)
def test_several_names_are_parted_by_commas_whatever_the_spaces(names, gap):
    config = RecursionConfig(denoise=f"{gap},{gap}".join(names))
    assert split_several(config.denoise) == tuple(name for name in names if name in DENOISING)


def test_a_step_that_is_not_known_is_named_beside_those_that_are():
    with pytest.raises(InputError) as caught:
        RecursionConfig(denoise="class, shave,crf,Reset")
    assert str(caught.value) == ("De-noise may name class, outside, reset, crf, ignore, not Reset, shave.")


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
