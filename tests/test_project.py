import queue
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import label_model
import numpy as np
import pytest
from label_model import SHAPE, LabelModel, take_step

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import Project

AFFINE = np.array([[2.5, 0, 0.1, -7], [0, 1, 0, 3], [-0.1, 0, 1, 1e-3], [0, 0, 0, 1]])
TABLE = ClassTable.from_values([2, 7], {2: "liver", 7: "tumör \ud800"})


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project") as opened:
        yield opened


def add_case(project, name="head", **more):
    return project.add_case(name, SHAPE, (2.5, 1, 1), AFFINE, **more)


def open_again(project):
    project.close()
    return Project.open(project.folder)


def test_importing_it_loads_nothing_slow():
    code = (
        "import sys, napari_sparseseg.project; "
        "print({'torch', 'monai', 'sklearn', 'napari', 'qtpy'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_everything_comes_back(project):
    image = np.arange(240, dtype=np.int16).reshape(2, *SHAPE)
    project.set_table(TABLE)
    first = add_case(project, source="/data/größe \udcff 1.nii.gz", fingerprint="abc")
    second = add_case(project, "belly", image=image)
    project.add_change(first, [1, 2], [2, 7])
    project.add_change(second, [3], 1)
    number = project.add_round(first, {"labelled": 2})
    project.update_round(number, {"dice": 0.87, "per_class": {"liver": 0.9}})
    project.save_view(first, {"position": [1, 2, 3], "tool": "paint"})
    project.save_setting("training", {"steps": 5})
    cases = project.cases()
    with open_again(project) as again:
        assert again.table == TABLE
        assert again.cases() == cases
        assert again.case(first).affine == tuple(map(tuple, AFFINE.tolist()))
        assert again.case(first).spacing == (2.5, 1.0, 1.0)
        assert again.find_case("abc").number == first
        assert again.voxel_counts(first) == {2: 1, 7: 1}
        assert again.voxel_counts(second) == {1: 1}
        assert again.label_count() == 2
        (training_round,) = again.rounds(first)
        assert training_round.figures == {"labelled": 2, "dice": 0.87, "per_class": {"liver": 0.9}}
        assert again.rounds(second) == ()
        assert again.view(first) == {"position": [1, 2, 3], "tool": "paint"}
        assert again.view(second) == {}
        assert again.setting("training") == {"steps": 5}
        assert again.setting("other", 3) == 3
        loaded = again.load_image(second)
        assert loaded.dtype == image.dtype
        assert (loaded == image).all()


def test_a_new_project_has_a_class_to_paint(project):
    assert project.table.mask_values == (0, 2)
    assert project.cases() == ()
    assert project.label_count() == 0
    assert project.name == "project"


def test_signals_tell_what_changed(project):
    heard = []
    project.table_changed.connect(heard.append)
    project.case_added.connect(heard.append)
    project.rounds_changed.connect(lambda case: heard.append(("round", case)))
    project.set_table(TABLE)
    project.set_table(TABLE)  # nothing new
    case = add_case(project)
    number = project.add_round(case, {})
    project.update_round(number, {"dice": 1.0})
    assert heard == [TABLE, case, ("round", case), ("round", case)]


@pytest.mark.parametrize("value", [1, 256])
def test_a_class_that_cannot_be_painted_is_refused(project, value):
    with pytest.raises(InputError, match="cannot be painted"):
        project.set_table(ClassTable.from_values([2, value]))
    assert project.table.mask_values == (0, 2)


def test_undoing_a_deletion_brings_the_class_back(project):
    case = add_case(project)
    project.set_table(TABLE)
    project.add_change(case, [5, 6], 7)
    project.erase_value(7)
    project.set_table(ClassTable(TABLE.classes[:2]))
    heard = []
    project.table_changed.connect(heard.append)
    project.labels_changed.connect(lambda number, change: heard.append((number, change.undone)))
    project.undo(case)
    assert heard == [TABLE, (case, True)]
    assert project.voxel_counts(case) == {7: 2}
    with open_again(project) as again:
        assert again.table == TABLE


def test_values_of_former_classes_are_not_used_again(project):
    case = add_case(project)
    assert project.free_value() == 3
    project.set_table(ClassTable.from_values([3, 4]))
    project.set_table(ClassTable.from_values([3]))
    project.add_change(case, [1], 6)  # a value that no class has
    project.undo(case)
    assert project.free_value() == 5
    with open_again(project) as again:
        assert again.free_value() == 5
        assert again.table.mask_values == (0, 3)
        rows = tuple(LabelClass(value, f"class {value}", "#ffffff") for value in range(2, 255))
        again.set_table(ClassTable((again.table.classes[0], *rows)))
        assert again.free_value() == 255
        again.add_change(case, [1], 255)
        with pytest.raises(InputError, match="used up"):
            again.free_value()


def test_renaming_and_recoloring_keeps_labels(project):
    case = add_case(project)
    project.add_change(case, [1], 2)
    entry = replace(project.table.classes[1], name="spleen", color="#010203")
    project.set_table(ClassTable((project.table.classes[0], entry)))
    with open_again(project) as again:
        assert again.table.classes[1] == entry
        assert again.voxel_counts(case) == {2: 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (4, 5)},
        {"shape": (4, 5, 0)},
        {"spacing": (1, 1)},
        {"spacing": (1, 1, 0)},
        {"spacing": (1, 1, float("nan"))},
        {"affine": np.eye(3)},
        {"affine": np.full((4, 4), np.inf)},
        {"image": np.zeros((4, 5, 7))},
        {"image": np.zeros((4, 5, 6), object)},
    ],
)
def test_a_case_that_makes_no_sense_is_refused(project, wrong):
    arguments = {"name": "head", "shape": SHAPE, "spacing": (1, 1, 1), "affine": np.eye(4), **wrong}
    with pytest.raises(InputError, match="head"):
        project.add_case(**arguments)
    assert project.cases() == ()
    assert add_case(project) == 1


