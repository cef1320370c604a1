"""Pre-trained encoders on real volumes, and whether they help where few slices are labelled.

    python benchmarks/ssl/measure.py [--sets hippocampus] [--tasks simclr byol] [--device cuda]

Per set and task: an encoder learns without labels, for the same time; its features are probed by a linear
classifier; and U-Nets that start from it learn from a few labelled slices, as many steps as those that start
from random weights, with three seeds that also choose what is labelled.  Finished parts are kept in the JSON
beside the record and skipped by the next run.  `--merge` joins the results of runs side by side.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from problems import PROBLEMS, Budget, Problem
from record import write_record

from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint, load_encoder, save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, PretextScored, finish
from napari_sparseseg.linear_probe import probe_cases, random_encoder
from napari_sparseseg.permutations import choose_permutations, mean_hamming, near_permutations
from napari_sparseseg.pretext_spatial import Jigsaw
from napari_sparseseg.pretraining import PRETEXT_TASKS as TASKS
from napari_sparseseg.pretraining import pretrain
from napari_sparseseg.pretraining_settings import PRETEXT_TASKS, PretextConfig, PretrainingConfig
from napari_sparseseg.settings import NetworkConfig, TrainingConfig
from napari_sparseseg.training import train_network

RECORDS = Path(__file__).resolve().parents[1] / "records"
RANDOM = "random start"
GENTLE = "random start, gently"  # with the slower rate that encoders get: is it that which helps?
SEEDS = (0, 1, 2)
JIGSAW_SETS = (4, 16, 64, 256)
PERMUTATIONS = {"distant": choose_permutations, "near": near_permutations}
_TRUTHS_PROBED = 10


class Benchmark:
    """Measures the parts that are asked for, and keeps what is done."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._path = options.results
        self.results: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.results.setdefault("machine", describe_machine(options))

    def _part(self, place: Sequence[str]) -> dict[str, Any]:
        row: dict[str, Any] = self.results.setdefault("sets", {})
        for name in place:
            row = row.setdefault(name, {})
        return row

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.results, indent=1, sort_keys=True))

    def run(self) -> None:
        """Measure everything that is not there yet."""
        for name in self._options.sets:
            problem = PROBLEMS[name]()
            for task in self._options.tasks:
                self._measure_task(name, problem, task)
            if name == "hippocampus" and self._options.jigsaw:
                for count in JIGSAW_SETS:
                    self._measure_jigsaw(name, problem, count, "distant")
                self._measure_jigsaw(name, problem, 64, "near")

    def _measure_task(self, name: str, problem: Problem, task: str) -> None:
        row = self._part([name, "tasks", task])
        for seed in SEEDS if task == "supcon" else SEEDS[:1]:
            if "refused" in row:
                return
            encoder = self._encoder(name, problem, task, row, seed)
            if encoder is not None:
                self._probe(name, problem, row, encoder if task != RANDOM else None, seed)
        for budget in problem.budgets:
            for seed in SEEDS:
                encoder = self._encoder(name, problem, task, row, seed if task == "supcon" else 0)
                if encoder is None:
                    return
                self._fine_tune(problem, row, budget, seed, encoder if task != RANDOM else None)

    def _folder(self, name: str, task: str, seed: int) -> Path:
        return Path(self._options.encoders) / name / f"{task}-{seed}"

    def _encoder(
        self, name: str, problem: Problem, task: str, row: dict[str, Any], seed: int
    ) -> EncoderCheckpoint | None:
        """Return the encoder that a task makes; for the random start any, which nothing is taken from."""
        if task == GENTLE:
            return random_encoder(
                NetworkConfig(), load_encoder(self._folder(name, "denoising", 0)), seed=seed + 1
            )
        learnt_by = "denoising" if task == RANDOM else task
        folder = self._folder(name, learnt_by, seed)
        if not (folder / "encoder.json").exists():
            labelled = problem.cases(problem.budgets[0], seed) if task == "supcon" else []
            config = PretrainingConfig(
                task=learnt_by, steps=self._options.pretraining_steps, seed=seed, device=self._options.device
            )
            print(f"{name}: {learnt_by} learns", flush=True)
            try:
                encoder = pretrain_noting(problem, labelled, config, PretextConfig(), row)
            except InputError as error:
                row["refused"] = str(error)
                self._save()
                return None
            save_encoder(folder, encoder)
            self._save()
        return load_encoder(folder)

    def _probe(
        self, name: str, problem: Problem, row: dict[str, Any], encoder: EncoderCheckpoint | None, seed: int
    ) -> None:
        probes = row.setdefault("probe", {})
        if str(seed) in probes:
            return
        some = encoder or random_encoder(NetworkConfig(), load_encoder(self._folder(name, "denoising", 0)))
        cases = problem.cases(problem.budgets[1], seed)
        fit = [(case.image, case.spacing, case.annotation) for case in cases]
        work = probe_cases(some, fit, problem.truths(cases)[:_TRUTHS_PROBED], problem.table)
        probes[str(seed)] = finish(work).dice
        self._save()

    def _fine_tune(
        self,
        problem: Problem,
        row: dict[str, Any],
        budget: Budget,
        seed: int,
        encoder: EncoderCheckpoint | None,
    ) -> None:
        done = row.setdefault("dice", {}).setdefault(str(budget), {})
        if str(seed) in done:
            return
        cases = problem.cases(budget, seed)
        start = time.monotonic()
        model = self._train(problem, cases, seed, encoder)
        seconds = time.monotonic() - start
        done[str(seed)] = problem.measure(model, cases, self._options.device)
        row.setdefault("seconds", {}).setdefault(str(budget), {})[str(seed)] = round(seconds, 1)
        print(f"  {budget}, seed {seed}: {done[str(seed)]:.3f} ({seconds:.0f} s)", flush=True)
        self._save()

    def _train(
        self, problem: Problem, cases: Sequence[Any], seed: int, encoder: EncoderCheckpoint | None
    ) -> Any:
        config = TrainingConfig(
            steps=self._options.steps, seed=seed, preview_weight=self._options.preview_weight,
            held_out_share=0, device=self._options.device, encoder_rate=self._options.encoder_rate,
        )  # fmt: skip
        return finish(train_network(cases, problem.table, config, NetworkConfig(), encoder=encoder)).model

    def _measure_jigsaw(self, name: str, problem: Problem, count: int, kind: str) -> None:
        row = self._part([name, "jigsaw", f"{kind} {count}"])
        row["permutations"], row["kind"] = count, kind
        row["hamming"] = hamming_of(kind, count)
        folder = self._folder(name, f"jigsaw-{kind}-{count}", 0)
        if not (folder / "encoder.json").exists():
            print(f"{name}: jigsaw of {count} {kind} permutations learns", flush=True)
            config = PretrainingConfig(
                task="jigsaw", steps=self._options.pretraining_steps, device=self._options.device
            )
            chosen = {"jigsaw": partial(Jigsaw, choose=PERMUTATIONS[kind])}
            with patch.dict(TASKS, chosen):
                encoder = pretrain_noting(problem, [], config, PretextConfig(permutations=count), row)
            save_encoder(folder, encoder)
            self._save()
        encoder = load_encoder(folder)
        for seed in SEEDS:
            self._fine_tune(problem, row, problem.budgets[0], seed, encoder)


