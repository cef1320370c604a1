import hashlib
import json
import pickle

import pytest
import safetensors.torch
import torch
from phantoms import TABLE

from napari_sparseseg.checkpoint import Model, load_model, read_tensors, save_model, write_tensors
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig


def make_model(channels=2, position=False):
    config = NetworkConfig()
    plan = plan_network((8, 8, 8), (1.0, 1.0, 2.0), config, 512)
    torch.manual_seed(0)
    weights = build_network(config, plan, channels + 3 * position, len(TABLE)).state_dict()
    windows = Normalisation((None, (-100.0, 200.0, 10.0, 50.0)))
    return Model(config, plan, channels, position, TABLE, (1.0, 1.0, 2.0), windows, weights, {"steps": 3})


def rewrite(folder, change):
    """Change a model's description, its checksum staying right."""
    path = folder / "model.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def replace_tensors(folder, contents):
    """Put other bytes in place of the tensors, with a checksum that fits them."""
    (folder / "model.safetensors").write_bytes(contents)
    checksum = hashlib.sha256(contents).hexdigest()
    rewrite(folder, lambda description: description.update(sha256=checksum))


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert 20 < len(text) < 500


@pytest.mark.parametrize("position", [False, True])
def test_a_model_round_trips(tmp_path, position):
    model = make_model(position=position)
    save_model(tmp_path / "new folder", model)
    loaded = load_model(tmp_path / "new folder")
    for name in ("config", "plan", "channels", "position", "table", "spacing", "normalisation", "summary"):
        assert getattr(loaded, name) == getattr(model, name)
    image = torch.randn(1, 2 + 3 * position, *model.plan.patch)
    with torch.no_grad():
        assert torch.equal(loaded.build()(image), model.build()(image))
    assert not loaded.build().training
    assert sorted(p.name for p in (tmp_path / "new folder").iterdir()) == ["model.json", "model.safetensors"]


def test_a_model_is_replaced_by_a_new_one(tmp_path):
    save_model(tmp_path, make_model())
    save_model(tmp_path, make_model(position=True))
    assert load_model(tmp_path).position


@pytest.mark.parametrize("what", ["missing", "a file", "empty folder", "no tensors"])
def test_what_is_no_model_folder_is_refused(tmp_path, what):
    folder = tmp_path / "model"
    if what == "a file":
        folder.write_text("x")
    elif what == "empty folder":
        folder.mkdir()
    elif what == "no tensors":
        save_model(folder, make_model())
        (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="give a folder that training wrote") as error:
        load_model(folder)
    assert_one_sentence(error)


@pytest.mark.parametrize(
    "contents",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"[]", b'"text"', b"{}", b'{"sha256": 5}'],
    ids=["empty", "half", "not utf-8", "deep", "null", "list", "text", "nothing", "other"],
)
def test_garbage_in_place_of_the_description_is_refused(tmp_path, contents):
    save_model(tmp_path, make_model())
    (tmp_path / "model.json").write_bytes(contents)
    with pytest.raises(InputError, match="damaged") as error:
        load_model(tmp_path)
    assert_one_sentence(error)


def test_a_huge_description_is_not_read(tmp_path):
    save_model(tmp_path, make_model())
    with (tmp_path / "model.json").open("ab") as file:
        file.truncate(11_000_000)
    with pytest.raises(InputError, match="far too many"):
        load_model(tmp_path)


def test_a_changed_byte_in_the_tensors_is_noticed(tmp_path):
    save_model(tmp_path, make_model())
    contents = bytearray((tmp_path / "model.safetensors").read_bytes())
    contents[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(contents)
    with pytest.raises(InputError, match="damaged"):
        load_model(tmp_path)


class _Payload:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_pickles_are_refused_and_never_run(tmp_path, name):
    save_model(tmp_path, make_model())
    payload = pickle.dumps(_Payload(tmp_path / "executed"))
    if name == "model.json":
        (tmp_path / name).write_bytes(payload)
    else:
        replace_tensors(tmp_path, payload)
    with pytest.raises(InputError):
        load_model(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_newer_format_asks_for_a_newer_version(tmp_path):
    save_model(tmp_path, make_model())
    rewrite(tmp_path, lambda description: description.update(format_version=99))
    with pytest.raises(InputError, match="model format 99, this version reads 1; install"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "key",
    ["network", "plan", "channels", "position", "classes", "spacing_mm_zyx", "normalisation", "summary",
     "format", "format_version", "sha256"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["missing", None, [], {}, "x", 7.5, float("inf")], ids=str)
def test_missing_and_senseless_entries_are_refused(tmp_path, key, value):
    save_model(tmp_path, make_model())

    def change(description):
        del description[key]
        if value != "missing":
            description[key] = value

    rewrite(tmp_path, change)
    if value in ([], {}) and key in ("network", "summary"):
        return  # empty settings are the default ones
    with pytest.raises(InputError) as error:
        load_model(tmp_path)
    assert_one_sentence(error)


@pytest.mark.parametrize(
    "entries",
    [
        {"spacing_mm_zyx": [float("nan"), 1, 1]},
        {"spacing_mm_zyx": [0, 1, 1]},
        {"spacing_mm_zyx": [1, 1]},
        {"spacing_mm_zyx": [float("inf"), 1, 1]},
        {"channels": 0},
        {"channels": 3},
        {"channels": 10**9},
        {"position": True},
        {"position": 1},
        {"network": {"architecture": "__import__('os')"}},
        {"network": {"architecture": "unet", "code": "x"}},
        {"network": {"size": "large"}},
        {"plan": {"patch": [8, 8, 8], "strides": [[1, 1, 1]], "kernels": [[3, 3, 3]]}},
        {"normalisation": [None]},
        {"normalisation": [None, [0, 0, 0, 0]]},
        {"classes": [{"value": 0, "name": "background", "color": "#000000"}]},
    ],
    ids=str,
)
def test_hostile_descriptions_are_refused(tmp_path, entries):
    save_model(tmp_path, make_model())
    rewrite(tmp_path, lambda description: description.update(entries))
    with pytest.raises(InputError) as error:
        load_model(tmp_path)
    assert_one_sentence(error)


@pytest.mark.parametrize("what", ["other shape", "missing", "extra", "none"])
def test_tensors_that_do_not_fit_are_refused(tmp_path, what):
    model = make_model()
    save_model(tmp_path, model)
    tensors = dict(model.weights)
    name = next(iter(tensors))
    if what == "other shape":
        tensors[name] = torch.zeros(1)
    elif what == "missing":
        del tensors[name]
    elif what == "extra":
        tensors["more"] = torch.zeros(1)
    else:
        tensors = {}
    replace_tensors(tmp_path, safetensors.torch.save(tensors))
    with pytest.raises(InputError, match="do not fit"):
        load_model(tmp_path)


def test_tensors_keep_type_shape_and_layout(tmp_path):
    tensors = {
        "a": torch.randn(1, 2, 3, 4, 5).to(memory_format=torch.channels_last_3d),
        "b": torch.arange(3, dtype=torch.int64),
        "c": torch.tensor(1.5).half(),
    }
    write_tensors(tmp_path / "state", tensors, {"steps": 4})
    loaded, description = read_tensors(tmp_path / "state")
    assert description["steps"] == 4
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