def test_images_that_are_missing_or_damaged_are_told(project):
    outside, inside = add_case(project, source="/data/a.nii"), add_case(project, image=np.zeros(SHAPE))
    with pytest.raises(InputError, match="its own file"):
        project.load_image(outside)
    (path,) = (project.folder / "images").iterdir()
    good = path.read_bytes()
    np.save(path, np.zeros((1, 2, 3)))
    other = path.read_bytes()
    for content in (b"", good[:100], good[:-1], b"noise" * 50, other):
        path.write_bytes(content)
        with pytest.raises(InputError, match="backup"):
            project.load_image(inside)


def test_unknown_cases_and_rounds_are_told(project):
    for ask in (project.case, project.labels, project.undo, project.checkpoint_folder, project.load_image):
        with pytest.raises(InputError, match="no case 3"):
            ask(3)
    with pytest.raises(InputError, match="no case 3"):
        project.add_round(3, {})
    with pytest.raises(InputError, match="no training round 3"):
        project.update_round(3, {})


def test_an_empty_fingerprint_finds_nothing(project):
    add_case(project)
    assert project.find_case("") is None
    assert project.find_case("abc") is None


def test_each_case_has_its_own_folder_for_checkpoints(project):
    first, second = (project.checkpoint_folder(add_case(project, name)) for name in "ab")
    assert first != second
    assert first.is_relative_to(project.folder)
    assert second.is_relative_to(project.folder)


def test_deleting_a_class_erases_it_in_all_cases_at_once(project):
    first, second, third = (add_case(project, name) for name in "abc")
    for case, value in ((first, 2), (second, 2), (third, 3)):
        project.add_change(case, [1, 2], value)
    assert [change.case for change in project.erase_value(2)] == [first, second]
    assert project.voxel_counts(third) == {3: 2}
    for value in (2, 0, -1, 256):
        assert project.erase_value(value) == ()
    assert len(project.erase_value(3, third)) == 1


class Killed:
    """A process that works in the project and tells each step that is done; killed at a random moment."""

    def __init__(self, folder, first):
        command = [sys.executable, str(Path(label_model.__file__)), str(folder), str(first)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.steps = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.steps.put(int(line))
        self.steps.put(None)

    def kill_after(self, steps, seconds):
        """Wait for so many steps, and a moment more; return the number of the last step that was done."""
        last = 0
        for _ in range(steps):
            last = self.steps.get(timeout=60)
            assert last is not None, "it ended by itself"
        time.sleep(seconds)
        self.process.kill()
        while (step := self.steps.get(timeout=60)) is not None:
            last = step
        self.process.wait()
        self.process.stdout.close()
        return last


def test_no_finished_stroke_is_lost_to_a_kill(project):
    case = add_case(project)
    project.close()
    random, model, done = np.random.default_rng(3), LabelModel(), 0
    for _ in range(10):
        told = Killed(project.folder, done).kill_after(int(random.integers(1, 60)), random.uniform(0, 0.01))
        assert told > done
        for index in range(done, told):
            take_step(index, model)
        with Project.open(project.folder) as again:
            labels, sources = again.labels(case).reshape(-1), again.sources(case).reshape(-1)
            count = again.label_count()
        done = told
        if count != len(model.done) or not all(map(np.array_equal, (labels, sources), model.states())):
            take_step(done, model)  # the one that was on disk but not told yet
            done += 1
        assert count == len(model.done)
        assert all(map(np.array_equal, (labels, sources), model.states()))
