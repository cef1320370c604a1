import json

import numpy as np
import pytest
from command_line import make_runner
from phantoms import make_image, make_truth
from random_encoders import make_encoder

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.classifier import Classifier, build_classifier, save_classifier
from napari_sparseseg.encoder_checkpoint import save_encoder
from napari_sparseseg.networks import plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume import load_labels, load_volume, save_labels, save_map, volume_from_array

FAST = ["--steps", "6", "--patch-voxels", "2000", "--device", "cpu", "--preview-weight", "0"]


@pytest.fixture
def files(tmp_path):
    """Two images, sparse labels, seeds that partly contradict them, and a table of image-level labels."""
    truth = make_truth().astype(np.int32)
    volume = volume_from_array(make_image(truth), (1.0, 1.0, 1.0))
    painted = np.array([1, 2, 7])[truth]
    sparse, seeds = np.zeros_like(painted), np.zeros_like(painted)
    sparse[9], sparse[5] = painted[9], painted[5]
    seeds[9, :4], seeds[12] = 7, painted[12]
    for name in ("image", "other"):
        save_map(tmp_path / f"{name}.nii.gz", volume.data[0], volume)
    save_labels(tmp_path / "sparse.nii.gz", sparse, volume)
    save_labels(tmp_path / "seeds.nii.gz", seeds, volume)
    (tmp_path / "said.csv").write_text(
        "volume,class,value,present,axis,first,last\n"
        "image.nii.gz,,2,yes,axial,5,12\n"
        "image.nii.gz,,7,yes,,,\n"
        "image.nii.gz,spleen,9,no,,,\n"
    )
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    return make_runner(monkeypatch, capsys)


def write_classifier(folder, config, channels=1):
    """Write a classifier with random weights."""
    table = ClassTable.from_values([2, 7])
    plan = plan_network((18, 18, 18), (1.0, 1.0, 1.0), config, 2000)
    network = build_classifier(config, plan, 2, channels, table)
    classifier = Classifier(
        config, plan, 2, channels, table, (1.0, 1.0, 1.0), Normalisation((None,) * channels), (18, 18, 18),
        network.state_dict(), {},
    )  # fmt: skip
    save_classifier(folder, classifier)


def spy(monkeypatch, module, name):
    """Record the arguments of a generator function that the command line imports."""
    calls = []
    plain = getattr(module, name)

    def record(*words, **options):
        calls.append((words, options))
        return plain(*words, **options)

    monkeypatch.setattr(module, name, record)
    return calls


def test_segment_takes_labels_seeds_image_labels_and_an_encoder(files, run, monkeypatch):
    from napari_sparseseg import segmentation

    calls = spy(monkeypatch, segmentation, "segment_volume")
    write_classifier(files / "classifier", NetworkConfig())
    code, out, errors = run(
        "segment", files / "image.nii.gz", "--labels", files / "sparse.nii.gz",
        "--seeds", files / "seeds.nii.gz", "--image-labels", files / "said.csv",
        "--encoder", files / "classifier", "--out", files / "mask.nii.gz",
        "--expansion", 1, "--constraint", 1, "--seeding", 0.5, "--json", *FAST,
    )  # fmt: skip
    assert code == 0, errors
    assert "The encoder (classifier) was taken over: " in errors
    assert "spleen" in errors  # nothing is labelled as that
    settings = json.loads(out)["training"]["settings"]
    assert (settings["seeding"], settings["expansion"], settings["constraint"]) == (0.5, 1, 1)
    image = load_volume(files / "image.nii.gz")
    mask, sparse = (load_labels(files / f"{name}.nii.gz", image) for name in ("mask", "sparse"))
    np.testing.assert_array_equal(mask[sparse > 0], np.where(sparse == 1, 0, sparse)[sparse > 0])
    [(_, options)] = calls
    first, second = options["image_labels"]
    assert (first.label, first.present, first.axis, first.last - first.first) == (2, True, 0, 7)
    assert (second.label, second.present, second.axis) == (3, True, None)
    assert options["outside_absent"]


def test_segment_takes_a_pretrained_encoder(files, run):
    save_encoder(files / "encoder", make_encoder())
    code, out, errors = run(
        "segment", files / "image.nii.gz", "--labels", files / "sparse.nii.gz",
        "--encoder", files / "encoder", "--out", files / "mask.nii.gz", "--json", *FAST,
    )  # fmt: skip
    assert code == 0, errors
    sentence = json.loads(out)["training"]["encoder"]
    assert sentence.startswith("The encoder (masked_autoencoder, 3 volumes, 2,000 steps) was taken over: ")
    assert "".join(sentence.split()) in "".join(errors.split())


def test_seeds_alone_are_enough_and_are_not_copied_into_the_mask(files, run):
    volume = load_volume(files / "image.nii.gz")
    wrong = load_labels(files / "seeds.nii.gz", volume)
    wrong[12, 0, 0] = 7  # a single seed that no network would follow
    save_labels(files / "seeds.nii.gz", wrong, volume)
    mask = files / "mask.nii.gz"
    words = ["segment", files / "image.nii.gz", "--seeds", files / "seeds.nii.gz", "--out", mask]
    code, _, errors = run(*words, *FAST, "--steps", 60)
    assert code == 0, errors
    made = load_labels(mask, volume)
    assert made[12, 0, 0] == 0
    assert {2, 7} <= set(np.unique(made))
    code, _, errors = run(*words, *FAST, "--seeding", 0)
    assert code == 2
    assert "the labels hold nothing" in errors


