"""Trainings of several processes: forked, so that none of them has to import torch."""

import os
import signal
import socket
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import TABLE, fix_precision, make_case, short_training

from napari_sparseseg import cli, training_loop
from napari_sparseseg.cases import CaseSource
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import StepDone, finish
from napari_sparseseg.ranks import Order, ProcessLost, Ranks, join_ranks
from napari_sparseseg.sampling import PatchSampler
from napari_sparseseg.training import train_network
from napari_sparseseg.training_loop import follow_training
from napari_sparseseg.volume import save_labels, save_map, volume_from_array

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX can fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    fix_precision(monkeypatch)


def sources(count=3, size=12):
    made = [make_case(size, seed, axial=(3, 6, 8), name=f"case {seed}")[0] for seed in range(count)]
    return [CaseSource(case.name, lambda case=case: case) for case in made]


@contextmanager
def processes(world, body):
    """Fork `world` processes that call ``body(ranks)`` and yield their ids; they are killed at the end."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                }  # fmt: skip
                ranks = join_ranks("cpu")
                body(ranks)
                ranks.leave()
                code = 0
            except ProcessLost:
                code = 3
            except SystemExit as end:
                code = end.code or 0
            except InputError:
                code = 2
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    try:
        yield children
    finally:
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def exit_codes(children, seconds=60):
    codes, end = {}, time.monotonic() + seconds
    while len(codes) < len(children) and time.monotonic() < end:
        for child in children:
            if child not in codes:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return [codes.get(child) for child in children]


def lead_or_follow(ranks, folder, config, **others):
    """Train; each process writes what it has drawn and the weights that it ends with."""
    draws, learners = [], []
    draw, step = PatchSampler.draw, training_loop.take_step

    def note(sampler):
        drawn = draw(sampler)
        draws.append((drawn.case, *drawn.centre, drawn.noise_seed))
        return drawn

    def watch(learner, *words, **options):
        learners[:] = [learner]
        return step(learner, *words, **options)

    PatchSampler.draw, training_loop.take_step = note, watch
    if ranks.leads:
        work = train_network(sources(), TABLE, config, cache_folder=folder, ranks=ranks, **others)
        result = finish(work)
        np.save(folder / "dice.npy", sorted(result.held_out_dice.items())[0][1])
    else:
        follow_training(ranks)
    np.save(folder / f"draws{ranks.rank}.npy", draws)
    weights = torch.cat([tensor.flatten() for tensor in learners[0].average_weights().values()])
    np.save(folder / f"weights{ranks.rank}.npy", weights.numpy())


def test_two_processes_draw_what_one_draws_with_twice_the_batch_and_end_alike(tmp_path):
    config = short_training(steps=6, final_share=0.5, patch_voxels=8**3)
    folders = [tmp_path / name for name in ("first", "second", "alone")]
    for folder in folders:
        folder.mkdir()
    for folder in folders[:2]:
        with processes(2, lambda ranks, folder=folder: lead_or_follow(ranks, folder, config)) as children:
            assert exit_codes(children) == [0, 0]
        assert not list(folder.glob(".sparseseg*"))
    with processes(
        1, lambda ranks: lead_or_follow(ranks, folders[2], replace(config, batch_size=2))
    ) as children:
        assert exit_codes(children) == [0]
    first, second, alone = ({path.name: np.load(path) for path in folder.glob("*.npy")} for folder in folders)
    assert first["draws0.npy"].shape == (12, 5)
    np.testing.assert_array_equal(first["draws0.npy"], first["draws1.npy"])
    np.testing.assert_array_equal(first["draws0.npy"], alone["draws0.npy"])
    np.testing.assert_array_equal(first["weights0.npy"], first["weights1.npy"])
    assert not np.array_equal(first["weights0.npy"], alone["weights0.npy"])
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def train_and_note(ranks, folder, config, **others):
    """Lead or follow; the leader writes how many steps it took and the weights that it ends with."""
    if not ranks.leads:
        follow_training(ranks)
        return
    steps = []
    work = train_network(sources(), TABLE, config, state_folder=folder, ranks=ranks, describe=False, **others)
    result = finish(work, lambda event: steps.append(event) if isinstance(event, StepDone) else None)
    weights = torch.cat([tensor.flatten() for tensor in result.model.weights.values()])
    np.savez(folder / "told.npz", steps=len(steps), weights=weights.numpy())


def test_a_training_of_two_that_is_stopped_goes_on_with_two_and_not_with_one(tmp_path):
    config = short_training(steps=6, final_share=0.5, patch_voxels=8**3, preview_weight=0.2)
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    def stop(ranks):
        if not ranks.leads:
            follow_training(ranks)
            return
        work = train_network(sources(), TABLE, config, state_folder=parts, ranks=ranks)
        while not (isinstance(event := next(work), StepDone) and event.step == 2):
            pass
        work.close()

    with processes(2, stop) as children:
        assert exit_codes(children) == [0, 0]
    assert {path.name for path in parts.iterdir()} == {"state.json", "state.safetensors"}
    with pytest.raises(InputError, match="a training of 2 processes"):
        finish(train_network(sources(), TABLE, config, state_folder=parts, resume=True))
    for folder, resume in ((parts, True), (whole, False)):
        with processes(
            2, lambda ranks, f=folder, r=resume: train_and_note(ranks, f, config, resume=r)
        ) as children:
            assert exit_codes(children) == [0, 0]
    first, second = (np.load(folder / "told.npz") for folder in (parts, whole))
    assert (first["steps"], second["steps"]) == (4, 6)
    np.testing.assert_array_equal(first["weights"], second["weights"])


def test_when_a_process_is_killed_the_others_end_and_the_state_is_kept(tmp_path):
    config = short_training(steps=100_000, patch_voxels=8**3)

    def lead_or_follow_slowly(ranks):
        if not ranks.leads:
            follow_training(ranks)
            return
        for event in train_network(sources(), TABLE, config, state_folder=tmp_path, ranks=ranks):
            if isinstance(event, StepDone):
                (tmp_path / "begun").touch()

    with processes(2, lead_or_follow_slowly) as children:
        end = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(children[1], signal.SIGKILL)
        assert exit_codes(children) == [3, -signal.SIGKILL]
    assert (tmp_path / "state.json").is_file()
    assert not list(tmp_path.glob(".sparseseg*"))


def test_a_mistake_of_the_user_ends_all_processes(tmp_path):
    def lead_or_follow_nothing(ranks):
        if ranks.leads:
            finish(train_network([], TABLE, short_training(), ranks=ranks))
        else:
            follow_training(ranks)

    with processes(2, lead_or_follow_nothing) as children:
        assert exit_codes(children) == [2, 0]


def test_the_command_line_leads_and_follows(tmp_path):
    case, _ = make_case()
    volume = volume_from_array(case.image, case.spacing)
    save_map(tmp_path / "image.nii.gz", case.image[0], volume)
    save_labels(tmp_path / "labels.nii.gz", case.annotation.astype(np.int32), volume)

    def call(ranks):
        """Each process is the command line; it joins the others by itself, after this has."""
        ranks.leave()
        log = os.open(tmp_path / f"log{ranks.rank}", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = [
            "sparseseg", "train", "--case", f"{tmp_path / 'image.nii.gz'}={tmp_path / 'labels.nii.gz'}",
            "--out", str(tmp_path / "model"), "--steps", "3", "--patch-voxels", "512", "--device", "cpu",
            "--preview-weight", "0",
        ]  # fmt: skip
        cli.main()

    with processes(2, call) as children:
        assert exit_codes(children) == [0, 0]
    assert "Wrote the model" in (tmp_path / "log0").read_text()
    assert (tmp_path / "log1").read_text() == ""
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors"}


def test_without_torchrun_a_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert join_ranks().share == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="start several processes by torchrun"):
        join_ranks()
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(InputError, match="WORLD_SIZE is 'many'"):
        join_ranks()


def test_a_share_of_the_gpus_memory_that_is_too_small_is_told(monkeypatch):
    ranks = Ranks(1, 2)
    with pytest.raises(InputError, match="the GPU of process 1 is too small"), ranks.together():
        raise torch.cuda.OutOfMemoryError
    ranks.tell(Order.STOP)  # nobody would hear it
    with pytest.raises(RuntimeError, match="a mistake of ours"), Ranks(0, 2).together():
        raise RuntimeError("a mistake of ours")
