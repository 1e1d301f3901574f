"""What `ls`, `show` and `diff` print: tables at a terminal, plain aligned text in a pipe, JSON where asked for."""

import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from marquee.runs.ledger import runs
from marquee.runs.liveness import status_of
from marquee.runs.record import read_manifest
from marquee.runs.terminal import Coloured, folded, printable, table


def status_colour(status: str) -> str:
    """The colour of a run's, job's or sweep's status at a terminal."""
    return {"finished": "green", "running": "cyan", "failed": "red", "pruned": "magenta"}.get(status, "yellow")


# ls ------------------------------------------------------------------------------------------------------------------


def list_runs(output: Path, last: int | None = None, status: str | None = None, as_json: bool = False) -> None:
    """Print the runs under `output`, oldest first."""
    found = [run for run in runs(output) if status in (None, run["status"])]
    found = found[-last:] if last else found
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if not found:
        where = f"No runs in {output / 'runs'}" if status is None else f"No {status} runs in {output / 'runs'}"
        print(f"{where}. Start one: marquee train")
        return
    rows = []
    for run in found:
        metric, value = headline(run)
        rows.append([
            str(run["id"]), Coloured(run["status"], status_colour(run["status"])), run["seed"],
            local(run["started"])[:16], f"{metric} {number(value)}" if metric else "",
        ])  # fmt: skip
    table(["run", "status", "seed", "started", "metric"], rows, spare=["started"])


