"""Keys are declared once, and leave napari's own alone."""

import numpy as np
from napari.layers import Labels

from napari_sparseseg.widgets.shortcuts import SHORTCUTS, bind_shortcuts, release_shortcuts

LETTERS_OF_NAPARI = set("PEFLZMXV")  # but B, by which napari's brush spares other labels


def test_each_key_is_declared_once_and_explained():
    keys = [shortcut.key for shortcut in SHORTCUTS]
    assert len(set(keys)) == len(keys)
    assert all(shortcut.help for shortcut in SHORTCUTS)
    assert not {shortcut.key for shortcut in SHORTCUTS if shortcut.action} & LETTERS_OF_NAPARI


def test_all_declared_actions_exist(viewer, make_coordinator):
    coordinator = make_coordinator(viewer)
    declared = {shortcut.action for shortcut in SHORTCUTS if shortcut.action}
    assert declared == set(coordinator._actions)


def test_keys_are_bound_and_given_back(viewer):
    done = []
    actions = {s.action: lambda s=s: done.append(s.action) for s in SHORTCUTS if s.action}
    layer = Labels(np.zeros((4, 5), int))
    bind_shortcuts(layer, actions)
    for function in list(layer.keymap.values()):
        function(layer)
    assert sorted(done) == sorted(actions)
    release_shortcuts(layer)
    assert not layer.keymap
    before = set(viewer.keymap)
    bind_shortcuts(viewer, actions)
    assert len(viewer.keymap) == len(before) + 5
    release_shortcuts(viewer)
    assert set(viewer.keymap) == before
