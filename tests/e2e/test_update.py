"""A finished run learns what has happened since, and forgets somebody: on the command line, as runs beside it."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image
from safetensors.numpy import load_file

import marquee
from marquee.inference.golden import differences
from marquee.inference.predictor import predictor_of
from marquee.runs.lock import LOCK

from .conftest import manifest_of
from .test_use import refused

COLUMNS = "data.columns={user: user, item: item, value: value, timestamp: timestamp}"
DATA = ["data=interactions", "split=leave_one_out", "data.path=plays.csv", COLUMNS, "tracker=none"]
SASREC = ["model=transformer/sasrec", "model.dim=4", "model.layers=1", "model.view.max_length=8"]
GONE = "zebra-4711"  # an id that nothing else looks like


def plays():
    """40 users with eight of 20 items each, one of whom is GONE; items u and v are in no row."""
    rng = np.random.default_rng(0)
    names = [f"user{n:02}" for n in range(39)] + [GONE]
    rows = [(name, f"item{item:02}", 3 + (item + n) % 3, 1000 * n + step) for n, name in enumerate(names)
            for step, item in enumerate(rng.permutation(20)[:8])]  # fmt: skip
    return pd.DataFrame(rows, columns=["user", "item", "value", "timestamp"])


@pytest.fixture
def home(shell, tmp_path):
    (tmp_path / "data").mkdir()
    plays().to_csv(tmp_path / "data" / "plays.csv", index=False)
    return tmp_path


def trained(shell, home, name, *words):
    done = shell("train", *DATA, *words, f"name={name}")
    assert done.code == 0, done.err
    return home / "outputs" / "latest"


def events(home, *rows, name="new.csv"):
    frame = pd.DataFrame(rows, columns=["user", "item", "value", "timestamp"])
    frame.to_csv(home / name, index=False)
    return home / name


def since(home, name="new.csv"):
    """Two who were there and met something that is in no part of theirs, and somebody new with a new item."""
    known, rows = plays(), []
    for user in ("user03", "user08"):
        free = sorted(set(known["item"]) - set(known[known["user"] == user]["item"]))
        rows.append((user, free[0], 5, 99_000))
    return events(home, *rows, ("newcomer", "item01", 4, 99_001), ("newcomer", "brand new", 5, 99_002), name=name)


def child(answered, home):
    assert answered.code == 0, answered.err
    return (home / "outputs" / "latest").resolve()


def weights(folder):
    return load_file(folder / "inference" / "model.safetensors")


# Update --------------------------------------------------------------------------------------------------------------


def test_an_update_of_ease_is_a_run_beside_its_parent_that_equals_a_refit(shell, home):
    parent = trained(shell, home, "ease", "model=linear/ease", "model.l2=5").resolve()
    before = {file: file.read_bytes() for file in sorted(parent.rglob("*.json"))}
    done = shell("update", "ease", "--events", since(home), "--certify")
    folder = child(done, home)
    manifest, former = manifest_of(folder), manifest_of(parent)
    assert manifest["status"] == "finished" and manifest["parent"]["id"] == former["id"]
    assert manifest["parent"]["fingerprint"] == former["fingerprint"] != manifest["fingerprint"]
    assert manifest["events"] | {"rows": 4, "new_users": 1, "new_items": 1} == manifest["events"]
    assert manifest["update"]["how"] == "exact" and "exact step" in done.out
    proof = manifest["certificate"]
    assert proof["max_abs_difference"] < 1e-5 and proof["child"] == pytest.approx(proof["refit"]) and proof["p"] == 1
    assert {file: file.read_bytes() for file in sorted(parent.rglob("*.json"))} == before
    assert manifest["data"] == former["data"] and manifest["split"] == former["split"]

    # Every verb takes it; a service tries it by golden requests of its own.
    known = marquee.load(folder)
    assert differences(known, folder / "inference") == [] != differences(known, parent / "inference")
    assert "newcomer" in known.users and "brand new" in set(known.items["item_id"])
    assert shell("recommend", folder, "--user", "newcomer", "-k", "2").code == 0
    met = set(known.recommend(users=["user03"], k=30)["item_id"])
    assert plays()["item"].nunique() + 1 - len(met) == 9  # the eight, and what has come since
    compared = shell("compare", "outputs")
    assert compared.code == 0 and "update=events" in compared.out and "update=none" in compared.out
    assert "update" not in shell("compare", parent).out.split("protocol")[0]
    assert "ease" in shell("ls").out
    shown = shell("show", folder)
    assert former["id"] in shown.out and "exact step" in shown.out


def test_the_same_events_again_are_the_child_that_there_is(shell, home):
    trained(shell, home, "popular", "model=baseline/popular")
    file = since(home)
    first = child(shell("update", "popular", "--events", file), home)
    again = shell("update", "popular", "--events", file)
    assert again.code == 0 and f"made {first.name}" in again.out and "nothing is done" in again.out
    proven = child(shell("update", "popular", "--events", file, "--certify"), home)  # which that one has not
    assert proven != first and manifest_of(proven)["certificate"]["identical"] is True
    assert len(list((home / "outputs" / "runs").iterdir())) == 3


def test_a_child_has_children_and_none_of_them_is_trained_again_by_its_configuration(shell, home):
    trained(shell, home, "ease", "model=linear/ease", "model.l2=5")
    shell("update", "ease", "--events", since(home), "--name", "one")
    file = events(home, ("newcomer", "item02", 4, 99_100), ("late", "item03", 5, 99_101), name="more.csv")
    folder = child(shell("update", "one", "--events", file, "--certify", "--name", "two"), home)
    manifest = manifest_of(folder)
    assert manifest["parent"]["id"].endswith("-one") and manifest["events"]["new_users"] == 1
    assert manifest["certificate"]["max_abs_difference"] < 1e-5
    known = marquee.load(folder)
    row = known.users.tolist().index("newcomer")
    assert {known.items["item_id"][item] for item in known.known.history(row)} == {"item01", "item02", "brand new"}
    refused(shell("rerun", "two"), 2, "marquee update", "--events FILE", manifest["events"]["sha256"])
    refused(shell("train", "resume=two"), 2, "not resumed", "marquee update")


def test_a_child_is_exported_packed_and_served_as_its_parent_is(shell, home):
    """Golden requests, a parity on the parent's test part, and an archive that can be updated where it is unpacked."""
    trained(shell, home, "ease", "model=linear/ease", "model.l2=5")
    folder = child(shell("update", "ease", "--events", since(home), "--name", "child"), home)
    left = child(shell("forget", "child", "--user", GONE, "--name", "left"), home)
    for run, users in ((folder, 40), (left, 39)):
        predictor = predictor_of(run / "inference")
        assert (run / "inference" / "golden.json").is_file() and differences(predictor, run / "inference") == []
        done = shell("export", run, "--format", "onnx", home / run.name)
        assert done.code == 0, done.err
        parity = json.loads((home / run.name / "parity.json").read_text())
        assert parity["n_units"] == users and parity["changed_units"] == 0
        assert parity["before"] == parity["recorded"] == manifest_of(run)["metrics"]["test/ndcg@10"]
    assert shell("export", folder, "--format", "run", home / "zip").code == 0
    more = events(home, ("newcomer", "item02", 4, 99_100), name="more.csv")
    here = child(shell("update", "child", "--events", more, "--name", "here"), home)
    shutil.rmtree(folder)
    assert shell("import", home / "zip" / f"{folder.name}.zip").code == 0
    there = child(shell("update", "child", "--events", more, "--name", "there"), home)
    assert there == here or all(np.array_equal(value, weights(there)[key]) for key, value in weights(here).items())
    (home / "outputs" / "runs" / folder.name / "events.parquet").unlink()
    shutil.rmtree(here)
    refused(shell("update", "child", "--events", more), 3, "events.parquet is missing", "has learnt 4 events")