def hamming_of(kind: str, count: int) -> float:
    """Return the mean Hamming distance of a set of permutations of eight tiles."""
    return mean_hamming(PERMUTATIONS[kind](8, count, 0))


def pretrain_noting(
    problem: Problem,
    labelled: Sequence[Any],
    config: PretrainingConfig,
    pretext: PretextConfig,
    row: dict[str, Any],
) -> EncoderCheckpoint:
    """Pre-train; keep in `row` how the task was solved on volumes kept aside."""
    curve: list[list[float]] = []

    def note(event: Event) -> None:
        if isinstance(event, PretextScored):
            curve.append(
                [event.step, event.value, event.trivial, event.alignment, event.uniformity, event.spread]
            )

    encoder = finish(pretrain(problem.sources(labelled), config, pretext), note)
    row |= {
        "figure": encoder.summary["scores"]["figure"],
        "curve": curve,
        "collapsed": encoder.summary["scores"]["collapsed"],
        "pretraining_steps": encoder.summary["steps"],
        "pretraining_seconds": encoder.summary["seconds"],
    }
    return encoder


def describe_machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures were measured with."""
    gpu = options.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pretraining_steps": options.pretraining_steps,
        "steps": options.steps,
        "preview_weight": options.preview_weight,
        "encoder_rate": options.encoder_rate,
    }


def merge(paths: Sequence[Path]) -> dict[str, Any]:
    """Join the results of several runs."""

    def join(into: dict[str, Any], other: dict[str, Any]) -> None:
        for key, value in other.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                join(into[key], value)
            else:
                into[key] = value

    joined: dict[str, Any] = {}
    for path in paths:
        join(joined, json.loads(path.read_text()))
    return joined


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--tasks", nargs="+", default=["denoising", RANDOM, GENTLE, *PRETEXT_TASKS])
    parser.add_argument("--jigsaw", action="store_true", help="also measure sets of permutations")
    parser.add_argument("--pretraining-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=150, help="of fine-tuning")
    parser.add_argument("--preview-weight", type=float, default=TrainingConfig().preview_weight)
    parser.add_argument("--encoder-rate", type=float, default=TrainingConfig().encoder_rate)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--encoders", type=Path, default=Path("build/ssl_encoders"))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--merge", nargs="+", type=Path, help="join these results instead of measuring")
    options = parser.parse_args()
    options.results = options.results or RECORDS / f"ssl_{options.device}.json"
    if options.merge:
        options.results.write_text(json.dumps(merge(options.merge), indent=1, sort_keys=True))
    else:
        Benchmark(options).run()
    write_record(json.loads(options.results.read_text()), options.results.with_suffix(".md"))


if __name__ == "__main__":
    main()