def test_train_takes_seeds_with_labels_and_without(files, run, monkeypatch):
    from napari_sparseseg import training

    calls = spy(monkeypatch, training, "train_network")
    image, other = files / "image.nii.gz", files / "other.nii.gz"
    write_classifier(files / "classifier", NetworkConfig())
    code, _, errors = run(
        "train", "--case", f"{image}={files / 'sparse.nii.gz'}",
        "--seeds", f"{other}={files / 'seeds.nii.gz'}", "--seeds", f"{image}={files / 'seeds.nii.gz'}",
        "--image-labels", files / "said.csv", "--outside", "unknown", "--encoder", files / "classifier",
        "--expansion", 1, "--out", files / "model", *FAST,
    )  # fmt: skip
    assert code == 0, errors
    assert "The encoder (classifier) was taken over: " in errors
    [((cases, *_), _)] = calls
    both, alone = cases
    assert [len(case.image_labels) for case in cases] == [2, 0]
    assert not both.outside_absent
    assert set(np.unique(both.sources[both.annotation > 0])) == {1, 7}
    assert set(np.unique(alone.sources[alone.annotation > 0])) == {7}
    assert (both.annotation[9, :4] != 3).any()
    assert (alone.annotation[9, :4] == 3).all()


def test_a_row_of_a_name_and_a_value_is_of_a_class_without_a_name(files, run, monkeypatch):
    from napari_sparseseg import segmentation

    calls = spy(monkeypatch, segmentation, "segment_volume")
    (files / "said.csv").write_text("class,value,present\nliver,2,yes\n,7,no\n")
    words = ["--seeds", files / "seeds.nii.gz", "--image-labels", files / "said.csv"]
    code, _, errors = run("segment", files / "image.nii.gz", *words, "--out", files / "mask.nii.gz", *FAST)
    assert code == 0, errors
    assert "left out" not in errors
    [(_, options)] = calls
    assert [(said.label, said.present) for said in options["image_labels"]] == [(2, True), (3, False)]


@pytest.mark.parametrize(
    ("command", "words", "sentence"),
    [
        ("segment", [], "give --labels, --points or --seeds"),
        ("train", [], "give --case, --points or --seeds"),
        ("train", ["--seeds", "{image}"], "is not IMAGE=SEEDS"),
        ("train", ["--seeds", "{image}={seeds}", "--seeds", "{image}={seeds}"], "names a volume twice"),
        ("segment", ["--seeds", "{seeds}", "--encoder", "{large}"], "architecture unet and the size medium"),
        ("segment", ["--seeds", "{seeds}", "--encoder", "{two}"], "takes 2 channels"),
        ("segment", ["--seeds", "{seeds}", "--encoder", "{folder}"], "holds no encoder"),
        ("train", ["--seeds", "{other}={seeds}", "--encoder", "{model}"], "holds a segmentation network"),
        ("train", ["--seeds", "{other}={seeds}", "--encoder", "{damaged}"], "damaged"),
        ("segment", ["--seeds", "{seeds}", "--image-labels", "{seeds}"], "UTF-8"),
        ("train", ["--case", "{other}={seeds}", "--image-labels", "{csv}"], "no image-level label of"),
        ("segment", ["--seeds", "{seeds}", "--image-labels", "{named}"], "give the names of their values by"),
    ],
)
def test_mistakes_end_with_one_sentence(files, run, command, words, sentence):
    write_classifier(files / "large", NetworkConfig(size="medium"))
    write_classifier(files / "two", NetworkConfig(), channels=2)
    names = {
        "image": files / "image.nii.gz", "other": files / "other.nii.gz", "seeds": files / "seeds.nii.gz",
        "csv": files / "said.csv", "large": files / "large", "two": files / "two", "folder": files,
        "named": files / "named.csv", "model": files / "model", "damaged": files / "damaged",
    }  # fmt: skip
    for folder, name in (("model", "model"), ("damaged", "encoder")):
        (files / folder).mkdir()
        (files / folder / f"{name}.json").write_text("{}")
        (files / folder / f"{name}.safetensors").touch()
    (files / "named.csv").write_text("class,present\nliver,yes\nspleen,no\n")
    words = [word.format(**names) for word in words]
    where = [files / "image.nii.gz"] if command == "segment" else []
    target = files / ("mask.nii.gz" if command == "segment" else "trained")
    code, _, errors = run(command, *where, *words, "--out", target, *FAST)
    assert code == 2
    assert sentence in errors.replace("\n", " ")
    assert len(errors.strip().splitlines()) == 1
    assert not target.exists() or command == "train"


def test_results_never_replace_weak_labels(files, run):
    image, seeds, said = files / "image.nii.gz", files / "seeds.nii.gz", files / "said.csv"
    before = seeds.read_bytes(), said.read_bytes()
    assert run("segment", image, "--seeds", seeds, "--out", seeds, *FAST)[0] == 2
    assert run("segment", image, "--seeds", seeds, "--image-labels", said, "--out", said, *FAST)[0] == 2
    assert before == (seeds.read_bytes(), said.read_bytes())
