"""What the head of a recipe says: command, jobs, minutes, the published number, ours, and how its values were chosen.

    # @package _global_
    # Command:   marquee train experiment=replicate/ml100k_ease
    # Jobs:      split.seed=0,1,2
    # Minutes:   0.2 on 2 cores                       or: 1.4 on one NVIDIA H100
    # Reference: ndcg@10 >= 0.330 (source, protocol)  or several: recall@10 >= 0.305, ndcg@10 >= 0.175 (...); none (why)
    # Ours:      ndcg@10 0.3326 ± 0.0047 (3 jobs; torch 2.13.0, numpy 2.4.6; AMD EPYC)            or: none (why)
    # Chosen:    how the hyperparameters were
    # Note:      what differs from the reference's protocol, why it is missed
    #            and more

Only `Note` may be left out. Each entry may go on over lines as the last one. A row that has not been run yet says `?`
in the places of Minutes and Ours, or `none yet`.
"""

import itertools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from marquee.errors import ConfigError

GROUP = "replicate"  # the folder below conf/experiment
KEYS = ("Command", "Jobs", "Minutes", "Reference", "Ours", "Chosen", "Note")
PACKAGES = ("torch", "numpy", "marquee", "data")  # what `Ours` says of versions; data: the fingerprint's first digits
UNKNOWN = ("?", "none yet")
INDENT, WIDTH = 13, 120

_METRIC, _NUMBER = r"[A-Za-z_][\w@.\-]*", r"(?:\d*\.)?\d+"
_ENTRY = re.compile(r"# ([A-Z]\w*):\s+(\S.*)")
_MORE = re.compile(r"#\s{3,}(\S.*)")
_BOUND = re.compile(rf"({_METRIC}) (>=|≥|<=|≤) (-?{_NUMBER})")
_FIGURE = re.compile(rf"({_METRIC}) (-?{_NUMBER})(?: ± ({_NUMBER}))?")
_MINUTES = re.compile(rf"({_NUMBER}) on (\d+ cores?|one \S.*?)(?: \((.+)\))?")
_VERSION = re.compile(rf"({'|'.join(PACKAGES)}) (\S+(?: and \S+)*)")


class Bound(NamedTuple):
    """A published number: a metric is to reach it from below (`least`), or an error from above."""

    metric: str
    least: bool
    text: str

    @property
    def value(self) -> float:
        return float(self.text)

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.text}"


class Figure(NamedTuple):
    """A metric over jobs, with the digits that are written; `sd` is None for one job."""

    metric: str
    mean: float
    sd: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.sd is None else f" ± {self.sd:.4f}")


@dataclass(frozen=True)
class Measured:
    """What `Ours` says."""

    figures: tuple[Figure, ...]
    jobs: int
    versions: dict[str, str]
    machine: str

    def figure(self, metric: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.metric == metric), None)

    def __str__(self) -> str:
        told = ", ".join(f"{figure.metric} {figure}" for figure in self.figures)
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{told} ({'; '.join(filter(None, [jobs_word(self.jobs), versions, self.machine]))})"


@dataclass(frozen=True)
class Recipe:
    """A row: a recipe's name and what its head says. `ours` is None where there is no number, `unmeasured` says why."""

    name: str
    file: Path
    jobs: tuple[str, ...]
    spent: str
    bounds: tuple[Bound, ...]
    source: str
    ours: Measured | None
    unmeasured: str
    chosen: str
    notes: tuple[str, ...]

    @property
    def minutes(self) -> str:
        """The number in `Minutes`."""
        return self.spent.partition(" ")[0]

    @property
    def note(self) -> str:
        return " ".join(self.notes)

    def bound(self, metric: str) -> Bound | None:
        return next((bound for bound in self.bounds if bound.metric == metric), None)

    def metrics(self, watched: str) -> list[str]:
        """Those of the reference, then others that `Ours` has; where there are none, the one that runs `watched`."""
        own = self.ours.figures if self.ours else ()
        return list(dict.fromkeys(part.metric for part in (*self.bounds, *own))) or [watched]

    def words(self, seeds: str | None = None) -> list[str]:
        """The words of its jobs, with other seeds where some are given."""
        if seeds is None:
            return list(self.jobs)
        if not any(word.startswith("seed=") for word in self.jobs):
            raise ConfigError(
                f"--seeds {seeds}: {self.name} has no seeds, its jobs are {' '.join(self.jobs)}. Leave --seeds out."
            )
        return [f"seed={seeds}" if word.startswith("seed=") else word for word in self.jobs]


