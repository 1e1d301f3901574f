"""What belongs together and what does not: seeds, configurations, protocols, and runs that cannot be compared."""

import json
import socket

import pytest

from marquee.compare.analysis import compare
from marquee.compare.collect import collect, find_folders
from marquee.compare.groups import labels
from marquee.errors import ConfigError
from marquee.runs.lock import release
from marquee.runs.record import Run

from ..finished_runs import write_run

VALUES = [0.1, 0.3, 0.5]


def names(block):
    return {group.label: [run.manifest["seed"] for run in group.runs] for group in block.groups}


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path):
    for seed in (3, 1, 2):
        write_run(tmp_path, "mf/bpr", seed, VALUES)
    write_run(tmp_path, "mf/bpr", 1, VALUES, settings={"l2": 0.1})
    (block,), left_out = collect([tmp_path])
    assert names(block) == {"mf/bpr l2=none": [1, 2, 3], "mf/bpr l2=0.1": [1]}
    assert left_out == []


def test_where_a_run_lies_and_what_it_is_called_makes_no_other_group(tmp_path):
    write_run(tmp_path / "here", "mf/bpr", 1, VALUES)
    write_run(tmp_path / "there", "mf/bpr", 2, VALUES)
    (block,), _ = collect([tmp_path / "here", tmp_path / "there"])
    assert names(block) == {"mf/bpr": [1, 2]}


def test_a_repetition_is_no_further_evidence(tmp_path):
    write_run(tmp_path, "mf/bpr", 1, VALUES, started="2026-01-01T00:00:00+00:00")
    run = write_run(tmp_path, "mf/bpr", 1, VALUES, started="2026-01-02T00:00:00+00:00", code={"sha256": "e" * 64})
    (block,), (repeated,) = collect([tmp_path])
    assert [kept.folder.name for kept in block.runs] == [run.folder.name]
    assert repeated.status == "repeated"
    assert run.folder.name in repeated.message
    assert "other code" in repeated.message


@pytest.mark.parametrize(
    ("changed", "switch"),
    [
        ({"split": {"test": 0.2}}, "split.test=0.2, not 0.1"),
        ({"split": {"seed": 4}}, "split.seed=4, not null"),
        ({"task": {"mask_seen": False}}, "task.mask_seen=false, not true"),
        ({"task": {"ks": [5, 10]}}, "task.ks=[5, 10], not [10, 20]"),
        ({"data": "other"}, "data=other, not world"),
        ({"trainer": {"limit_test_batches": 1}}, "trainer.limit_test_batches=1, not 1.0"),
    ],
)
def test_another_protocol_is_another_block_and_the_switch_is_named(tmp_path, changed, switch):
    write_run(tmp_path, "mf/bpr", 1, VALUES)
    write_run(tmp_path, "linear/ease", 1, VALUES)
    write_run(tmp_path, "mf/bpr", 2, VALUES, **changed)
    blocks, _ = collect([tmp_path])
    assert [len(block.groups) for block in blocks] == [2, 1]
    assert (blocks[1].like, blocks[1].differs) == (1, [switch])


def test_what_is_said_of_a_block_holds_of_all_its_runs(tmp_path):
    for model, words in [("linear/ease", "full ranking, threshold 0.3"), ("mf/bpr", "full ranking"),
                         ("rnn/gru4rec", "full ranking, thresholds chosen on validation by f1")]:  # fmt: skip
        told = {"unit": "user", "measured": ["ks", "mask_seen"], "shown": ["ndcg@10"], "protocol": words}
        run = write_run(tmp_path, model, 1, VALUES)
        run.update(task=told)
    (block,) = compare([tmp_path]).blocks
    assert "full ranking" in block.protocol and "threshold" not in block.protocol


def test_the_same_keys_over_other_bytes_are_another_block(tmp_path):
    write_run(tmp_path, "mf/bpr", 1, VALUES)
    spec = {"kind": "InteractionSpec", "n_users": 1000, "n_items": 400}
    write_run(tmp_path, "mf/bpr", 2, VALUES, data="world").update(
        data={"name": "world", "fingerprint": "f" * 64, "spec": spec}
    )
    blocks, _ = collect([tmp_path])
    (switch,) = blocks[1].differs
    assert "data itself under the same keys" in switch
    assert "world-da" in switch
    assert "ffffffff" in switch


def test_the_order_of_cutoffs_and_the_monitored_metric_are_no_protocol(tmp_path):
    write_run(tmp_path, "mf/bpr", 1, VALUES)
    write_run(tmp_path, "linear/ease", 1, VALUES, task={"ks": [20, 10], "monitor": "ndcg@20"})
    blocks, _ = collect([tmp_path])
    assert len(blocks) == 1


