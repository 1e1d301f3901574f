"""What the verbs print in a real terminal of eighty columns: names always, and nothing that is wider or steers it."""

import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios

import numpy as np
import pytest

from marquee.cli.main import main
from marquee.sweeps.listing import print_outcome
from marquee.sweeps.store import Sweep
from marquee.sweeps.view import View

from ..finished_runs import write_run
from ..forked import run

MODELS = ("neighbours/item_knn", "linear/ease", "rnn/gru4rec")
COSTS = {"latency_ms": 0.473, "peak_memory_mb": 489.3, "size_mb": 0.804, "energy_j": 12.25}


def in_terminal(folder, calls):
    """Run each call as a process of a terminal's own, with a line of @ before it, and print what it showed."""
    os.chdir(folder)
    for name, words in calls:
        child, terminal = pty.fork()
        if child == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
            code = ACTS[name](*words)
            sys.stdout.flush()
            os._exit(code or 0)
        shown = b""
        try:
            while part := os.read(terminal, 65536):
                shown += part
        except OSError:  # Linux says so when the other side is closed
            pass
        os.waitpid(child, 0)
        print("@" + json.dumps(shown.decode()))
    return 0


def verb(*words):
    return main(list(words))


def events(folder):
    """The lines of a sweep's plan, of jobs as they end and fail, and of its outcome."""
    sweep = Sweep.open(folder)
    view = View(sweep.name)
    view.sweep, view.jobs, view.told = sweep, sweep.jobs, {job.index: " ".join(job.overrides) for job in sweep.jobs}
    view.say(f"sweep {sweep.name}: 3 jobs, 2 stored, 1 to continue, 1 to run; 2 at a time, and more words than fit")
    view.ended(sweep.jobs[0], {"metrics": {"validation/ndcg@10": 0.15}, "monitor": "ndcg@10"})
    view.failed(sweep.jobs[2], ["error: " + "The loss became NaN. " * 6], folder / "jobs" / "0002.log", again=True)
    print_outcome(sweep.jobs, folder)


ACTS = {"verb": verb, "events": events}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """{what was called: what eighty columns showed}, escape sequences of colour taken out."""
    folder = tmp_path_factory.mktemp("narrow")
    output, generator = folder / "outputs", np.random.default_rng(0)
    base, jobs = generator.random(40), []
    for number, model in enumerate(MODELS):
        settings = {"l2": 77.5 + number, "layers": number}
        for seed in (1, 2):
            made = write_run(output, model, seed, base - 0.1 * number, settings=settings, validation=0.5, cost=COSTS)
            jobs.append({"index": len(jobs), "overrides": [f"model={model}", f"model.l2={77.5 + number}",
                         "callbacks.early_stopping.patience=7", f"seed={seed}"], "model": model, "status": "finished",
                         "run": made.folder.name, "error": None, "attempts": 1, "seconds": 61.0})  # fmt: skip
    jobs[2] |= {"status": "failed", "error": "The loss became NaN. " * 6}
    place = output / "sweeps" / "a-sweep-with-a-name-that-is-not-short"
    place.mkdir(parents=True)
    command = ["marquee", "train", "-m", f"model={','.join(MODELS)}", "seed=1,2", "trainer.max_epochs=100", "x='a b'"]
    record = {"schema_version": 1, "name": place.name, "command": command, "began": "2026-01-01T00:00:00.000+00:00"}
    (place / "sweep.json").write_text(json.dumps({**record, "jobs": jobs}))
    write_run(output, "mf/bpr", 1, base - 0.2, settings={"note": "harmless"}, validation=0.4)
    evil = write_run(output, "mf/bpr", 1, base, settings={"note": "\x1b]0;owned\x07\x1b[2Jx"}, validation=0.5)
    ids = jobs[0]["run"], jobs[2]["run"]
    calls = [("verb", ("ls",)), ("verb", ("ls", place.name)), ("verb", ("sweeps",)), ("verb", ("show", ids[0])),
             ("verb", ("diff", *ids)), ("verb", ("best", "outputs")), ("events", (place,)),
             ("verb", ("compare", "outputs", "--metric", "ndcg@10", "coverage@10", "--reference", "linear/ease")),
             ("verb", ("show", evil.folder.name))]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = run(in_terminal, folder, calls, env={**environment, "TERM": "xterm", "MARQUEE_OUTPUT": "outputs"})
    texts = [json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("@")]
    assert len(texts) == len(calls), done.stderr
    found = {" ".join(map(str, words[:2])) if act == "verb" else act: text.replace("\r\n", "\n")
             for (act, words), text in zip(calls, texts, strict=True)}  # fmt: skip
    return {"place": place, "ids": [job["run"] for job in jobs], "evil": evil.folder.name,
            **{name: re.sub(r"\x1b\[[0-9;]*m", "", text) for name, text in found.items()}}  # fmt: skip


def said(shown):
    return {name: text for name, text in shown.items() if name not in ("place", "ids", "evil")}


def test_nothing_is_wider_than_the_terminal(shown):
    for name, text in said(shown).items():
        wide = [line for line in text.splitlines() if len(line) > 80 and " " in line.strip()]
        assert text.strip() and not wide, (name, wide)


def test_names_of_runs_are_whole_in_ls_and_ls_sweep(shown):
    for run_id in shown["ids"]:
        assert re.search(rf"^{run_id} ", shown["ls"], re.M)
        assert run_id in shown[f"ls {shown['place'].name}"]


def test_every_table_of_compare_names_its_rows(shown):
    text = shown["compare outputs"]
    for part in re.split(r"─+\n", text)[1:]:
        rows = part.split("\n\n")[0].splitlines()
        assert rows and all(re.match(r"(neighbours/|linear/|rnn/|mf/|baseline/|oracle)|  \S|\S+=", row) for row in rows)
        assert sum("linear/ease" in row for row in rows) == 1 or "minus" in text
    assert all(word in text for word in ("win:loss", "size MB", "epoch", "params"))


def test_a_command_on_several_lines_is_one_command(shown):
    import shlex

    typed = shown[f"ls {shown['place'].name}"].partition("typed:")[2]
    assert shlex.split(typed.replace("\\\n", "")) == [
        "marquee", "train", "-m", f"model={','.join(MODELS)}", "seed=1,2", "trainer.max_epochs=100", "x='a b'",
    ]  # fmt: skip


def test_no_name_steers_the_terminal(shown):
    for text in said(shown).values():
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert "owned" in shown["compare outputs"], "as text"