def cells(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The jobs that a grid of words makes, each as its words: `seed=1,2` makes two."""
    parts = [(key, value.split(",")) for key, _, value in (word.partition("=") for word in words)]
    return list(itertools.product(*([f"{key}={value}" for value in values] for key, values in parts)))


def jobs_word(count: int) -> str:
    return f"{count} job{'' if count == 1 else 's'}"


# Finding -------------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The names of all recipes, those of MARQUEE_CONF and of plug-ins too."""
    from marquee.config.folders import options

    return [name.removeprefix(f"{GROUP}/") for name in options("experiment") if name.startswith(f"{GROUP}/")]


def chosen(asked: Sequence[str]) -> list[str]:
    """The names that words mean, which may be patterns. Raises ConfigError for one that means none."""
    from fnmatch import fnmatchcase

    from marquee.config.targets import closest

    known, found = names(), {}
    for word in asked:
        word = word.removeprefix(f"{GROUP}/")
        of_word = [name for name in known if fnmatchcase(name, word)]
        if not of_word:
            near = closest(word, known)
            raise ConfigError(
                f"{word} is no recipe of conf/experiment/{GROUP}.{f' Did you mean {near}?' if near else ''}\n"
                "  without a name, all are listed: python scripts/replicate.py"
            )
        found.update(dict.fromkeys(of_word))
    return list(found)


def read(name: str) -> Recipe:
    """A recipe by its name. Raises ConfigError that names file and line."""
    from marquee.config.folders import file_of_option

    return parse(name, file_of_option("experiment", f"{GROUP}/{name}"))


# Reading -------------------------------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """An entry of the head with the lines that it stands on, from 0."""

    first: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)


def parse(name: str, file: Path) -> Recipe:
    """What the head of a recipe's file says."""
    try:
        entries = _entries(file, file.read_text(encoding="utf-8").split("\n"))
    except UnicodeDecodeError as error:
        raise _wrong(file, 0, f"it is no text in UTF-8 ({error}).") from error

    def wrong(key: str, allowed: str) -> ConfigError:
        entry = entries[key]
        return _wrong(file, entry.first, f"`{key}: {entry.text}` cannot be read.\n  allowed: {allowed}")

    command = f"marquee train experiment={GROUP}/{name}"
    if entries["Command"].text != command:
        raise wrong("Command", command)
    jobs = tuple(entries["Jobs"].text.split())
    if any(not re.fullmatch(r"[a-z][\w.]*=[\w.\-/]+(,[\w.\-/]+)*", word) for word in jobs):
        raise wrong("Jobs", "words such as seed=1,2,3 or split.fold=0,1,2,3,4: key=value, values joined by commas")
    minutes = _MINUTES.fullmatch(entries["Minutes"].text)
    if minutes is None and entries["Minutes"].text not in UNKNOWN:
        raise wrong("Minutes", "0.5 on 2 cores, or 1.4 on one NVIDIA H100; a remark in parentheses may follow")
    reference, source = _with_remark(entries["Reference"].text)
    bounds = [_BOUND.fullmatch(part) for part in reference.split(", ")]
    if not source or (reference != "none" and not all(bounds)):
        raise wrong("Reference", "rmse <= 0.934 (source), recall@10 >= 0.305, ndcg@10 >= 0.175 (source), none (why)")
    text = entries["Ours"].text
    found, remark = ("none", "not run yet") if text in UNKNOWN else _with_remark(text)
    ours = _measured(found, remark) if found != "none" else None
    if not remark or (ours is None and found != "none"):
        raise wrong("Ours", "ndcg@10 0.3326 ± 0.0047 (3 jobs; torch 2.13.0; AMD EPYC), none (why)")
    pairs = [word.partition("=") for word in jobs]
    listed = [("Jobs", [key for key, _, _ in pairs]), *(("Jobs", values.split(",")) for _, _, values in pairs),
              ("Reference", [bound[1] for bound in bounds if bound]),
              ("Ours", [figure.metric for figure in ours.figures] if ours else [])]  # fmt: skip
    for key, parts in listed:
        if twice := [part for part in parts if parts.count(part) > 1]:
            raise wrong(key, f"{twice[0]} once, which stands here twice")
    recipe = Recipe(
        name, file, jobs, entries["Minutes"].text,
        tuple(Bound(bound[1], bound[2] in (">=", "≥"), bound[3]) for bound in bounds if bound),
        source, ours, "" if ours else remark, entries["Chosen"].text,
        entries["Note"].lines if "Note" in entries else (),
    )  # fmt: skip
    if ours and (absent := [bound.metric for bound in recipe.bounds if ours.figure(bound.metric) is None]):
        told = f"`Ours` has no {', '.join(absent)}, which `Reference` has.\n  fix: write `?` there, and run the row"
        raise _wrong(file, entries["Ours"].first, told)
    return recipe


