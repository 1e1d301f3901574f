"""`update` and `forget`: a child run beside its parent, an ordinary folder that every verb takes."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marquee.apply.updating.events import arrived
from marquee.apply.updating.judging import certificate, in_words, judge
from marquee.apply.updating.learning import WORDS, learn
from marquee.apply.updating.lineage import Lineage, lineage_of
from marquee.config.fingerprint import canonical
from marquee.data.cache import file_sha256
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.growing import hashed
from marquee.errors import ConfigError, DataError
from marquee.files import replacing, sync
from marquee.inference.artefacts import WEIGHTS, load_model, save_model
from marquee.inference.golden import write_golden
from marquee.inference.names import Ids
from marquee.inference.predictor import DAMAGE
from marquee.runs.code import code_identity
from marquee.runs.environment import environment
from marquee.runs.finding import run_folders_of
from marquee.runs.liveness import status_of
from marquee.runs.lock import Taken, hold, release, told
from marquee.runs.record import Run, read_manifest, unwritable
from marquee.runs.recording import recording
from marquee.runs.train import evaluate_references

log = logging.getLogger("marquee")


@dataclass(frozen=True)
class Options:
    """How a child is made.

    epochs   of training on, or sweeps, where the model has no exact way; who forgets is trained anew, or formed
    replay   how many old users (examples) train beside each that is new
    certify  train another from scratch and compare
    name     of the child
    """

    epochs: int = 5
    replay: float = 1.0
    certify: bool = False
    name: str | None = None


def update(parent: Path, events: Path, options: Options, say: Callable[[str], None] = print) -> Path:
    """The child of a run that knows the events of a file, too; the finished child where there is one already.

    Raises ConfigError for a run that takes no events, Taken where another process works on the same parent, DataError
    for events that cannot be used or that the run is judged by.
    """
    if not events.is_file():
        raise DataError(f"--events {events} does not exist. It takes a .csv, .tsv, .jsonl or .parquet file.")
    again = f"marquee update {parent.name} --events {events}"
    digest = file_sha256(events)
    with _held(parent):
        former = lineage_of(parent)
        told_apart = {"events": digest, "epochs": options.epochs, "replay": options.replay}
        identity, child = _identity(former, told_apart)
        if child is not None and _enough(child, options):
            say(f"These events have made {child.name} of {parent.name} already; nothing is done.")
            return child
        come = arrived(events, former)
        for line in come.lines():
            say(line)
        facts = {"events": {"sha256": digest, **come.report}}
        after = replace(come.lineage, files=(*former.files, digest))
        return _child(former, after, identity, options, facts, again, say, label=f"events {digest[:8]}")


def forget(parent: Path, users: Sequence[str], options: Options, say: Callable[[str], None] = print) -> Path:
    """The child of a run that never knew some users, whose ids stand in none of its files.

    Raises ConfigError for a run without users, and for a user whom it does not know.
    """
    with _held(parent):
        former = lineage_of(parent)
        now = former.now()
        if not isinstance(now, InteractionData):
            raise ConfigError(f"{parent.name} knows no users, so there is nobody to forget. It classifies examples.")
        known = Ids(now.store.user_ids)
        places = [known.position(user) for user in users]
        if None in places:
            raise ConfigError(
                f"User {users[places.index(None)]!r} is not in this run, which knows {now.store.n_users:,} users such "
                f"as {', '.join(map(str, now.store.user_ids[:3]))}. (Who is forgotten already is not there, either.)"
            )
        if len(set(places)) == now.store.n_users:
            raise ConfigError("These are all users of the run, and nothing would be left to learn from.")
        ids = [now.store.user_ids[place] for place in dict.fromkeys(places)]
        hashes = hashed(ids, former.salt)
        identity, child = _identity(former, {"forgotten": sorted(hashes)})
        if child is not None and _enough(child, options):
            say(f"{child.name} has forgotten them already; nothing is done.")
            return child
        events = former.events
        if events is not None:
            events = events[~events["user"].isin(ids)].reset_index(drop=True)
        left = replace(former, events=events, forgotten=tuple(sorted({*former.forgotten, *hashes})))
        gone = int(np.isin(now.store.users, places).sum())
        say(f"{len(ids):,} users with {gone:,} interactions are to be forgotten")
        facts = {"forgot": {"users": len(ids), "interactions": gone}}
        again = f"marquee forget {parent.name} --user ..."
        made = _child(former, left, identity, options, facts, again, say, label=f"forgot {identity[:8]}", forgets=True)
        say(f"{parent.name} and the data that it was made of still know them: delete those, too.")
        return made


def _child(
    former: Lineage,
    after: Lineage,
    identity: str,
    options: Options,
    facts: dict[str, Any],
    again: str,
    say: Callable[[str], None],
    label: str,
    forgets: bool = False,
) -> Path:
    parent, config = former.manifest, former.config
    config["name"] = options.name
    before, now = former.now(), after.now()
    judged, numbers = after.judged()
    try:
        model, _ = load_model(former.folder / "inference")
    except DAMAGE as error:
        raise DataError(
            f"{former.folder / 'inference'} is damaged ({error}). marquee rerun {former.folder.name}"
        ) from error
    kept = ("code", "model", "data", "split", "seed", "monitor", "mode", "task", "tags", "pretrained")
    content = {key: deepcopy(parent.get(key)) for key in kept}
    content |= {
        "name": options.name, "config": config, "environment": environment(), "code": code_identity(config),
        "parent": {"id": parent["id"], "fingerprint": parent["fingerprint"]}, **facts,
        "update": {"label": label, "forgotten": list(after.forgotten), "files": list(after.files),
                   "events": 0 if after.events is None else len(after.events), "spec": now.spec.to_json()},
    }  # fmt: skip
    slug = options.name or f"{parent['id'].partition('-')[2]}-{'forgot' if forgets else 'updated'}"
    started = time.monotonic()
    run = Run.create(former.folder.parent.parent, identity, slug, content)
    try:
        with recording(run, {**config, "tracker": {}}):
            learnt = learn(config, before, now, model, run.folder, forgets, options.epochs, options.replay)
            how = WORDS[learnt.how].format(epochs=options.epochs, replay=options.replay)
            say(f"learnt: {how}; {learnt.cpu_s:.2f} CPU s")
            task = judge(config, learnt.model, now, judged, numbers)
            found = None
            if options.certify:
                found = certificate(config, learnt.model, now, judged, task, run.folder, learnt.how)
            _record(run, config, learnt, now, after, task, how, found, time.monotonic() - started)
        _compare(run, parent, say)
        if found is not None:
            say(in_words(found))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. {former.folder.name} is as it was. Again: {again}") from None
    finally:
        release(run.folder)
    return run.folder


def _record(run: Run, config, learnt, now, after, task, how, found, seconds: float) -> None:
    metrics, units = task.results["test"]
    with replacing(run.folder / "per_unit.parquet") as file:
        units.to_parquet(file)
    task.write_tables(run.folder)
    after.save(run.folder)
    inference = run.folder / "inference"
    save_model(inference, config["model"], learnt.model, now, task.predictor() or None, task.serves())
    write_golden(inference)
    sync(inference)
    flat = {f"test/{name}": value for name, value in metrics.items()}
    if "validation" in task.results:
        flat[f"validation/{task.monitor}"] = task.results["validation"][0][task.monitor]
    size = sum(file.stat().st_size for file in inference.rglob("*") if file.is_file()) / 1e6
    run.update(
        metrics=flat,
        n_units=len(units),
        parameters=learnt.model.n_parameters,
        durations={"fit": round(seconds, 3)},
        cost={"size_mb": round(size, 3), "fit_cpu_s": learnt.cpu_s},
        checkpoint={"path": None, "weights_sha256": file_sha256(inference / "model.safetensors")},
        update={**run.manifest["update"], "how": learnt.how, "words": how,
                "judged": "as the first ancestor is: on its test part, among its items, from its histories"},
        certificate=found,
        **task.found(),
        **evaluate_references(task),
    )  # fmt: skip


def _identity(former: Lineage, told_apart: dict[str, Any]) -> tuple[str, Path | None]:
    """The child's fingerprint, and the finished run that has it."""
    manifest = former.manifest
    content = {
        "parent": manifest["fingerprint"], "weights": _weights(former),
        "code": code_identity(former.config)["sha256"], **told_apart,
    }  # fmt: skip
    identity = hashlib.sha256(canonical(content).encode()).hexdigest()
    for folder in run_folders_of(former.folder.parent.parent, identity):
        found = read_manifest(folder)
        if found.get("fingerprint") == identity and status_of(folder, found) == "finished":
            return identity, folder
    return identity, None