def headline(run: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """The one test metric that a list has room for: the one that the run's task watched."""
    metrics = run.get("metrics") or {}
    if f"test/{run.get('monitor')}" in metrics:
        return run["monitor"], metrics[f"test/{run['monitor']}"]
    test = ((name.removeprefix("test/"), value) for name, value in metrics.items() if name.startswith("test/"))
    return next(test, (None, None))


# show ----------------------------------------------------------------------------------------------------------------


def show_run(folder: Path, as_json: bool = False) -> None:
    """Print one run: what it was, how it ended, its metrics beside baselines and oracle, its configuration."""
    manifest = read_manifest(folder)
    manifest["status"] = status_of(folder, manifest)
    if as_json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    code, environment = manifest.get("code") or {}, manifest.get("environment") or {}
    typed = shlex.join(["marquee", "train", *(manifest.get("overrides") or [])])
    typed = None if manifest.get("parent") else typed
    facts = [
        ["run", manifest["id"]],
        ["status", Coloured(manifest["status"], status_colour(manifest["status"]))],
        ["error", _error_line(manifest.get("error"))],
        ["folder", str(folder)],
        ["fingerprint", manifest.get("fingerprint")],
        ["parent", (manifest.get("parent") or {}).get("id")],
        ["update", (manifest.get("update") or {}).get("words")],
        ["certificate", _brief(manifest.get("certificate"))],
        [
            "typed",
            None if manifest.get("parent") else shlex.join(["marquee", "train", *(manifest.get("overrides") or [])]),
        ],
        ["started", local(manifest.get("started"))],
        ["finished", local(manifest.get("finished"))],
        ["took", _durations(manifest.get("durations") or {})],
        ["cost", _cost(manifest.get("cost") or {})],
        ["seed", manifest.get("seed")],
        ["code", _code(code)],
        ["machine", ", ".join(str(environment[key]) for key in ("cpu", "gpu", "platform") if environment.get(key))],
        ["checkpoint", _brief(manifest.get("checkpoint"))],
    ]
    table(None, [[name, value] for name, value in facts if value not in (None, "", {}, [])])
    if manifest.get("metrics"):
        print()
        metric_table(manifest)
    print()
    table(["key", "value"], [[key, brief_value(value)] for key, value in flat(manifest.get("config") or {}).items()])


def metric_table(manifest: Mapping[str, Any]) -> None:
    """The test metrics of a run beside its baselines and the oracle."""
    metrics = {name: value for name, value in (manifest.get("metrics") or {}).items() if name.startswith("test/")}
    others = _columns(manifest)
    rows = []
    for name, value in metrics.items():
        short = name.removeprefix("test/")
        rows.append([short, number(value), *(number(_lookup(column, short)) for column in others.values())])
    table(["test metric", "model", *others], rows, numbers=True)


def _columns(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Baselines and oracle as columns: name -> metrics."""
    columns: dict[str, Mapping[str, Any]] = {}
    for name, values in (manifest.get("baselines") or {}).items():
        if isinstance(values, Mapping):
            columns[name.removeprefix("baseline/")] = values
    if isinstance(manifest.get("oracle"), Mapping) and manifest["oracle"]:
        columns["oracle"] = manifest["oracle"]
    return columns


def _lookup(values: Mapping[str, Any], metric: str) -> Any:
    return values.get(metric, values.get(f"test/{metric}"))


# diff ----------------------------------------------------------------------------------------------------------------


def diff_runs(first: Path, second: Path, as_json: bool = False) -> None:
    """Print what differs between two runs: configuration, data, code, environment, and the metrics' deltas."""
    difference = compare(read_manifest(first), read_manifest(second))
    if as_json:
        print(json.dumps(difference, indent=2, ensure_ascii=False))
        return
    a, b = difference["runs"]
    if difference["same_fingerprint"]:
        print(folded(f"{a} and {b} have the same fingerprint: same configuration, data, split and code.") + "\n")
    for section in ("config", "data", "split", "code", "environment"):
        changed = difference[section]
        if changed:
            table([section, "A", "B"], [[key, *map(brief_value, pair)] for key, pair in changed.items()])
            print()
    rows = []
    for name, (one, other) in difference["metrics"].items():
        delta = other - one if _is_number(one) and _is_number(other) else None
        rows.append([name, number(one), number(other), f"{delta:+.4f}" if delta is not None else ""])
    if rows:
        table(["metric", "A", "B", "B - A"], rows, numbers=True)
        print()
    print(printable(f"A  {a}\nB  {b}"))


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The differences of two manifests: {section: {key: [A, B]}}; metrics are all listed, changed or not."""
    result: dict[str, Any] = {
        "runs": [first["id"], second["id"]],
        "same_fingerprint": first.get("fingerprint") == second.get("fingerprint"),
    }
    for section in ("config", "data", "split", "code", "environment"):
        one, other = flat(first.get(section) or {}), flat(second.get(section) or {})
        keys = [*one, *(key for key in other if key not in one)]
        pairs = {key: [one.get(key), other.get(key)] for key in keys}
        result[section] = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    one, other = first.get("metrics") or {}, second.get("metrics") or {}
    keys = [*one, *(key for key in other if key not in one)]
    result["metrics"] = {key: [one.get(key), other.get(key)] for key in keys}
    return result


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """{"model.view.batch_size": 2048, ...} of nested mappings; lists are values."""
    if not isinstance(content, Mapping):
        return {prefix or "value": content}
    result: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        result.update(flat(value, name) if isinstance(value, Mapping) and value else {name: value})
    return result


# Words ---------------------------------------------------------------------------------------------------


def number(value: Any) -> str:
    """Four decimals for measures, whole numbers as they are."""
    if not _is_number(value):
        return "" if value is None else str(value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def local(moment: str | None) -> str:
    """A UTC time of a manifest as the reader's clock shows it."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def brief_value(value: Any) -> str:
    """A configuration value on one line; absent and null look alike."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part is not None)
    return "" if value is None else str(value)


def _error_line(error: Any) -> str:
    if isinstance(error, Mapping):
        return f"{error.get('type', 'error')}: {error.get('message', '')}".strip()
    return "" if error is None else str(error)


def _durations(durations: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in durations.items() if _is_number(value))


def _cost(cost: Mapping[str, Any]) -> str:
    parts = [("latency_ms", "ms a prediction"), ("batch_latency_ms", "ms each of many"),
             ("peak_memory_mb", "MB of memory"), ("peak_gpu_memory_mb", "MB on the card"),
             ("size_mb", "MB to ship"), ("energy_j", "J")]  # fmt: skip
    return ", ".join(f"{cost[key]:g} {words}" for key, words in parts if _is_number(cost.get(key)))


def _code(code: Mapping[str, Any]) -> str:
    parts = [f"marquee {code['version']}"] if code.get("version") else []
    if code.get("commit"):
        parts.append(code["commit"][:12] + (" with uncommitted changes" if code.get("dirty") else ""))
    return ", ".join(parts)
