"""Replicate published numbers: run recipes of conf/experiment/replicate/ and say how what they find stands to them.

    python scripts/replicate.py [NAME ...] [--seeds 1,2,3] [KEY=VALUE ...]
    python scripts/replicate.py [NAME ...] --list | --write | --page

Without a name, all recipes are listed. NAME may be a pattern, 'ml100k_*'. Each recipe's jobs run as the sweep
replicate_NAME: what is finished with the code at hand is taken as it is, what was interrupted goes on. KEY=VALUE says
where and how jobs run (hydra.launcher.n_jobs=2, trainer=auto, tracker=none, paths.output=FOLDER), nothing that would
make another experiment. --write and --page take runs of other code, too.

Exit code: 0 all ran and reproduced their recipes; 1 a row differs from its recipe; 2 configuration; 3 data is missing;
4 a job failed; 130 Ctrl-C.
"""

import argparse
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replications.evidence import Evidence
    from replications.recipes import Recipe

REPOSITORY = Path(__file__).resolve().parents[1]
WIDTH = 80
INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> int:
    typed = list(sys.argv[1:] if words is None else words)
    arguments = _parser().parse_intermixed_args(typed)  # options between names, too
    from marquee.errors import MarqueeError

    try:
        return _act(arguments, typed)
    except MarqueeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        _say_how_to_go_on(typed)
        return INTERRUPTED
    except BrokenPipeError:  # `replicate.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="NAME | KEY=VALUE", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=_seeds, metavar="1,2,3", help="instead of the recipe's own")
    parser.add_argument("--list", action="store_true", help="the recipes with minutes, published number, ours, verdict")
    parser.add_argument("--write", action="store_true",
                        help="run nothing: put what finished runs found into the heads of the recipes")  # fmt: skip
    parser.add_argument("--page", action="store_true",
                        help="run nothing: write the section of docs/results.md of all recipes")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page, instead of docs/results.md")
    return parser


def _seeds(text: str) -> str:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} are no seeds; whole numbers joined by commas, such as 1,2,3")
    return ",".join(dict.fromkeys(str(int(seed)) for seed in text.split(",")))  # 01 would be no whole number


def _act(arguments: argparse.Namespace, typed: Sequence[str]) -> int:
    from replications import recipes, writing
    from replications.evidence import refuse_other_experiments

    from marquee.errors import ConfigError

    overrides = [word for word in arguments.words if "=" in word or word.startswith(("~", "+"))]
    asked = [word for word in arguments.words if word not in overrides]
    if arguments.seeds and (not asked or arguments.list or arguments.write or arguments.page):
        raise ConfigError(f"--seeds {arguments.seeds} is for running: give the NAME of a recipe, and nothing else.")
    if arguments.output and not arguments.page:
        raise ConfigError(f"--output {arguments.output} is the page that --page writes. Runs: paths.output=FOLDER")
    if arguments.list and (arguments.write or arguments.page):
        raise ConfigError("--list is for looking: leave --write and --page out, or type them by themselves.")
    rows = [recipes.read(name) for name in (recipes.chosen(asked) if asked else recipes.names())]
    refuse_other_experiments([recipe.name for recipe in rows] or ["NAME"], overrides)
    output = _output(overrides)
    if arguments.write:
        writing.write(rows, output, bool(asked))
    if arguments.page:
        file = arguments.output or REPOSITORY / "docs" / "results.md"
        writing.page(output, file)  # of all recipes, whatever names were given
    if arguments.write or arguments.page:
        return 0
    if arguments.list or not asked:
        _list(rows, bool(asked))
        return 0
    return _run(rows, arguments.seeds, overrides, output, typed)


def _output(overrides: Sequence[str]) -> Path:
    from marquee.errors import ConfigError

    said = [word.partition("=")[2] for word in overrides if word.lstrip("+").startswith("paths.output=")]
    if said and "${" in said[-1]:
        raise ConfigError(f"paths.output={said[-1]}: here the name of a folder is wanted, not a formula.")
    return Path(said[-1].strip("'\"") if said else os.environ.get("MARQUEE_OUTPUT", "outputs")).expanduser()


# The list ------------------------------------------------------------------------------------------------------------


def _list(rows: "Sequence[Recipe]", asked: bool) -> None:
    from replications.verdicts import WITHIN, against_published

    lines = [("row", "min", "published", "ours", "verdict")]
    for recipe in rows:
        figures = recipe.ours.figures if recipe.ours else ()
        metrics = [part.metric for part in figures or recipe.bounds] or [""]
        for metric in metrics:
            bound, figure = recipe.bound(metric), recipe.ours and recipe.ours.figure(metric)
            verdict = against_published(figure, bound) if bound and figure else "" if figure else "not measured"
            first = (recipe.name, recipe.minutes) if metric == metrics[0] else ("", "")
            published = f"{metric} {bound or ''}".rstrip()
            lines.append((*first, published, str(figure or ""), "within" if verdict == WITHIN else verdict))
    widths = [max(len(line[place]) for line in lines) for place in range(5)]
    beside = sum(widths) + 2 * 4 <= WIDTH  # else the rest stands below the name, which is never cut
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths)]
        if beside:
            print("  ".join(cells).rstrip())
        else:
            print(*[line[0]] * bool(line[0]), "  " + "  ".join(cells[1:]).rstrip(), sep="\n")
    if rows and not asked:
        several = shlex.quote(f"{rows[0].name.partition('_')[0]}_*")
        print("\nrun one, or several:")
        for name in (rows[0].name, several):
            print(f"  python scripts/replicate.py {name}")
        _say("Min: CPU minutes, or minutes on a card. " + _rules("reached", "within tolerance", "beyond: check"))


