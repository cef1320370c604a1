import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from label_model import SHAPE, SOURCES, VOXELS, LabelModel

from napari_sparseseg.annotation import source_code
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import Project

strokes = st.lists(st.tuples(st.integers(0, VOXELS - 1), st.integers(0, 4)), max_size=20)
cases = st.sampled_from([1, 2])


class ProjectAgainstModel(RuleBasedStateMachine):
    """Whatever is done to a project, it holds what the model holds, also when opened again."""

    def __init__(self):
        super().__init__()
        self.models = {1: LabelModel(), 2: LabelModel()}

    @initialize()
    def begin(self):
        self.folder = self.new_folder()
        self.project = Project.create(self.folder)
        for number in self.models:
            assert self.project.add_case(f"case {number}", SHAPE, (1, 1, 1), np.eye(4)) == number

    @rule(case=cases, stroke=strokes, source=st.sampled_from(SOURCES))
    def paint(self, case, stroke, source):
        voxels, values = [v for v, _ in stroke], [v for _, v in stroke]
        change = self.project.add_change(case, voxels, values, source)
        assert self.models[case].paint(voxels, values, source) == (change is not None)
        if change is not None:
            assert (change.case, change.source, change.undone) == (case, source, False)
            assert ((change.before != change.after) | (change.before_sources != change.sources)).all()

    @rule(case=cases)
    def undo(self, case):
        expected = bool(self.models[case].done)
        change = self.project.undo(case)
        self.models[case].undo()
        assert (change is not None) == expected
        assert change is None or change.undone

    @rule(case=cases)
    def redo(self, case):
        expected = bool(self.models[case].undone)
        change = self.project.redo(case)
        self.models[case].redo()
        assert (change is not None) == expected
        assert change is None or not change.undone

    @rule(value=st.integers(1, 4))
    def erase(self, value):
        changes = {change.case for change in self.project.erase_value(value)}
        for case, model in self.models.items():
            voxels = np.flatnonzero(model.states()[0] == value).tolist()
            assert model.paint(voxels, [0] * len(voxels), "stroke") == (case in changes)

    @rule()
    def open_again(self):
        self.project.close()
        self.project = Project.open(self.folder)

    @rule(case=cases)
    def forget(self, case):
        self.project.forget_labels(case)

    @invariant()
    def holds_what_the_model_holds(self):
        for case, model in self.models.items():
            labels, sources = model.states()
            assert (self.project.labels(case).reshape(-1) == labels).all()
            assert (self.project.sources(case).reshape(-1) == sources).all()
            counts = {int(v): int((labels == v).sum()) for v in np.unique(labels[labels > 0])}
            assert self.project.voxel_counts(case) == counts
            replayed = np.zeros(VOXELS, np.uint8)
            for change in self.project.changes(case):
                assert (replayed[change.voxels] == change.before).all()
                replayed[change.voxels] = change.after
            assert (replayed == labels).all()
        assert self.project.label_count() == sum(len(model.done) for model in self.models.values())

    def teardown(self):
        self.project.close()


def test_a_project_agrees_with_the_model(tmp_path_factory):
    class Machine(ProjectAgainstModel):
        def new_folder(self):
            return tmp_path_factory.mktemp("größe 1", numbered=True) / "my project"

    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=25))


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project") as opened:
        opened.add_case("head", SHAPE, (1, 1, 1), np.eye(4))
        yield opened


def test_labels_are_live_and_cannot_be_written(project):
    labels, sources = project.labels(1), project.sources(1)
    project.add_change(1, [7], 3)
    assert (labels.reshape(-1)[7], sources.reshape(-1)[7]) == (3, source_code("stroke"))
    with pytest.raises(ValueError, match="read-only"):
        labels[0, 0, 0] = 1
    assert labels.shape == SHAPE


def test_weaker_sources_leave_a_stroke_alone(project):
    project.add_change(1, [0, 1], 2)
    project.add_change(1, [1, 2], 3, "import")
    project.add_change(1, [2, 3], 4, "accepted")
    assert project.labels(1).reshape(-1)[:4].tolist() == [2, 2, 3, 4]
    assert project.add_change(1, [0, 1], 0, "import") is None
    assert project.add_change(1, range(4), 0, "stroke").before.tolist() == [2, 2, 3, 4]
    assert project.voxel_counts(1) == {}


def test_a_stroke_over_a_weaker_label_of_the_same_class_makes_it_strong(project):
    project.add_change(1, [5], 2, "interpolated")
    assert project.add_change(1, [5], 2) is not None
    assert project.add_change(1, [5], 2) is None
    assert project.add_change(1, [5], 3, "accepted") is None


def test_a_new_change_drops_the_redo_tail_and_numbers_are_never_used_twice(project):
    numbers = [project.add_change(1, [voxel], 2).number for voxel in range(3)]
    project.undo(1)
    project.undo(1)
    numbers.append(project.add_change(1, [9], 2).number)
    assert project.redo(1) is None
    assert numbers == sorted(set(numbers))
    assert [change.number for change in project.changes(1)] == [numbers[0], numbers[3]]


def test_listeners_hear_each_change_after_it_is_in_force(project):
    heard = []
    project.labels_changed.connect(
        lambda case, change: heard.append((case, change.undone, int(project.labels(case).sum())))
    )
    project.add_change(1, [0, 1], 2)
    project.undo(1)
    project.redo(1)
    project.undo(1)
    project.undo(1)
    assert heard == [(1, False, 4), (1, True, 0), (1, False, 4), (1, True, 0)]


def test_mistakes_change_nothing(project):
    project.add_change(1, [0], 2)
    for arguments in [(1, [VOXELS], 2), (1, [0], 999), (1, [0], 2, "guess"), (2, [0], 2)]:
        with pytest.raises(InputError):
            project.add_change(*arguments)
    assert project.label_count() == 1
    assert project.add_change(1, [], 2) is None


def test_an_image_too_large_for_memory_is_told(project):
    huge = project.add_case("huge", (2**20, 2**20, 2**20), (1, 1, 1), np.eye(4))
    with pytest.raises(InputError, match="memory"):
        project.labels(huge)
