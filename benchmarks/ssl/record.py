"""The record of the measurements: tables and pictures."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

RANDOM = "random start"
GENTLE = "random start, gently"


def write_record(results: Mapping[str, Any], path: Path) -> None:
    """Write the tables to a Markdown file and the picture beside it."""
    machine = results["machine"]
    device = "cuda" if "NVIDIA" in machine["device"] else "cpu"
    steps, learnt = machine["steps"], machine["pretraining_steps"]
    device = "cuda" if "NVIDIA" in machine["device"] else "cpu"
    steps, learnt = machine["steps"], machine["pretraining_steps"]
    lines = [
        "# Encoders that learnt without labels",
        "",
        f"`python benchmarks/ssl/measure.py --jigsaw --pretraining-steps {learnt} --steps {steps} "
        f"--device {device}`",
        "",
        f"{machine['device']}, {machine['threads']} thread(s) per run, torch {machine['torch']}. Each task "
        f"learns for {learnt} steps; each U-Net for {steps}, with the instant classifier at weight "
        f"{machine['preview_weight']:g} and the encoder's rate at {machine['encoder_rate']:g} at first.",
    ]
    for name, rows in results["sets"].items():
        lines += ["", f"## {name}", ""]
        lines += _dice_table(rows["tasks"])
        lines += ["", f"![Dice]({path.stem}_{name}.png)", ""]
        lines += _task_table(rows["tasks"])
        if "jigsaw" in rows:
            lines += ["", *_jigsaw_table(rows["jigsaw"])]
        _draw(rows["tasks"], path.with_name(f"{path.stem}_{name}.png"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _values(row: Mapping[str, Any], budget: str) -> list[float]:
    return list(row.get("dice", {}).get(budget, {}).values())


def _budgets(rows: Mapping[str, Any]) -> list[str]:
    """Return how much is labelled, the least first."""
    there = {budget for row in rows.values() for budget in row.get("dice", {})}
    return sorted(there, key=lambda budget: [int(number) for number in re.findall(r"\d+", budget)])


def _ordered(rows: Mapping[str, Any]) -> list[str]:
    """Return the tasks that have figures, the random start first, then by Dice at the smallest budget."""
    smallest = next(iter(_budgets(rows)), "")
    there = [task for task in rows if _values(rows[task], smallest)]
    best = sorted(there, key=lambda task: -np.mean(_values(rows[task], smallest)))
    untrained = (RANDOM, GENTLE)
    return [task for task in untrained if task in there] + [task for task in best if task not in untrained]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values):.3f}" if len(values) > 1 else "")


def _dice_table(rows: Mapping[str, Any]) -> list[str]:
    budgets = _budgets(rows)
    lines = [
        "Dice (mean ± standard deviation over the seeds) of U-Nets that learnt from few slices, "
        "in brackets the mean difference to the random start with the same seed; and of a linear classifier "
        "on frozen features.",
        "",
        "| start | " + " | ".join(budgets) + " | linear probe |",
        "|---|" + "---|" * (len(budgets) + 1),
    ]
    for task in _ordered(rows):
        row = rows[task]
        cells = []
        for budget in budgets:
            values, base = row["dice"].get(budget, {}), rows.get(RANDOM, {}).get("dice", {}).get(budget, {})
            both = [values[seed] - base[seed] for seed in values if seed in base]
            gain = f" ({np.mean(both):+.3f})" if both and task != RANDOM else ""
            cells.append(_spread(list(values.values())) + gain)
        probe = _spread(list(row.get("probe", {}).values()))
        lines.append(f"| {task} | " + " | ".join(cells) + f" | {probe} |")
    lines += [f"\n{task} was refused: {row['refused']}" for task, row in rows.items() if "refused" in row]
    return lines


def _task_table(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "How well the tasks were solved, on volumes kept aside where there are enough; alignment and "
        "uniformity (Wang & Isola 2020, less is better) of the features. Better after: until a task "
        "was solved 2 % better than trivially, and stayed so.",
        "",
        "| task | figure | before | after | trivial | better after | alignment | uniformity | spread | s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task in _ordered(rows):
        row = rows[task]
        if "curve" not in row:
            continue
        first, last = row["curve"][0], row["curve"][-1]
        spread = f"{last[5]:.2f}" + (" (collapsed)" if row["collapsed"] else "")
        lines.append(
            f"| {task} | {row['figure']} | {first[1]:.3f} | {last[1]:.3f} | {last[2]:.3f} | "
            f"{_better_after(row)} | {last[3]:.2f} | {last[4]:.2f} | {spread} | "
            f"{row['pretraining_seconds']:.0f} |"
        )
    return lines


def _better_after(row: Mapping[str, Any]) -> str:
    """Return after how many seconds a task was solved better than trivially, and stayed so."""
    sign = 1 if row["figure"] == "accuracy" else -1
    better = [sign * (value - trivial) > 0.02 * trivial for _, value, trivial, *_ in row["curve"]]
    if not better[-1]:
        return "never"
    first = max((number + 1 for number, is_better in enumerate(better) if not is_better), default=0)
    return f"{row['pretraining_seconds'] * row['curve'][first][0] / row['pretraining_steps']:.0f} s"


def _jigsaw_table(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "Jigsaw: the set of permutations of 2×2×2 tiles (the lecture's table), accuracy on other volumes, "
        "and Dice at the smallest budget.",
        "",
        "| permutations | chosen | average Hamming distance (of 8) | accuracy (by chance) | Dice |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows.values(), key=lambda row: (row["kind"], row["permutations"])):
        last = row["curve"][-1]
        [budget] = row["dice"]
        words = "far apart" if row["kind"] == "distant" else "near each other"
        lines.append(
            f"| {row['permutations']} | {words} | {row['hamming']:.2f} | {last[1]:.3f} ({last[2]:.3f}) | "
            f"{_spread(_values(row, budget))} |"
        )
    return lines


def _draw(rows: Mapping[str, Any], path: Path) -> None:
    """Draw the Dice of each start: its mean, and the seeds as small dots."""
    tasks, budgets = _ordered(rows), _budgets(rows)
    if not tasks:
        return
    figure, axes = plt.subplots(
        1,
        len(budgets),
        figsize=(4 * len(budgets), 0.32 * len(tasks) + 1.2),
        sharey=True,
        layout="constrained",
    )
    for axis, budget in zip(np.atleast_1d(axes), budgets, strict=True):
        for place, task in enumerate(reversed(tasks)):
            values = _values(rows[task], budget)
            if values:
                axis.plot(
                    np.mean(values),
                    place,
                    "o",
                    color="0.5" if task in (RANDOM, GENTLE) else "tab:blue",
                    markersize=9,
                )
                axis.plot(values, [place] * len(values), "k.", markersize=4)
        base = _values(rows.get(RANDOM, {}), budget)
        if base:
            axis.axvline(np.mean(base), color="k", linewidth=0.8)
        everything = [value for task in tasks for value in _values(rows[task], budget)]
        axis.set_xlim(min(everything) - 0.02, max(everything) + 0.02)
        axis.grid(axis="y", alpha=0.3)
        axis.set_title(budget)
        axis.set_xlabel("Dice")
    np.atleast_1d(axes)[0].set_yticks(range(len(tasks)), list(reversed(tasks)))
    figure.savefig(path, dpi=110)
    plt.close(figure)
