"""The list of a project's encoders: what is shown, what is passed over, which folder comes next."""

import json
import subprocess
import sys

import pytest
from encoder_folders import SUMMARY, describe, make_encoder, make_state
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.project_encoders import (
    ProbeRecord,
    delete_encoder,
    folder_to_learn_in,
    last_probes,
    list_encoders,
    read_probe,
    save_probe,
)
from napari_sparseseg.settings import NetworkConfig


def names(folder):
    return [each.name for each in list_encoders(folder)]


def test_encoders_are_listed_by_task_and_number(tmp_path):
    for name in ("byol-2", "jigsaw-10", "jigsaw-9", "byol-1"):
        make_encoder(tmp_path / name)
    make_state(tmp_path / "simclr-1", steps=12)
    assert names(tmp_path) == ["jigsaw-9", "jigsaw-10", "simclr-1", "byol-1", "byol-2"]
    jigsaw, simclr = list_encoders(tmp_path)[0], list_encoders(tmp_path)[2]
    assert (jigsaw.task, jigsaw.finished, jigsaw.steps, jigsaw.volumes) == ("jigsaw", True, 40, 3)
    assert (jigsaw.channels, jigsaw.network) == (1, NetworkConfig())
    assert (jigsaw.figure, jigsaw.value) == ("accuracy", 0.75)
    assert (simclr.finished, simclr.steps, simclr.network) == (False, 12, None)


def test_what_is_no_encoder_is_passed_over(tmp_path):
    make_encoder(tmp_path / "jigsaw-1")
    make_encoder(tmp_path / "elsewhere" / "byol-1")
    for name in ("jigsaw", "jigsaw-0", "jigsaw-x", "unknown-1", "jigsaw-1.old", "rotation-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "jigsaw-3").write_text("a file")
    (tmp_path / "byol-5").symlink_to(tmp_path / "elsewhere" / "byol-1")
    assert names(tmp_path) == ["jigsaw-1"]
    assert list_encoders(tmp_path / "nowhere") == ()
    (tmp_path / "jigsaw-1" / "encoder.safetensors").unlink()
    assert list_encoders(tmp_path) == ()


BROKEN = [
    {"format": "something else"},
    {"format_version": 2},
    {"task": "byol"},
    {"network": {"architecture": "unheard of"}},
    {"channels": 0},
    {"channels": True},
    {"channels": 65},
    {"summary": []},
    {"summary": {**SUMMARY, "steps": -1}},
    {"summary": {**SUMMARY, "volumes": "three"}},
    {"summary": {**SUMMARY, "scores": 5}},
]


@pytest.mark.parametrize("changes", BROKEN, ids=json.dumps)
def test_an_encoder_that_makes_no_sense_is_passed_over(tmp_path, changes):
    make_encoder(tmp_path / "jigsaw-1", **changes)
    assert list_encoders(tmp_path) == ()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from([*describe("jigsaw"), *SUMMARY]), value=anything)
def test_listing_never_fails(tmp_path_factory, key, value):
    values = describe("jigsaw")
    if key in SUMMARY:
        values["summary"] = SUMMARY | {key: value}
    else:
        values[key] = value
    folder = tmp_path_factory.mktemp("encoders")
    place = make_encoder(folder / "jigsaw-1", **values)
    (place / "probe.json").write_text(json.dumps(value))
    make_state(folder / "byol-1").joinpath("state.json").write_text(json.dumps({key: value}))
    for each in list_encoders(folder):
        assert each.name == "jigsaw-1"
        assert isinstance(each.steps, int)
        assert 1 <= each.channels <= 64
    assert all(0 <= probe.dice <= 1 for _, probe in last_probes(folder))


@given(content=st.binary(max_size=40))
def test_a_damaged_file_is_passed_over(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("encoders")
    place = make_encoder(folder / "jigsaw-1")
    for name in ("encoder.json", "probe.json"):
        (place / name).write_bytes(content)
    assert list_encoders(folder) == ()
    assert last_probes(folder) == ()


def test_an_unfinished_encoder_is_gone_on_with_if_it_is_the_newest_of_its_task(tmp_path):
    folder = tmp_path / "encoders"
    assert folder_to_learn_in(folder, "jigsaw") == folder / "jigsaw-1"
    assert not folder.exists()
    make_state(folder / "jigsaw-1")
    assert folder_to_learn_in(folder, "jigsaw") == folder / "jigsaw-1"
    assert folder_to_learn_in(folder, "byol") == folder / "byol-1"
    make_encoder(folder / "jigsaw-2")
    assert folder_to_learn_in(folder, "jigsaw") == folder / "jigsaw-3"
    (folder / "jigsaw-7").mkdir()  # of something that cannot be read: never written over
    assert folder_to_learn_in(folder, "jigsaw") == folder / "jigsaw-8"
    make_state(folder / "jigsaw-12")
    assert folder_to_learn_in(folder, "jigsaw") == folder / "jigsaw-12"
    make_encoder(folder / "jigsaw-13")
    (folder / "jigsaw-13" / "state.json").write_text("{}")
    assert folder_to_learn_in(folder, "jigsaw") == folder / "jigsaw-14"


def test_only_encoders_are_deleted(tmp_path):
    encoder = make_encoder(tmp_path / "jigsaw-1")
    delete_encoder(encoder)
    assert not encoder.exists()
    with pytest.raises(InputError, match="no encoder's folder"):
        delete_encoder(encoder)
    (tmp_path / "precious").mkdir()
    with pytest.raises(InputError, match="no encoder's folder"):
        delete_encoder(tmp_path / "precious")
    assert (tmp_path / "precious").exists()


def test_only_figures_of_one_comparison_are_put_side_by_side(tmp_path):
    for name in ("jigsaw-1", "jigsaw-2", "byol-1"):
        make_encoder(tmp_path / name)
    save_probe(tmp_path, ProbeRecord("2026-01-01", 0.25, {"liver": 0.25}))
    for name in ("jigsaw-1", "jigsaw-2"):
        save_probe(tmp_path / name, ProbeRecord("2026-01-01", 0.5, {}))
    assert [name for name, _ in last_probes(tmp_path)] == ["", "jigsaw-1", "jigsaw-2"]
    later = ProbeRecord("2026-01-02", 0.75, {"liver": 0.75, "spleen": float("nan")})
    for folder in (tmp_path, tmp_path / "byol-1"):
        save_probe(folder, later)
    assert [(name, probe.dice) for name, probe in last_probes(tmp_path)] == [("", 0.75), ("byol-1", 0.75)]
    assert read_probe(tmp_path / "byol-1").per_class == {"liver": 0.75}
    assert read_probe(tmp_path / "nowhere") is None


def test_listing_loads_nothing_slow():
    slow = {"torch", "monai", "safetensors", "numpy", "qtpy", "napari"}
    code = f"import sys, napari_sparseseg.project_encoders; print(sorted({slow!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