def _weights(former: Lineage) -> str:
    """The sha256 of the former weights. Raises DataError where they are missing, or others than recorded."""
    file = former.folder / "inference" / WEIGHTS
    again = f"To train it again: marquee rerun {former.folder.name}"
    try:
        found = file_sha256(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}). {again}") from error
    stated = (former.manifest.get("checkpoint") or {}).get("weights_sha256")  # earlier versions have none
    if stated not in (None, found):
        raise DataError(f"{file} is damaged: its sha256 is {found}, and the manifest says {stated}. {again}")
    return found


def _enough(child: Path, options: Options) -> bool:
    """Whether a finished child is what is asked for: one without a certificate is not where one is wanted."""
    return not options.certify or read_manifest(child).get("certificate") is not None


@contextmanager
def _held(parent: Path):
    """One process at a time makes children of a run."""
    try:
        free = hold(parent)
    except OSError as error:
        raise unwritable(parent, error) from error
    if not free:
        raise Taken(
            f"{parent.name} is being updated by {told(parent)}. Wait for it; then the same command again.", parent
        )
    try:
        yield
    finally:
        release(parent)


def _compare(run: Run, parent: dict[str, Any], say: Callable[[str], None]) -> None:
    name = f"test/{run.manifest['monitor']}"
    own, theirs = run.manifest["metrics"].get(name), (parent.get("metrics") or {}).get(name)
    if own is not None and theirs is not None:
        say(f"{name}: {own:.4f}, the parent's {theirs:.4f} ({own - theirs:+.4f}), both on the parent's test part")
    say(f"run: {run.folder}")
