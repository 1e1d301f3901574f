"""The things that a guide talks about: rows of facts, found by name, kind and weight."""

import gzip
import json
import re
import zlib
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from marquee.errors import DataError

TITLES, KINDS = ("title", "name", "名称"), ("genres", "kinds", "categories", "kind", "类型")
YEAR = re.compile(r"\((\d{4})\)\s*$")
_ARTICLE = re.compile(r"(.+), (the|a|an|le|la|les|el|il|der|die|das)", re.I)  # as MovieLens has it: Matrix, The
# How heavy a film of a genre is to watch; what is not named is 0. A guess that serves to order films by mood.
WEIGHTS = {
    "comedy": -1.0, "animation": -0.8, "children's": -0.8, "children": -0.8, "musical": -0.7, "romance": -0.4,
    "adventure": -0.2, "fantasy": -0.2, "western": 0.1, "sci-fi": 0.1, "action": 0.2, "mystery": 0.5,
    "documentary": 0.5,    "drama": 0.7, "crime": 0.7, "thriller": 0.7, "film-noir": 0.9, "war": 1.0, "horror": 1.0,
}  # fmt: skip
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_CHINESE = re.compile("[\u3400-\u9fff]")
LEAST = 0.55  # how alike a name must be to what was said


class Catalogue:
    """Items with what is known of them.

    rows  a row an item; `title` and, where they are known, `kinds` (joined by |) and `weight`, how heavy it is

    `named`, bool [rows], says which have a title: no others can be talked about.

    Raises DataError for a table without titles.
    """

    def __init__(self, rows: pd.DataFrame, source: str):
        title = next((name for name in TITLES if name in rows), None)
        if title is None or not len(rows):
            raise DataError(
                f"{source} is no catalogue: it needs a column {' or '.join(TITLES)}, and a row. Columns seen: "
                f"{', '.join(map(str, rows.columns)) or 'none'}."
            )
        self.source = source
        self.facts = rows.reset_index(drop=True)
        self.title_column = title
        self.kind_column = next((name for name in KINDS if name in rows), None)
        self.titles = [self.fact(row, title) or "" for row in range(len(rows))]
        self.named = np.array([bool(text.strip()) for text in self.titles])
        if not self.named.any():
            raise DataError(f"{source} is no catalogue: its column {title} is empty.")
        self.ids = self.facts["item_id"].tolist() if "item_id" in rows else list(range(1, len(rows) + 1))

    def __len__(self) -> int:
        return len(self.titles)

    def fact(self, row: int, column: str) -> str | None:
        """What stands in a row, as text; None where nothing does."""
        value = self.facts[column].iloc[row]
        if value is None or (isinstance(value, float) and np.isnan(value)) or value == "":
            return None
        return f"{value:g}" if isinstance(value, float) else str(value)

    def kinds(self, row: int) -> list[str]:
        if self.kind_column is None:
            return []
        return [kind for kind in (self.fact(row, self.kind_column) or "").split("|") if kind]

    def of_kind(self, kind: str) -> np.ndarray:
        """Which rows are of a kind, by its name whatever the case, or have it in their title: bool [rows]."""
        wanted = kind.casefold().strip()
        if self.kind_column is None:
            return np.array([wanted in title.casefold() for title in self.titles])
        return np.array([wanted in (own.casefold() for own in self.kinds(row)) for row in range(len(self))])

    def years(self) -> np.ndarray:
        """Of each row, 0 where it is not known."""
        if "year" in self.facts:
            years = pd.to_numeric(self.facts["year"], errors="coerce").to_numpy(float)
            return np.nan_to_num(years, posinf=0, neginf=0).astype(int)
        found = [YEAR.search(title) for title in self.titles]
        return np.array([int(match[1]) if match else 0 for match in found])

    @cached_property
    def weights(self) -> np.ndarray | None:
        """How heavy each is: a column `weight`, else the mean of its kinds' WEIGHTS, else the hours that a visit takes;
        None where nothing says so."""
        if "weight" in self.facts:
            return pd.to_numeric(self.facts["weight"], errors="coerce").fillna(0).to_numpy(float)
        if "游玩时间" in self.facts:
            return np.array([hours(self.fact(row, "游玩时间") or "") for row in range(len(self))])
        known = [[WEIGHTS.get(kind.casefold(), 0.0) for kind in self.kinds(row)] for row in range(len(self))]
        return np.array([np.mean(own) if own else 0.0 for own in known]) if any(map(any, known)) else None

    def common_kinds(self, n: int = 4) -> list[str]:
        """The `n` kinds that most items are of."""
        counts = Counter(kind for row in range(len(self)) for kind in self.kinds(row))
        return [kind for kind, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]]

    def find(self, name: str) -> tuple[int | None, list[str]]:
        """The row that a name means, or None, and up to three titles that are near it.

        A title as written, whatever the case and with or without its year, is found at once; otherwise the cosine of
        words (characters, in Chinese), weighed by how rare they are, decides: LEAST, no other as near, and one has
        all words of the other; a part of several titles means none of them.
        """
        if (row := self._by_words.get(tuple(parts(name.casefold())))) is not None:
            return row, []
        plain = _plain(name)
        scores = self._alike(plain)
        order = np.argsort(-scores, kind="stable")[:3]
        near = [self.titles[row] for row in order if scores[row] > 0]
        sure = scores[order[0]] >= LEAST and (len(order) < 2 or scores[order[1]] < scores[order[0]])
        said, own = set(parts(plain)), set(parts(_plain(self.titles[order[0]])))
        held = [set(self._index[0].get(word, (0.0, []))[1]) for word in said]
        sure = sure and (own <= said or (said <= own and len(set.intersection(*held)) == 1))
        return (int(order[0]) if sure else None), near

    def mentioned(self, message: str) -> list[tuple[int, tuple[str, ...]]]:
        """Which titles stand in a message as whole words (characters, in Chinese), and those words, in its order."""
        words = tuple(parts(message.casefold()))
        longest = max(map(len, self._by_words), default=0)
        found, place = [], 0
        while place < len(words):
            ends = range(min(place + longest, len(words)), place, -1)
            end = next((end for end in ends if words[place:end] in self._by_words), None)
            if end is not None:
                found.append((self._by_words[words[place:end]], words[place:end]))
            place = end or place + 1
        return found

    @cached_property
    def _by_words(self) -> dict[tuple[str, ...], int]:
        """Rows by the words of their titles: with the year, without it, and with a leading article in its place."""
        found: dict[tuple[str, ...], int] = {}
        plain = [YEAR.sub("", title).strip() for title in self.titles]
        for titles in (self.titles, plain, [_ARTICLE.sub(r"\2 \1", title) for title in plain]):
            for row, title in enumerate(titles):
                if words := tuple(parts(title.casefold())):
                    found.setdefault(words, row)
        return found

    @cached_property
    def _index(self) -> tuple[dict[str, tuple[float, list[int]]], np.ndarray]:
        held: dict[str, list[int]] = {}
        for row, title in enumerate(self.titles):
            for word in set(parts(_plain(title))):
                held.setdefault(word, []).append(row)
        n = len(self)
        index = {word: (float(np.log((1 + n) / (1 + len(rows))) + 1), rows) for word, rows in held.items()}
        norms = np.zeros(n)
        for rarity, rows in index.values():
            norms[rows] += rarity**2
        return index, np.sqrt(norms)

    def _alike(self, plain: str) -> np.ndarray:
        index, norms = self._index
        scores, own = np.zeros(len(self)), 0.0
        for word in set(parts(plain)):
            rarity, rows = index.get(word, (float(np.log(1 + len(self)) + 1), []))
            scores[rows] += rarity**2
            own += rarity**2
        return scores / np.maximum(norms * np.sqrt(own), 1e-12)


