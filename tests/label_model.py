"""Labels painted, undone and redone the plainest way there is: the model that a project must agree with.

Run as a program (``python label_model.py FOLDER FIRST``) it works in a project without end, telling after
each step that it is done; tests kill it.
"""

import sys

import numpy as np

from napari_sparseseg.annotation import SOURCE_WEIGHTS

SHAPE = (4, 5, 6)
VOXELS = 120
SOURCES = tuple(SOURCE_WEIGHTS)


class LabelModel:
    def __init__(self):
        self.done, self.undone = [], []

    def states(self):
        """Return value and source per voxel, one after the other painted from the start."""
        labels, sources = np.zeros(VOXELS, np.uint8), np.zeros(VOXELS, np.uint8)
        for voxels, values, source in self.done:
            self._paint(labels, sources, voxels, values, source)
        return labels, sources

    def paint(self, voxels, values, source):
        labels, sources = self.states()
        before = labels.copy(), sources.copy()
        self._paint(labels, sources, voxels, values, source)
        if (labels == before[0]).all() and (sources == before[1]).all():
            return False
        self.done.append((voxels, values, source))
        self.undone.clear()
        return True

    def undo(self):
        if self.done:
            self.undone.append(self.done.pop())

    def redo(self):
        if self.undone:
            self.done.append(self.undone.pop())

    @staticmethod
    def _paint(labels, sources, voxels, values, source):
        for voxel, value in dict(zip(voxels, values, strict=True)).items():
            held = SOURCES[sources[voxel] - 1] if sources[voxel] else None
            if (
                source == "stroke"
                or held is None
                or (held != "stroke" and SOURCE_WEIGHTS[source] >= SOURCE_WEIGHTS[held])
            ):
                labels[voxel] = value
                sources[voxel] = SOURCES.index(source) + 1 if value else 0


def take_step(index, painter):
    """Do the step of this number, always the same, on a model or on something that looks like one."""
    random = np.random.default_rng(index)
    kind = random.choice(["paint", "paint", "paint", "undo", "redo"])
    if kind == "paint":
        voxels = random.integers(0, VOXELS, random.integers(1, 40))
        values = random.integers(0, 5, len(voxels))
        painter.paint(voxels.tolist(), values.tolist(), str(random.choice(SOURCES)))
    else:
        getattr(painter, kind)()


class ProjectPainter:
    def __init__(self, project, case):
        self.project, self.case = project, case

    def paint(self, voxels, values, source):
        self.project.add_change(self.case, voxels, values, source)

    def undo(self):
        self.project.undo(self.case)

    def redo(self):
        self.project.redo(self.case)


def work_without_end(folder, first):
    from napari_sparseseg.project import Project

    project = Project.open(folder)
    painter = ProjectPainter(project, project.cases()[0].number)
    index = first
    while True:
        take_step(index, painter)
        index += 1
        sys.stdout.write(f"{index}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    work_without_end(sys.argv[1], int(sys.argv[2]))
