import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.case_checks import (
    SURELY_BACKGROUND,
    CaseMeasures,
    class_names,
    describe_typical,
    measure_case,
    typical_volumes,
)

TABLE = ClassTable.from_values([1, 2], {1: "liver", 2: "spleen"})
SPACING = (2.0, 1.0, 1.0)


def ball(shape, centre, radius):
    z, y, x = (axis - c for axis, c in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True))
    return z**2 + y**2 + x**2 <= radius**2


def organs(size=1.0):
    """Return a liver and a spleen, well inside, and how uncertain they are."""
    channels = np.zeros((24, 40, 40), np.uint8)
    channels[ball(channels.shape, (12, 20, 12), 7 * size)] = 1
    channels[ball(channels.shape, (12, 20, 30), 5 * size)] = 2
    return channels, np.where(channels > 0, 0.1, 0.0).astype(np.float16)


def typical_of(number, sizes=(0.9, 1.0, 1.1)):
    measured = [measure_case(*organs(sizes[case % len(sizes)]), SPACING, TABLE) for case in range(number)]
    return json.loads(json.dumps(describe_typical(measured)))


def warnings_of(channels, uncertainty, typical, spacing=SPACING):
    return measure_case(channels, uncertainty, spacing, TABLE, typical).warnings


@pytest.fixture(scope="module")
def cohort():
    """Return eight cases, as `measure_case` takes them."""
    cases = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        channels, _ = organs(random.uniform(0.6, 1.3))
        channels = np.roll(channels, random.integers(-2, 3, 3), (0, 1, 2))
        uncertainty = random.random(channels.shape, np.float32).astype(np.float16) * np.float16(0.3)
        cases.append((channels, uncertainty, SPACING, TABLE))
    return cases


def test_the_training_cases_themselves_do_not_stand_out(cohort):
    typical = describe_typical([measure_case(*case) for case in cohort])
    assert [measure_case(*case, typical).warnings for case in cohort] == [()] * len(cohort)
    backwards = describe_typical([measure_case(*case) for case in reversed(cohort)])
    assert backwards == typical == json.loads(json.dumps(typical, allow_nan=False))


def test_measures_equal_the_plain_formulas(cohort):
    for channels, uncertainty, spacing, table in cohort:
        measures = measure_case(channels, uncertainty, spacing, table)
        voxel = np.prod(spacing) / 1000
        counts = [float(np.count_nonzero(channels == channel)) * voxel for channel in (1, 2)]
        assert list(measures.volumes_ml.values()) == pytest.approx(counts)
        asked = (channels > 0) | (uncertainty.astype(np.float32) > SURELY_BACKGROUND)
        assert measures.uncertainty == pytest.approx(uncertainty[asked].astype(float).mean())


def test_air_around_the_body_changes_nothing_but_what_is_cut_off():
    channels, uncertainty = organs()
    around = [np.pad(array, 9) for array in (channels, uncertainty)]
    assert measure_case(*around, SPACING, TABLE) == measure_case(channels, uncertainty, SPACING, TABLE)


@pytest.mark.parametrize("typical", [None, typical_of(8)])
def test_an_empty_mask_is_told_once(typical):
    channels, uncertainty = organs()
    warnings = warnings_of(channels * 0, uncertainty, typical)
    assert warnings == ("the mask is empty: nothing was found in this volume.",)


def test_a_class_that_training_cases_always_had_is_missed():
    channels, uncertainty = organs()
    channels[channels == 2] = 0
    (warning,) = warnings_of(channels, uncertainty, typical_of(8))
    assert warning.startswith("spleen is missing; all 8 training cases had it (")
    (warning,) = warnings_of(channels, uncertainty, typical_of(1))
    assert warning.startswith("spleen is missing; the training case had it (0.778 ml).")
    assert not warnings_of(channels, uncertainty, None)
    partly = typical_of(8)
    partly["classes"]["spleen"]["cases"] = 7
    assert not warnings_of(channels, uncertainty, partly)


def test_a_volume_outside_the_training_range_is_told_with_figures():
    typical = typical_of(8)
    low, high = typical["classes"]["liver"]["ml"]
    (warning, *_) = warnings_of(*organs(0.5), typical)
    ml = measure_case(*organs(0.5), SPACING, TABLE).volumes_ml["liver"]
    assert warning == (
        f"liver is unusually small: {ml:.3g} ml; the 8 training cases had {low:.3g}–{high:.3g} ml."
    )
    assert "liver is unusually large: " in warnings_of(*organs(1.5), typical)[0]
    assert typical_volumes(typical) == {name: tuple(e["ml"]) for name, e in typical["classes"].items()}


SIZES = [0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.25, 1.3, 1.5]


def test_the_more_training_cases_the_less_margin():
    ranges = [typical_of(number, (1.0,)) for number in (1, 3, 7, 20)]
    told = [{size for size in SIZES if warnings_of(*organs(size), typical)} for typical in ranges]
    assert told[0] < told[1] < told[2] < told[3]
    assert all(0.9 <= size <= 1.1 for size in set(SIZES) - told[-1])