def _rules(*words: str) -> str:
    from replications.verdicts import RULES

    return " ".join(f"{word[0].upper()}{word[1:]}: {RULES[word]}." for word in words)


def _say(text: str, indent: str = "") -> None:
    """Text on lines of 80 columns; long words, which are names and paths, stay whole."""
    print(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent or "  ", break_long_words=False,
                        break_on_hyphens=False))  # fmt: skip


# Running -------------------------------------------------------------------------------------------------------------


def _run(
    rows: "Sequence[Recipe]", seeds: str | None, overrides: Sequence[str], output: Path, typed: Sequence[str]
) -> int:
    """Run the rows in turn; the exit code."""
    from replications.evidence import evidence, sweep_name, versions_here
    from replications.recipes import GROUP

    from marquee.cli.main import main as marquee
    from marquee.errors import ConfigError, JobError
    from marquee.sweeps import session

    words = {recipe.name: recipe.words(seeds) for recipe in rows}  # also says where there are no seeds
    _look_ahead(rows, words, overrides)
    here = versions_here()
    for recipe in rows:
        _note_versions(recipe, here, "this installation")
    codes, found = [], []
    for recipe in rows:
        name, earlier = sweep_name(recipe), session.current()
        row_words = [f"experiment={GROUP}/{recipe.name}", *words[recipe.name], *overrides, f"sweep={name}"]
        code = marquee(["train", "-m", *row_words])
        jobs = session.current().jobs if session.current() is not earlier else []
        print()
        if code == INTERRUPTED:
            break
        # A job that began and could not finish, for whatever reason; else what kept all of them from being started.
        codes.append(JobError.exit_code if any(job.status == "failed" for job in jobs) else code)
        if code == 0:
            of_row = evidence(recipe, output, words[recipe.name], jobs)
            if of_row is None:
                raise ConfigError(f"{name} has left no sweep in {output}, so there is nothing to compare.")
            found.append(of_row)
    differ = [of_row.recipe.name for of_row in found if not _compared(of_row, here)]
    if found:
        _say(_rules("reached", "within tolerance", "beyond: check", "reproduced"))
    for recipe, code in zip(rows, codes):
        if code:
            print(f"{recipe.name}: not all of its jobs are finished, see above")
    if len(codes) < len(rows):
        _say_how_to_go_on(typed)
        return INTERRUPTED
    return next((code for code in codes if code), 1 if differ else 0)


def _look_ahead(rows: "Sequence[Recipe]", words: dict[str, list[str]], overrides: Sequence[str]) -> None:
    """Before the first job of the first row: the metrics and the files of all. Raises DataError for what is missing."""
    from replications.evidence import refuse_unknown_metrics
    from replications.files import look
    from replications.recipes import GROUP, cells

    from marquee.config.compose import compose_all

    values = [word for word in overrides if not word.lstrip("+").startswith(("hydra.", "hydra/"))]
    jobs = [(recipe.name, cell) for recipe in rows for cell in cells(words[recipe.name])]
    composed = compose_all([[f"experiment={GROUP}/{name}", *cell, *values] for name, cell in jobs])
    configs = {name: job.config for (name, _), job in zip(jobs, composed)}
    for recipe in rows:
        refuse_unknown_metrics(recipe, configs[recipe.name])
    for note in look([(name, job.config) for (name, _), job in zip(jobs, composed)]):
        _say(f"note: {note}")


def _note_versions(recipe: "Recipe", now: dict[str, str], whose: str) -> None:
    from replications.evidence import other_versions

    if recipe.ours and (others := other_versions(recipe.ours.versions, now)):
        _say(f"note: {recipe.name} was measured with other versions than {whose} has: {', '.join(others)}")


def _compared(of_row: "Evidence", here: dict[str, str]) -> bool:
    """Print how a row's numbers stand to what is published and to its recipe's; whether it reproduces the recipe."""
    from replications.evidence import versions_of
    from replications.recipes import jobs_word
    from replications.verdicts import REPRODUCED, against_own, against_published, own_tolerance, published_tolerance

    recipe, whole = of_row.recipe, True
    _say(f"{recipe.name}: {jobs_word(len(of_row.runs))}, {of_row.spent}")
    for figure in of_row.measured.figures:
        print(f"  {figure.metric} {figure}")
        if bound := recipe.bound(figure.metric):
            tolerance = f"tolerance {published_tolerance(figure, bound):.4f}"
            print(f"    published {str(bound):<17} {tolerance}  {against_published(figure, bound)}")
        if own := recipe.ours and recipe.ours.figure(figure.metric):
            verdict = against_own(figure, own)
            whole = whole and verdict == REPRODUCED
            print(f"    recipe    {str(own):<17} tolerance {own_tolerance(own):.4f}  {verdict}")
    if recipe.ours is None:
        _say(f"The recipe has no number of its own so far: {recipe.unmeasured}. --write puts this one there.", "    ")
    _note_versions(recipe, {**here, **versions_of(of_row.manifest)}, "what has run")
    experiment, machine = of_row.differences
    if experiment or machine:
        _say(f"note: it ran with {'; '.join([*experiment, *machine])}")
    print()
    return whole


def _say_how_to_go_on(typed: Sequence[str]) -> None:
    print(f"interrupted; the same again goes on:\n  {shlex.join(['python', 'scripts/replicate.py', *typed])}",
          file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
