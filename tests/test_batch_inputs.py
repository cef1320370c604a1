import hashlib
import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.batch_case import name_results
from napari_sparseseg.batch_inputs import find_inputs, hash_input
from napari_sparseseg.batch_ledger import write_record
from napari_sparseseg.batch_records import BatchRecord
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import load_volume, save_labels, volume_from_array

DICOM = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "ge_anatomical_001"
ALL = BatchConfig(formats="nii.gz,nii,nrrd,mha,dicom_seg", uncertainty=True, probabilities=True)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not empty")


def names(*texts, out=None):
    return [found.name for found in find_inputs([str(text) for text in texts], out)]


@pytest.mark.parametrize("seed", range(25))
def test_no_two_volumes_share_a_name_or_a_result_and_none_is_lost(tmp_path, seed):
    draw = random.Random(seed)
    stems = ("scan", "Scan", "scan_uncertainty", "scan_probabilities", "scan.nii", "a")
    paths = {
        "/".join([*draw.choices(("p1", "p2", "P1"), k=draw.randrange(3)), draw.choice(stems)])
        + draw.choice((".nii.gz", ".nii", ".nrrd", ".h5"))
        for _ in range(12)
    }
    touch(tmp_path, *paths)
    texts = draw.sample(
        [*(str(tmp_path / path) for path in paths), str(tmp_path), f"{tmp_path}/**/*", f"{tmp_path}/p*/*"], 6
    )
    found = find_inputs([*texts, str(tmp_path)])
    assert sorted(file for volume in found for file in volume.files) == sorted(
        str(tmp_path / path) for path in paths
    )
    results = [result.casefold() for v in found for result in name_results(v.name, ALL).values()]
    assert len(results) == len(set(results))
    assert len({volume.name.casefold() for volume in found}) == len(found)
    assert found == find_inputs([*texts, str(tmp_path)])


def test_a_folder_keeps_its_structure_and_names_stay_when_volumes_are_added(tmp_path):
    touch(tmp_path, "p1/scan.nii.gz", "p2/scan.nii.gz", "b.nrrd", ".hidden/c.nii.gz", "notes.txt")
    assert sorted(names(tmp_path)) == ["b", "p1/scan", "p2/scan"]
    assert names(f"{tmp_path}/p*/scan.nii.gz") == ["p1/scan", "p2/scan"]
    touch(tmp_path, "p3/scan.nii.gz", "p1/other/scan.nii.gz")
    assert set(names(tmp_path)) == {"b", "p1/scan", "p2/scan", "p3/scan", "p1/other/scan"}


def test_files_are_called_by_as_little_of_their_path_as_tells_them_apart(tmp_path):
    touch(tmp_path, "p1/scan.nii.gz", "p2/scan.nii.gz", "p2/b.nii.gz", "c/scan.h5")
    files = [tmp_path / "p1/scan.nii.gz", tmp_path / "p2/scan.nii.gz", tmp_path / "p2/b.nii.gz"]
    assert names(*files) == ["p1/scan", "p2/scan", "b"]
    assert names(files[0]) == ["scan"]
    assert names(files[0], files[0]) == ["scan"]
    sets = [f"{tmp_path}/c/scan.h5:/first", f"{tmp_path}/c/scan.h5:/second"]
    assert names(sets[0]) == ["scan"]
    assert names(*sets) == ["scan.h5_first", "scan.h5_second"]


def test_a_name_can_be_listed_and_be_that_of_a_file_anywhere(tmp_path):
    touch(tmp_path, "a\nb/c\td.nii.gz")
    [found] = find_inputs([str(tmp_path)])
    assert (found.name, found.files) == ("a_b/c_d", (str(tmp_path / "a\nb/c\td.nii.gz"),))
    touch(tmp_path, "a\nb/c?d.nii.gz")
    assert len(set(names(tmp_path))) == 2


