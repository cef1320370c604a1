"""The record of the measurements as a page of tables."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

NAMES = {"hippocampus": "real hippocampus MR, about 36 × 50 × 36", "generated": "generated, 256 × 256 × 256"}


def write_record(results: Mapping[str, Any], path: Path) -> None:
    """Write the tables to a Markdown file."""
    machine, cohorts = results["machine"], results["cohorts"]
    words = " ".join(results["arguments"])
    lines = [
        "# Batches beside a bare loop",
        "",
        f"`python benchmarks/batch/measure.py {words}`".replace(" `", "`"),
        "",
        f"{machine['device']}, {machine['cores']} cores, torch {machine['torch']}; load before: "
        f"{machine['load']:.1f}. Ours: `sparseseg predict` with hashes, checks, records, thumbnails and a "
        "report. Bare: nibabel, MONAI's `sliding_window_inference` at its defaults, argmax, nibabel. Same "
        "network, window and overlap, volumes smaller than a window padded at the same sides; the clock "
        "starts when the libraries are loaded. Medians of "
        f"{len(next(iter(cohorts.values()))['ours'])} turns; the ratio is the median of each turn's ratio.",
        "",
        "| volumes | number | ours, cases a minute | bare, cases a minute | ratio | Dice ours | Dice bare "
        "| Dice bare, blended as ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in cohorts.items():
        ours, bare = (60 * row["cases"] / _median(row[loop], "seconds") for loop in ("ours", "bare"))
        lines.append(
            f"| {NAMES[name]} | {row['cases']} | {ours:.1f} | {bare:.1f} | {row['ratio']:.2f} "
            f"| {row['ours_dice']:.4f} | {row['bare_dice']:.4f} "
            f"| {row['gaussian_dice']:.4f} |"
        )
    ours, bare = (sum(_median(row[loop], "seconds") for row in cohorts.values()) for loop in ("ours", "bare"))
    cases = sum(row["cases"] for row in cohorts.values())
    lines.append(
        f"| all | {cases} | {60 * cases / ours:.1f} | {60 * cases / bare:.1f} | {bare / ours:.2f} | | | |"
    )
    lines += ["", *_describe_load(cohorts), ""]
    lines += [
        "| cases in a batch | peak memory, MiB | before the first volume, MiB | seconds |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['cases']} | {row['peak_mib']:.0f} | {row['before_mib']:.0f} | {row['seconds']:.2f} |"
        for row in results["counts"]
    ]
    fit = results["depths"]
    lines += ["", "| million voxels | seconds |", "|---|---|"]
    lines += [f"| {row['voxels'] / 1e6:.2f} | {row['seconds']:.2f} |" for row in fit["rows"]]
    lines += [
        "",
        f"A line fits them: {fit['seconds_per_million']:.3f} s a million voxels and {fit['start']:.2f} s at "
        f"the start, R² = {fit['r_squared']:.4f}.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _describe_load(cohorts: Mapping[str, Any]) -> list[str]:
    """Say how busy the processor, or the GPU, was with ours, and what starting the process adds."""
    parts = []
    for name, row in cohorts.items():
        processor = _median(row["ours"], "processor_seconds") / _median(row["ours"], "seconds")
        text = f"{NAMES[name]}: {processor:.2f} cores busy"
        if "busy_share" in row["ours"][0]:
            text += f", the GPU {100 * _median(row['ours'], 'busy_share'):.0f} % of the time"
        whole = _median(row["bare"], "process_seconds") / _median(row["ours"], "process_seconds")
        parts.append(f"{text}; with the start of the processes the ratio is {whole:.2f}.")
    return parts


def _median(rows: list[dict[str, Any]], name: str) -> float:
    return median(row[name] for row in rows)
