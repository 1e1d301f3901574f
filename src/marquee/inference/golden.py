"""Golden requests: a few questions with the answers that a run gave when it was trained, in its `inference/` folder.

Whoever loads the run later, with other versions or on another machine, asks them again before it answers others.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.data.cache import file_sha256
from marquee.errors import DataError
from marquee.inference.artefacts import WEIGHTS, read_model
from marquee.inference.predictor import Predictor, predictor_of

GOLDEN = "golden.json"
FORMAT = 1
TOLERANCE = 1e-3  # of the largest number of an answer: other processors and threads round otherwise, about 1e-6
SECONDS = 0.05  # a slow model is asked fewer questions: a run should not wait for them

log = logging.getLogger("marquee")


def write_golden(folder: Path) -> None:
    """Load the run of an `inference/` folder, ask it its golden questions, and write them down with the answers.

    To be called after whatever writes such a folder. A run that nothing answers with has none.
    """
    import torch

    if read_model(folder)["predictor"] is None:
        return
    try:
        with torch.random.fork_rng(devices=[]):  # a model that is loaded draws its first weights
            predictor = predictor_of(folder)
            requests = answered(predictor)
    except Exception as error:  # a trained run is worth more than its golden requests
        log.warning("no golden requests: %s", error)
        return
    content = {"format": FORMAT, "tolerance": TOLERANCE, "requests": requests, "files": _sums(folder)}
    (folder / GOLDEN).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def stated_sums(folder: Path) -> dict[str, str]:
    """The sha256 of the files of an `inference/` folder as they were written, by name; the manifest has the weights'.

    Nothing where the folder is of an earlier version. Raises DataError for a damaged file.
    """
    return dict(_read(folder).get("files") or {}) if (folder / GOLDEN).is_file() else {}


def _sums(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: file_sha256(file) for name, file in names.items() if name not in (GOLDEN, WEIGHTS)}


def _read(folder: Path) -> dict[str, Any]:
    file = folder / GOLDEN
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        sums = content.get("files") or {}
        if not all(isinstance(value, str) for value in sums.values()):
            raise TypeError("files are not sums by name")
        return content
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}).") from error


def answered(predictor: Predictor) -> list[dict[str, Any]]:
    """The predictor's golden questions with its answers, as many as SECONDS leave time for, and at least one."""
    found: list[dict[str, Any]] = []
    began = time.perf_counter()
    for question in predictor.golden():
        found.append({"question": question, "answer": predictor.told(question)})
        if time.perf_counter() - began > SECONDS:
            break
    return found


def differences(predictor: Predictor, folder: Path) -> list[str] | None:
    """Where a loaded predictor answers otherwise than its folder says, a line a question.

    None where the folder, of an earlier version, says nothing. Raises DataError for a damaged file.
    """
    file = folder / GOLDEN
    if not file.is_file():
        return None
    content = _read(folder)
    try:
        requests, tolerance = content["requests"], float(content["tolerance"])
        pairs = [(request["question"], request["answer"]) for request in requests]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}).") from error
    found = []
    for number, (question, answer) in enumerate(pairs, start=1):
        told = json.loads(json.dumps(predictor.told(question)))
        if said := difference(answer, told, tolerance):
            found.append(f"golden request {number}: {said}")
    return found


def difference(then: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]], tolerance: float) -> str | None:
    """What differs between two answers, columns by name; None where numbers agree up to the tolerance.

    Things that are ranked (a column `item_id` with `score`) may change places where their scores are that close.
    """
    if set(then) != set(now):
        return f"columns {', '.join(now)}, and {', '.join(then)} then"
    if "item_id" in then and "score" in then:
        return _ranked(then, now, tolerance)
    for name, column in then.items():
        if len(column) != len(now[name]):
            return f"{name} has {len(now[name])} values, and {len(column)} then"
        limit = tolerance * max([1e-6, *(abs(value) for value in column if isinstance(value, float))])
        for value, other in zip(column, now[name], strict=True):
            if value != other and not (_numbers(value, other) and abs(value - other) <= limit):
                return f"{name} is {other!r}, and {value!r} then"
    return None


def _ranked(then: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]], tolerance: float) -> str | None:
    if len(then["score"]) != len(now["score"]):
        return f"{len(now['score'])} items, and {len(then['score'])} then"
    if not then["score"]:
        return None
    limit = tolerance * max(1e-6, max(map(abs, then["score"])))
    own = dict(zip(now["item_id"], now["score"], strict=True))
    for item, score in zip(then["item_id"], then["score"], strict=True):
        # One that is gone may have been overtaken by an item that is as good.
        other = own.get(item, now["score"][-1])
        if not abs(other - score) <= limit:
            return f"item {item} has the score {other:.6g}, and {score:.6g} then"
    return None


def _numbers(one: Any, other: Any) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