def test_channels_and_names_with_commas(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz", "with,comma.nii.gz")
    two, one = find_inputs([f"{tmp_path}/a.nii.gz,{tmp_path}/b.nii.gz", f"{tmp_path}/with,comma.nii.gz"])
    assert (two.name, one.name) == ("a", "with,comma")
    assert two.files == (str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz"))
    assert one.files == (str(tmp_path / "with,comma.nii.gz"),)


def test_what_is_not_there_is_named_and_left_to_the_reading(tmp_path):
    missing, nothing, long = tmp_path / "missing.nii.gz", f"{tmp_path}/*.nrrd", tmp_path / ("x" * 300)
    (tmp_path / "empty").mkdir()
    found = find_inputs([str(missing), nothing, str(tmp_path / "empty"), str(long)])
    assert [volume.files[0] for volume in found] == [
        str(missing),
        nothing,
        str(tmp_path / "empty"),
        str(long),
    ]
    with pytest.raises(InputError, match="no volume was given"):
        find_inputs([])


def test_a_manifest_names_volumes_relative_to_itself(tmp_path):
    touch(tmp_path / "data", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    manifest = tmp_path / "list.csv"
    manifest.write_text("name,image,image2\nanna/first,data/a.nii.gz,data/b.nii.gz\n,data/c.nii.gz,\n")
    first, second = find_inputs([str(manifest)])
    assert first.name == "anna/first"
    assert first.files == (str(tmp_path / "data/a.nii.gz"), str(tmp_path / "data/b.nii.gz"))
    assert second.name == "c"
    manifest.write_text('image\n"data/a.nii.gz; data/b.nii.gz"\n')
    assert find_inputs([str(manifest)])[0].files == first.files


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("image,name\na.nii.gz,../out\n", "no file can have"),
        ("image,name\na.nii.gz,/etc/x\n", "no file can have"),
        ("image,name\na.nii.gz,C:x\n", "no file can have"),
        ("image,name\na.nii.gz,x\nb.nii.gz,X\n", "two volumes are"),
        ("file\na.nii.gz\n", "no column image"),
        ("image,name\n,x\n", "names no image"),
        ("image\n", "no volumes"),
    ],
)
def test_manifests_that_cannot_be_used_are_told(tmp_path, table, sentence):
    (tmp_path / "list.csv").write_text(table)
    with pytest.raises(InputError, match=sentence):
        find_inputs([str(tmp_path / "list.csv")])


def test_results_are_never_taken_for_volumes(tmp_path):
    touch(tmp_path, "a.nii.gz", "masks/a.nii.gz", "masks/p/b.nii.gz")
    assert names(tmp_path, f"{tmp_path}/**/*.nii.gz", out=tmp_path / "masks") == ["a"]
    with pytest.raises(InputError, match="holds the volumes themselves"):
        names(tmp_path, out=tmp_path)
    with pytest.raises(InputError, match="holds the volumes themselves"):
        names(f"{tmp_path}/*.nii.gz", out=tmp_path)


def test_what_earlier_batches_wrote_is_left_out_and_inputs_beside_it_are_not(tmp_path):
    touch(tmp_path, "mine.nrrd", "masks/p/a.nii.gz", "masks/p/a.nrrd", "masks/p/a_uncertainty.nrrd")
    written = ("p/a.nrrd", "p/a_uncertainty.nrrd")
    write_record(tmp_path / "masks", BatchRecord("p/a", ("p/a.nii.gz",), written=written))
    for source in (tmp_path, f"{tmp_path}/**/*"):
        assert set(names(source)) == {"mine", "masks/p/a"}
    asked_for = {"p/a.nii.gz", "p/a.nrrd", "p/a_uncertainty"}
    assert set(names(tmp_path / "masks")) == asked_for
    assert len(names(*(tmp_path / "masks" / file for file in written))) == 2


@pytest.mark.parametrize("source", ["", "*", "**/*"])
def test_what_may_not_be_opened_costs_nothing_else(tmp_path, monkeypatch, source):
    touch(tmp_path, "a.nii.gz", "closed.nii.gz", "closed_folder/b.nii.gz", "s/closed.dcm")
    for method in ("open", "iterdir"):
        monkeypatch.setattr(Path, method, refuse_closed(getattr(Path, method)))
    found = {volume.name: volume.files[0] for volume in find_inputs([f"{tmp_path}/{source}"])}
    told = {}
    for name, file in found.items():
        try:
            load_volume(file)
        except InputError as error:
            told[name] = str(error)
    assert found.keys() - told.keys() == set()  # nor is the other one a volume
    closed = {Path(found[name]).name for name, text in told.items() if "check its permissions" in text}
    assert closed == {"closed.nii.gz", "closed_folder", "closed.dcm"}
    assert "check its permissions" not in told["a"]


def refuse_closed(method):
    """Return a method of paths that may not be used for what is called closed; root may open everything."""

    def ask(path, *arguments):
        if path.name.startswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return method(path, *arguments)

    return ask


def test_the_hash_is_that_of_the_file_and_of_all_bytes_of_several(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    a, b = (str(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    assert hash_input([a]) == hashlib.sha256(b"not empty").hexdigest()
    save_labels(tmp_path / "c.mhd", np.ones((2, 3, 4), int), volume_from_array(np.ones((2, 3, 4))))
    header, voxels = tmp_path / "c.mhd", tmp_path / "c.zraw"
    known = [hash_input([str(header)]), hash_input([a, b]), hash_input([a])]
    for file in (voxels, header):
        contents = file.read_bytes()
        file.write_bytes(contents + b" ")
        known.append(hash_input([str(header)]))
        file.write_bytes(contents)
    assert all(one != other for one, other in itertools.combinations(known, 2))
    assert hash_input([str(header)]) == known[0]


@pytest.mark.skipif(not DICOM.is_dir(), reason="the real volumes of ../shared/data are not here")
def test_the_slices_of_a_series_are_one_volume_and_all_are_hashed(tmp_path):
    slices = sorted(file for file in DICOM.rglob("*") if file.is_file())
    assert len(slices) > 1
    [found] = find_inputs([str(file) for file in slices])
    assert (
        found == find_inputs([f"{slices[0].parent}/*"])[0] or Path(found.files[0]).parent == slices[0].parent
    )
    joined = hashlib.sha256(b"".join(file.read_bytes() for file in slices)).hexdigest()
    assert hash_input(found.files) == joined
    assert hash_input([str(slices[0].parent)]) == joined