def test_pieces_count_where_training_had_one():
    channels, uncertainty = organs()
    channels[2:6, 30:38, 2:10] = 1
    (warning,) = warnings_of(channels, uncertainty, typical_of(8))
    assert warning == "liver lies in 2 separate pieces; the 8 training cases had one."
    assert not warnings_of(channels, uncertainty, typical_of(3)), "few cases do not show all"
    channels, uncertainty = organs()
    channels[::6, ::8, ::8][channels[::6, ::8, ::8] == 0] = 1
    assert measure_case(channels, uncertainty, SPACING, TABLE).pieces == {"liver": 1, "spleen": 1}


def test_nothing_falls_apart_in_a_large_mask():
    channels = np.zeros((6, 300, 300), np.uint8)
    steps = np.arange(300)
    channels[2, steps, steps] = 1
    channels[4, 250:290, 10:40] = channels[4, 10:30, 240:290] = 2
    measures = measure_case(channels, None, SPACING, TABLE)
    assert measures.pieces == {"liver": 1, "spleen": 2}


@pytest.mark.parametrize(
    ("axis", "first", "edge"),
    [(0, True, "lower"), (0, False, "upper"), (1, True, "front"), (1, False, "rear"), (2, True, "right"),
     (2, False, "left")],
)  # fmt: skip
def test_a_class_is_cut_off_at_each_edge(axis, first, edge):
    channels = np.zeros((30, 30, 30), np.uint8)
    channels[ball(channels.shape, (15, 15, 15), 9)] = 1
    middle = slice(12, None) if first else slice(None, 18)
    cut = channels[(slice(None),) * axis + (middle,)]
    typical = describe_typical([measure_case(channels, None, SPACING, TABLE)] * 2)
    (warning,) = warnings_of(cut, None, typical)
    assert warning.startswith(f"liver looks cut off by the {edge} edge of the volume: its area there is ")
    usual = describe_typical([measure_case(cut, None, SPACING, TABLE)] * 2)
    assert not warnings_of(cut, None, usual), "as it is in training"


def test_uncertainty_far_above_the_training_is_told():
    channels, uncertainty = organs()
    typical = typical_of(8)
    assert not warnings_of(channels, uncertainty * np.float16(1.3), typical)
    (warning,) = warnings_of(channels, uncertainty * np.float16(4), typical)
    assert warning == (
        "the network is unsure: its mean uncertainty is 0.40; the 8 training cases had at most 0.10."
    )
    damaged = uncertainty.copy()
    damaged[channels == 1] = np.nan
    assert warnings_of(channels, damaged, typical), "what is not known is not sure"


def test_voxels_far_from_those_of_the_training_are_told():
    typical = typical_of(8)
    typical["classes"] = {}
    assert not warnings_of(*organs(), typical, (4.0, 2.0, 2.0))
    (warning,) = warnings_of(*organs(), typical, (2.0, 3.0, 1.0))
    assert warning == ("voxels of 2 × 3 × 1 mm (z × y × x) are far from those of the training, 2 × 1 × 1 mm.")


def test_names_that_are_there_twice_stay_apart():
    table = ClassTable((*TABLE.classes, LabelClass(7, "liver", "#ffffff")))
    assert class_names(table) == ("liver (1)", "spleen", "liver (7)")
    channels, uncertainty = organs()
    channels[channels == 1] = 3
    volumes = measure_case(channels, uncertainty, SPACING, table).volumes_ml
    assert volumes["liver (1)"] == 0 < volumes["liver (7)"]


def test_no_cases_give_no_range():
    assert describe_typical([]) == {}
    assert not warnings_of(*organs(), {})


leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
GOOD = typical_of(8)


@st.composite
def damaged(draw):
    """Return a training range with one entry replaced by anything, or removed."""
    plain = json.loads(json.dumps(GOOD))
    place = plain
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()):
            place[key] = draw(anything)
        else:
            del place[key]
        return plain


CHANNELS, UNCERTAINTY = organs(0.4)


@settings(max_examples=150, deadline=None)
@given(typical=damaged() | anything)
def test_a_damaged_training_range_does_no_harm(typical):
    measures = measure_case(CHANNELS, UNCERTAINTY, SPACING, TABLE, typical)
    assert replace(measures, warnings=()) == measure_case(CHANNELS, UNCERTAINTY, SPACING, TABLE)
    assert all(isinstance(text, str) and text.endswith(".") for text in measures.warnings)
    assert not any(word in " ".join(measures.warnings) for word in ("nan", "inf", "None"))


def test_what_is_not_measured_has_a_value():
    assert CaseMeasures({"liver": 1.0}, 0.5).warnings == ()
    measures = measure_case(*organs(), SPACING, TABLE)
    assert measure_case(organs()[0], None, SPACING, TABLE) == replace(measures, uncertainty=0.0)
