"""Draw the test metric of finished runs beside their baselines and oracle, as the README shows it.

    python scripts/figure.py outputs docs/world-ratings.png --data world_ratings --metric ndcg@10

Every bar is the mean over the seeds found; the line on it spans the lowest and the highest seed.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from marquee.runs.finding import run_folders
from marquee.runs.record import read_manifest

INK, MODEL, BASELINE, CEILING = "#22272e", "#3b6ea5", "#b9c3ce", "#d98c2b"


def collect(output: Path, data: str, metric: str) -> tuple[dict[str, list[float]], float | None, str]:
    """Values by model (baselines included), the oracle's value, and the protocol in words."""
    values: dict[str, list[float]] = defaultdict(list)
    oracle, protocol = None, ""
    for folder in run_folders(output):
        manifest = read_manifest(folder)
        if manifest["status"] != "finished" or manifest["data"]["name"] != data:
            continue
        values[manifest["model"]].append(manifest["metrics"][f"test/{metric}"])
        for name, metrics in manifest["baselines"].items():
            values[name] = [metrics[metric]]
        if manifest["oracle"]:
            oracle = manifest["oracle"][metric]
        protocol = f"{manifest['split']['name']}, full ranking" if "@" in metric else manifest["split"]["name"]
    return values, oracle, protocol


def draw(values: dict[str, list[float]], oracle: float | None, title: str, path: Path) -> None:
    """Horizontal bars, best at the top, written as PNG or SVG by the file's ending."""
    names = sorted(values, key=lambda name: sum(values[name]) / len(values[name]))
    longest = max([oracle or 0, *(max(found) for found in values.values())])
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.3), dpi=150)
    for row, name in enumerate(names):
        found = values[name]
        mean = sum(found) / len(found)
        baseline = name.startswith("baseline/") or name == "majority"
        axes.barh(row, mean, color=BASELINE if baseline else MODEL, height=0.66)
        if len(found) > 1:
            axes.plot([min(found), max(found)], [row, row], color=INK, linewidth=1.6, solid_capstyle="butt")
        # Long bars carry their value inside, where it cannot run into the ceiling.
        inside = mean > 0.6 * longest
        place = {"xytext": (-8 if inside else 6, 0), "ha": "right" if inside else "left"}
        end = min(found) if inside else max(found)
        colour = "white" if inside else INK
        axes.annotate(f"{mean:.3f}", (end, row), textcoords="offset points", va="center", color=colour, **place)
    if oracle is not None:
        axes.axvline(oracle, color=CEILING, linewidth=2)
        axes.annotate(
            f"best possible {oracle:.3f}",
            (oracle, -0.4),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            color=CEILING,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, longest * 1.06)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="where runs landed (paths.output)")
    parser.add_argument("picture", type=Path, help="the .png or .svg to write")
    parser.add_argument("--data", default="world_ratings")
    parser.add_argument("--metric", default="ndcg@10")
    chosen = parser.parse_args()
    values, oracle, protocol = collect(chosen.output, chosen.data, chosen.metric)
    if not values:
        parser.error(f"{chosen.output} holds no finished run of data={chosen.data}")
    seeds = max(map(len, values.values()))
    words = f"{chosen.data}: test {chosen.metric} ({protocol}; mean and range of {seeds} seeds)"
    draw(values, oracle, words, chosen.picture)


if __name__ == "__main__":
    main()