def test_a_schedule_by_the_epoch_is_what_it_was_before_it_could_be_said_and_one_by_the_step_is_another(tmp_path):
    cosine = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 10}
    for seed, interval in ((1, None), (2, "epoch"), (1, "step")):
        run = write_run(tmp_path, "mf/bpr", seed, VALUES)
        scheduler = cosine if interval is None else {**cosine, "interval": interval}
        run.update(config={**run.manifest["config"], "scheduler": scheduler})
    (block,), _ = collect([tmp_path])
    assert names(block) == {"mf/bpr interval=none": [1, 2], "mf/bpr interval=step": [1]}


def test_failed_interrupted_and_unreadable_runs_are_named_with_their_messages(tmp_path):
    write_run(tmp_path, "mf/bpr", 1, VALUES)
    write_run(tmp_path, "mf/bpr", 2, VALUES, status="failed", error="The loss became NaN.\nand more")
    write_run(tmp_path, "mf/bpr", 3, VALUES, status="interrupted", error="stopped by Ctrl-C")
    broken = write_run(tmp_path, "mf/bpr", 4, VALUES)
    (broken.folder / "manifest.json").write_text('{"id": "cut o')
    empty = write_run(tmp_path, "mf/bpr", 5, VALUES)
    empty.update(metrics={})
    (block,), left_out = collect([tmp_path])
    assert names(block) == {"mf/bpr": [1]}
    told = {entry.status: entry.message for entry in left_out}
    assert told["failed"] == "The loss became NaN."
    assert told["interrupted"] == "stopped by Ctrl-C"
    assert "cannot be read" in told["unreadable"]
    assert told["incomplete"] == "its manifest has no metrics"


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path):
    write_run(tmp_path, "mf/bpr", 1, VALUES)
    run = Run.create(tmp_path, "9" * 64, "dead", {"config": {"seed": 9}, "seed": 9})
    run.update(process={"host": socket.gethostname(), "pid": 2**22 + 1, "started": "boot/1"})
    release(run.folder)  # as the end of its process lets go of it
    _, (entry,) = collect([tmp_path])
    assert entry.status == "interrupted"


def test_paths_may_be_outputs_folders_run_folders_and_both_at_once(tmp_path):
    run = write_run(tmp_path, "mf/bpr", 1, VALUES)
    write_run(tmp_path, "mf/bpr", 2, VALUES)
    assert len(find_folders([tmp_path])) == 2
    assert len(find_folders([tmp_path / "runs"])) == 2
    assert find_folders([run.folder, run.folder / "manifest.json"]) == [run.folder]
    assert len(find_folders([run.folder, tmp_path, tmp_path / "latest"])) == 2


def test_a_wrong_path_says_what_was_found(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds no runs; found: notes.txt, photos/"):
        find_folders([tmp_path])
    with pytest.raises(ConfigError, match="does not exist"):
        find_folders([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="is a file"):
        find_folders([tmp_path / "notes.txt"])


def test_nothing_finished_is_said_with_the_reasons(tmp_path):
    write_run(tmp_path, "mf/bpr", 1, VALUES, status="failed", error="out of memory")
    with pytest.raises(ConfigError, match="(?s)is finished.*failed  out of memory"):
        collect([tmp_path])


def test_labels_name_only_what_differs_within_a_model():
    adam = {"optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.9, 0.99]}, "model": {"l2": 0}}
    faster = {"optimizer": {**adam["optimizer"], "lr": 0.2}, "model": {"l2": 0}}
    sgd = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.3, "momentum": 0.5}, "model": {"l2": 0}}
    found, keys = labels(["a", "a", "a", "b"], [adam, faster, sgd, adam])
    assert found == ["a optimizer=Adam lr=0.1", "a optimizer=Adam lr=0.2", "a optimizer=SGD", "b"]
    assert keys[1] == {"optimizer._target_": "torch.optim.Adam", "optimizer.lr": 0.2}
    assert keys[3] == {}


def test_labels_use_as_few_words_as_tell_keys_apart():
    configs = [{"model": {"dim": n, "view": {"size": n}}, "data": {"size": n}, "callbacks": c} for n, c in
               ((1, {}), (2, {"stop": {"_target_": "x.Stop", "patience": 3}}))]  # fmt: skip
    found, _ = labels(["m", "m"], configs)
    assert found[0] == "m dim=1 view.size=1 data.size=1 stop=none"
    assert found[1].endswith("stop=Stop")


def test_manifests_are_only_read(tmp_path):
    run = write_run(tmp_path, "mf/bpr", 1, VALUES)
    before = json.loads((run.folder / "manifest.json").read_text())
    collect([tmp_path])
    assert json.loads((run.folder / "manifest.json").read_text()) == before