def _entries(file: Path, lines: Sequence[str]) -> dict[str, _Entry]:
    """The entries of the head by their keys."""
    if lines[0].rstrip() != "# @package _global_":
        raise _wrong(file, 0, "a recipe begins with `# @package _global_`.")
    found: dict[str, _Entry] = {}
    key = ""
    for number, line in enumerate(lines[1:], 1):
        if not line.startswith("#"):
            break
        if more := _MORE.fullmatch(line.rstrip()):
            if not key:
                raise _wrong(file, number, "this line goes on with an entry, and none has begun.")
            found[key] = found[key]._replace(lines=(*found[key].lines, more[1]))
            continue
        entry = _ENTRY.fullmatch(line.rstrip())
        if entry is None or entry[1] not in KEYS:
            allowed = f"{', '.join(KEYS)}; each as `# Key: text`, going on over lines that begin with `#` and 3 spaces"
            raise _wrong(file, number, f"`{line}` is no entry of a head.\n  allowed: {allowed}")
        key = entry[1]
        if key in found:
            raise _wrong(file, number, f"{key} stands here a second time; first on line {found[key].first + 1}.")
        found[key] = _Entry(number, (entry[2],))
    if missing := [name for name in KEYS[:-1] if name not in found]:
        raise _wrong(file, 0, f"the head has no {', '.join(missing)}.")
    return found


def _with_remark(text: str) -> tuple[str, str]:
    """`ndcg@10 >= 0.3 (EASE (2019))` as what stands before the parentheses at its end, and in them."""
    found = re.fullmatch(r"(.*?) \((.+)\)", text)
    return (found[1], found[2]) if found else (text, "")


def _measured(figures: str, remark: str) -> Measured | None:
    found = [_FIGURE.fullmatch(part) for part in figures.split(", ")]
    count = re.fullmatch(r"(\d+) jobs?; (.+)", remark)
    if not all(found) or count is None:
        return None
    parts = re.split(r"[;,] ", count[2])
    versions = {match[1]: match[2] for part in parts if (match := _VERSION.fullmatch(part))}
    machine = ", ".join(part for part in parts if not _VERSION.fullmatch(part))
    numbers = tuple(Figure(part[1], float(part[2]), float(part[3]) if part[3] else None) for part in found if part)
    return Measured(numbers, int(count[1]), versions, machine) if machine else None


def _wrong(file: Path, number: int, text: str) -> ConfigError:
    return ConfigError(f"{file}, line {number + 1}: {text}")


# Writing -------------------------------------------------------------------------------------------------------------


def rewrite(recipe: Recipe, measured: Measured, minutes: str) -> bool:
    """Put new `Ours` and `Minutes` into a recipe's file, in one step; all other lines stay. False: they stood there."""
    from marquee.files import write_text

    before = recipe.file.read_bytes().decode("utf-8")
    lines = before.split("\n")
    entries = _entries(recipe.file, lines)
    texts = {"Ours": str(measured), "Minutes": minutes}
    for key, entry in sorted(entries.items(), key=lambda pair: -pair[1].first):  # from below: lines may become more
        if key not in texts:
            continue
        end = "\r" if lines[entry.first].endswith("\r") else ""
        new = textwrap.wrap(
            texts[key], WIDTH, initial_indent=f"# {key}:".ljust(INDENT), subsequent_indent="#".ljust(INDENT),
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        lines[entry.first : entry.first + len(entry.lines)] = [line + end for line in new]
    after = "\n".join(lines)
    if after != before:
        write_text(recipe.file, after)
    return after != before