def test_weights_that_are_others_than_recorded_are_not_learnt_from(shell, home):
    parent = trained(shell, home, "ease", "model=linear/ease", "model.l2=5").resolve()
    file = parent / "inference" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0@")
    refused(shell("update", "ease", "--events", since(home)), 3, "damaged", "sha256", "marquee rerun")
    file.unlink()
    refused(shell("update", "ease", "--events", since(home)), 3, "cannot be read", "marquee rerun")
    assert len(list((home / "outputs" / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    "words, how",
    [
        (["model=mf/bpr", "model.dim=4"], "fine_tune"),
        (["model=mf/ials", "model.dim=4"], "fold_in"),
        (["model=mf/nmf", "model.dim=4"], "continued"),
        (["model=neighbours/item_knn"], "refit"),
        (SASREC, "fine_tune"),
    ],
    ids=["bpr", "ials", "nmf", "item_knn", "sasrec"],
)
def test_every_kind_of_model_takes_up_events_in_its_way_and_says_which(shell, home, words, how):
    parent = trained(shell, home, "parent", *words, "trainer.max_epochs=2").resolve()
    folder = child(shell("update", "parent", "--events", since(home), "--epochs", "1"), home)
    manifest = manifest_of(folder)
    assert manifest["update"]["how"] == how
    units, former = (pd.read_parquet(place / "per_unit.parquet") for place in (folder, parent))
    assert units["user"].tolist() == former["user"].tolist()
    assert manifest["metrics"][f"test/{manifest['monitor']}"] == pytest.approx(units[manifest["monitor"]].mean())
    assert len(marquee.load(folder).recommend(users=["newcomer"], k=3)) == 3
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("words", [["model=mf/bpr", "model.dim=4"], SASREC], ids=["bpr", "sasrec"])
def test_the_best_epoch_is_chosen_on_what_is_known_of_everybody_not_of_those_who_train_on(shell, home, words):
    """Nobody of the validation part trains on, so with a step of no size it says what it said of the parent."""
    trained(shell, home, "parent", *words, "trainer.max_epochs=1", "optimizer.lr=1e-30")
    file = events(home, ("newcomer", "item01", 4, 99_001), ("newcomer", "item02", 4, 99_002))
    folder = child(shell("update", "parent", "--events", file, "--epochs", "1", "--replay", "0"), home)
    seen = [pd.read_csv(place / "metrics.csv")["validation/ndcg@10"].dropna().tolist()
            for place in (folder, home / "outputs" / "runs" / manifest_of(folder)["parent"]["id"])]  # fmt: skip
    assert seen[0] == pytest.approx(seen[1])
    assert "no training interactions" not in (folder / "log.txt").read_text()


def test_a_rating_model_is_judged_by_the_values_that_its_parent_was(shell, home):
    trained(shell, home, "mf", "task=rating", "model=mf/biased_mf", "model.dim=2", "trainer.max_epochs=1")
    folder = child(shell("update", "mf", "--events", since(home), "--epochs", "1"), home)
    assert manifest_of(folder)["metrics"]["test/rmse"] > 0


def test_events_of_the_test_part_and_nonsense_leave_no_run_behind(shell, home):
    parent = trained(shell, home, "popular", "model=baseline/popular").resolve()
    last = plays().sort_values("timestamp").groupby("user").tail(1).iloc[3]
    leak = events(home, (last["user"], last["item"], 4, 99_000), name="leak.csv")
    refused(shell("update", "popular", "--events", leak), 3, "1 of 1 events", last["user"], last["item"], "leak")
    refused(shell("update", "popular", "--events", home / "none.csv"), 3, "none.csv does not exist")
    (home / "texts.csv").write_text("text,label\nfine,good\n")
    refused(shell("update", "popular", "--events", home / "texts.csv"), 3, "no column user", "text, label")
    refused(shell("update", "nobody", "--events", leak), 2, "no run nobody")
    train = plays().sort_values("timestamp").groupby("user").head(3)
    train.to_csv(home / "old.csv", index=False)
    assert "replaced" in shell("update", "popular", "--events", home / "old.csv").out  # newer ratings of the same
    assert shell("update", "popular", "--events", leak, "--replay", "-1").code == 2
    assert len(list((home / "outputs" / "runs").iterdir())) == 2

    shutil.copy(home / "data" / "plays.csv", home / "kept.csv")
    (home / "data" / "plays.csv").write_text((home / "kept.csv").read_text() + "user00,item19,3,5\n")
    refused(shell("update", parent, "--events", since(home)), 3, "no longer the same", "train anew")


def test_one_process_at_a_time_makes_children_of_a_run(shell, home):
    parent = trained(shell, home, "popular", "model=baseline/popular").resolve()
    with FileLock(parent / LOCK):  # as another process holds it
        refused(shell("update", parent, "--events", since(home)), 2, "is being updated by", "then the same command")
        refused(shell("forget", parent, "--user", "user00"), 2, "is being updated by")
    assert shell("update", parent, "--events", since(home)).code == 0


# Classifiers ---------------------------------------------------------------------------------------------------------


def test_a_text_model_with_a_closed_form_learns_new_texts_as_a_refit_would(shell, home):
    assert shell("train", "data=world_reviews", "model=linear/naive_bayes", "tracker=none", "name=nb").code == 0
    (home / "new.csv").write_text("text,label\na brilliant xyzzy,positive\ndull,negative\ndull,negative\n")
    folder = child(shell("update", "nb", "--events", home / "new.csv", "--certify"), home)
    manifest = manifest_of(folder)
    assert manifest["certificate"]["identical"] is True and manifest["events"]["duplicates"] == 1
    former = weights(home / "outputs" / "runs" / manifest["parent"]["id"])
    assert any(not np.array_equal(values, former[name]) for name, values in weights(folder).items())
    refused(shell("update", folder, "--events", home / "new.csv"), 3, "has learnt just these events already")
    (home / "odd.csv").write_text("text,label\nfine,sideways\n")
    refused(shell("update", "nb", "--events", home / "odd.csv"), 3, "'sideways'", "negative, positive")
    refused(shell("update", "nb", "--events", events(home)), 3, "no column text", "wanted: text, label")
    refused(shell("forget", "nb", "--user", "1"), 2, "knows no users")
    (home / "odd.csv").write_text("text,label\nbrilliant, moving,positive\ndull, long,negative\n")  # without quotes
    refused(shell("update", "nb", "--events", home / "odd.csv"), 3, "line 2", "3 fields, expected 2")
    (home / "odd.csv").write_bytes(b"text,label\n\xff\xfe,positive\n")
    refused(shell("update", "nb", "--events", home / "odd.csv"), 3, "line 2", "byte 0xff is not utf-8")
    for name, text in (("a.csv", "text,label\n ,positive\n"), ("a.jsonl", '{"text": null, "label": "positive"}\n')):
        (home / name).write_text(text)
        refused(shell("update", "nb", "--events", home / name), 3, "event 1", "the text or its label is missing")


def test_a_network_trains_on_with_new_images_and_refuses_those_of_its_test(shell, home):
    words = ["data=world_posters", "model=cnn/poster", "model.channels=[2,2]", "model.dense=4", "trainer.max_epochs=1"]
    assert shell("train", *words, "tracker=none", "name=cnn").code == 0
    parent = (home / "outputs" / "latest").resolve()
    for n in range(3):
        pixels = np.random.default_rng(n).integers(0, 255, (30, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / f"{n}.png")
    (home / "new.csv").write_text("image,label\n0.png,Drama\n1.png,Comedy\n2.png,Drama\n")
    folder = child(shell("update", "cnn", "--events", home / "new.csv", "--epochs", "1"), home)
    assert manifest_of(folder)["update"]["how"] == "fine_tune" and manifest_of(folder)["events"]["rows"] == 3
    units, former = (pd.read_parquet(place / "per_unit.parquet")["example"] for place in (folder, parent))
    assert units.tolist() == former.tolist()
    from marquee.data.world import posters

    row = int(former[0])
    Image.fromarray(posters.draw(1).images[row].transpose(1, 2, 0)).save(home / "test.png")
    (home / "leak.csv").write_text("image,label\ntest.png,Drama\n")
    refused(shell("update", "cnn", "--events", home / "leak.csv"), 3, "1 of 1 images", "test.png", "leak")


# Forget --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, how",
    [
        (["model=linear/ease", "model.l2=5"], "exact"),
        (["model=neighbours/item_knn"], "refit"),
        (["model=mf/bpr", "model.dim=4", "trainer.max_epochs=1"], "retrained"),
    ],
    ids=["ease", "item_knn", "bpr"],
)
def test_a_forgotten_user_is_in_no_file_and_the_weights_are_those_of_who_never_knew_them(shell, home, words, how):
    trained(shell, home, "parent", *words)
    shell("update", "parent", "--events", events(home, (GONE, "item00", 5, 99_000), ("x", GONE + "'s", 4, 99_001)),
          "--name", "child", "--epochs", "1")  # fmt: skip
    folder = child(shell("forget", "parent", "--user", GONE, "--certify"), home)
    assert not holding(folder, GONE)
    manifest = manifest_of(folder)
    assert manifest["update"]["how"] == how and manifest["forgot"] == {"users": 1, "interactions": 8}
    if how != "retrained":  # a refit on the data without the user, which the certificate made
        assert manifest["certificate"]["max_abs_difference"] < 1e-5
    assert "knows 39 users" in shell("recommend", folder, "--user", GONE).err
    refused(shell("forget", folder, "--user", GONE), 2, "is not in this run")


def test_who_came_with_an_update_is_forgotten_with_all_that_came_of_them(shell, home):
    trained(shell, home, "ease", "model=linear/ease", "model.l2=5")
    rows = [(GONE, "only theirs", 5, 99_000), ("user01", "shared", 5, 99_003), (GONE, "shared", 4, 99_002)]
    shell("update", "ease", "--events", events(home, *rows), "--name", "child")
    folder = child(shell("forget", "child", "--user", GONE, "user05", "--certify", "--name", "left"), home)
    assert not holding(folder, GONE) and not holding(folder, "only theirs") and holding(folder, "shared")
    assert manifest_of(folder)["certificate"]["max_abs_difference"] < 1e-5
    # Who comes back is somebody new: nothing of before is there.
    more = events(home, (GONE, "item02", 5, 99_100), name="back.csv")
    back = marquee.load(child(shell("update", "left", "--events", more, "--name", "back"), home))
    assert len(back.known.history(back.users.tolist().index(GONE))) == 1
    assert "delete those" in shell("forget", "back", "--user", GONE).out


def holding(folder, text):
    """The files of a folder that have a text, tables read as such."""
    found = []
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            if file.suffix == ".parquet":
                content += pd.read_parquet(file).to_csv().encode()
            if text.encode() in content:
                found.append(file.name)
    return found


def test_forgetting_everybody_or_nobody_known_is_refused(shell, home):
    trained(shell, home, "popular", "model=baseline/popular")
    refused(shell("forget", "popular", "--user", "nobody"), 2, "'nobody'", "40 users", "user00")
    assert "unrecognized" in shell("forget", "popular", "--user", "user00", "--epochs", "2").err  # it trains on nothing
    refused(shell("forget", "popular", "--user", *sorted(set(plays()["user"]))), 2, "all users")


# Streams -------------------------------------------------------------------------------------------------------------


def test_methods_of_a_stream_stand_in_one_table_and_each_has_its_windows(shell, home):
    words = ["data=world_drift", "model=linear/ease", "model.l2=20", "tracker=none"]
    folders = {}
    for method in ("fine_tune", "joint", "static"):
        done = shell("train", *words, f"task.method={method}")
        assert done.code == 0, done.err
        folders[method] = (home / "outputs" / "latest").resolve()
    assert "regret" in done.out and "windows, each tested before it trained" in done.out
    tables = {method: pd.read_csv(folder / "windows.csv") for method, folder in folders.items()}
    for method, table in tables.items():
        manifest, units = manifest_of(folders[method]), pd.read_parquet(folders[method] / "per_unit.parquet")
        assert table["window"].tolist() == list(range(1, 10)) and set(units["window"]) == set(range(1, 10))
        by_window = units.groupby("window")["recall@20"].mean()
        assert table["recall@20"].to_numpy() == pytest.approx(by_window.to_numpy(), rel=1e-5)
        assert manifest["metrics"]["test/recall@20_of_windows"] == pytest.approx(table["recall@20"].mean())
        assert manifest["metrics"]["test/recall@20"] == pytest.approx(units["recall@20"].mean(), rel=1e-5)
        assert (table["regret"] > 0).all() and table["regret"].to_numpy() == pytest.approx(
            (table["oracle"] - table["recall@20"]).to_numpy())  # fmt: skip
        assert table["events"].tolist() == tables["joint"]["events"].tolist()
        assert table["fingerprint"].tolist() == tables["joint"]["fingerprint"].tolist()
    assert tables["joint"]["recall@20"].mean() > tables["static"]["recall@20"].mean()
    assert (tables["joint"]["trained_rows"].diff().dropna() > 0).all()
    compared = shell("compare", "outputs")
    assert compared.code == 0 and "task.method" in compared.out or "method=joint" in compared.out
    assert json.loads((folders["joint"] / "windows.json").read_text())[8]["window"] == 9
    refused(shell("update", "latest", "--events", home / "data" / "plays.csv"), 2, "is a stream")


def test_a_stream_that_was_interrupted_goes_on_to_the_same_windows_and_weights(shell, home):
    words = ["data=world_drift", "model=rnn/gru4rec", "model.dim=4", "model.hidden=4", "tracker=none",
             "trainer.max_epochs=2", "task.method=replay", "task.exemplars=50", "task.warm_up=1"]  # fmt: skip
    assert shell("train", *words, "name=whole").code == 0
    whole = (home / "outputs" / "latest").resolve()
    from marquee.runs import signals

    # Stopped where a window ends, and where one is half trained.
    for name, after in (("end", 3), ("middle", 4)):
        stopped = _stopped_after(shell, after, *words, f"name={name}", "seed=1")
        assert stopped.code == 130, stopped.err
        signals.stop_after_epoch.clear()
        folder = (home / "outputs" / "latest").resolve()
        assert shell("train", f"resume={folder}").code == 0
        for key, values in weights(whole).items():
            assert np.array_equal(values, weights(folder)[key]), (name, key)
        one, two = (pd.read_csv(place / "windows.csv").drop(columns="cpu_s") for place in (whole, folder))
        pd.testing.assert_frame_equal(one, two)


def _stopped_after(shell, epochs, *words):
    """As though somebody had pressed Ctrl-C in an epoch."""
    from unittest import mock

    from marquee.runs import signals
    from marquee.tasks.stream import Stream

    former, seen = Stream.on_train_epoch_end, []

    def stop(task):
        seen.append(task.current_epoch)
        if len(seen) == epochs:
            signals.stop_after_epoch.set()
        former(task)

    with mock.patch.object(Stream, "on_train_epoch_end", stop):
        return shell("train", *words)


def test_a_stream_needs_its_split_and_a_model_that_reads_histories(shell, home):
    refused(shell("train", "data=world_ratings", "task=stream", "tracker=none"), 2, "split=stream")
    refused(shell("train", "data=world_drift", "model=mf/bpr", "tracker=none"), 2, "BPR knows users by id only")


def test_what_is_suggested_after_a_stream_names_each_key_once(shell, home):
    done = shell("train", "data=world_drift", "task.method=static", "tracker=none")
    (line,) = [line for line in done.out.splitlines() if "marquee train -m" in line]
    assert line.split() == "marquee train -m data=world_drift task.method=fine_tune,replay,joint seed=1,2".split()