def read_catalogue(path: Path) -> Catalogue:
    """A catalogue of a .csv, or of a .json (also .gz) with rows, or with pairs of a name and a row as CrossWOZ has."""
    try:
        if path.name.removesuffix(".gz").endswith(".csv"):
            return Catalogue(pd.read_csv(path, dtype=str, keep_default_na=False), str(path))
        if not path.name.removesuffix(".gz").endswith(".json") and path.is_file():
            raise DataError(f"{path}: --catalogue takes a .csv or a .json file, also .gz, with a row an item.")
        raw = path.read_bytes()
        content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. --catalogue takes a .csv or .json file with a row an item.") from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    pairs = isinstance(content, list) and all(isinstance(row, list) and len(row) == 2 for row in content)
    rows = [row[1] for row in content] if pairs else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} holds no list of rows.")
    flat = [{key: value for key, value in row.items() if not isinstance(value, (list, dict))} for row in rows]
    return Catalogue(pd.DataFrame(flat).astype(object), str(path))


def hours(words: str) -> float:
    """The mean of the hours that a text such as "1小时 - 2天" names, eight a day; 0 where it names none."""
    found = [float(n) * (8 if unit == "天" else 1) for n, unit in re.findall(r"([\d.]+)\s*(小时|天)", words)]
    return float(np.mean(found)) if found else 0.0


def _plain(title: str) -> str:
    return " ".join(YEAR.sub("", title).casefold().replace(",", " ").split())


def parts(plain: str) -> list[str]:
    """The words of a text, and the characters of what is Chinese in it."""
    words = _WORDS.findall(plain)
    return [part for word in words for part in (word if _CHINESE.search(word) else [word])]
