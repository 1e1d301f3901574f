"""Export and import by the command line: artefacts that answer as their run does, certified, or refused."""

import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml

import marquee as package
from marquee.apply.exporting import archive, parity

from .conftest import answer, manifest_of


@pytest.fixture
def run(trained, tmp_path):
    """Run folders of the test's own: an export writes into the manifest."""

    def copied(kind):
        target = tmp_path / "outputs" / "runs" / trained[kind].name
        shutil.copytree(trained[kind], target)
        return target

    return copied


@pytest.fixture(autouse=True)
def _cache(world_cache, monkeypatch):
    monkeypatch.setenv("MARQUEE_CACHE", str(world_cache))


def refused(answered, code, *parts):
    assert answered.code == code, answered.err + answered.out
    assert "Traceback" not in answered.err
    for part in parts:
        assert part in answered.err, f"{part!r} is not in:\n{answered.err}"


def export(*words):
    done = answer("export", *words)
    assert done.code == 0, done.err
    return done.out


# ONNX ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ease", "bpr", "ratings"])
def test_an_exported_recommender_recommends_what_its_run_does(kind, run, tmp_path):
    folder, target = run(kind), tmp_path / "out"
    assert "0 units changed" in export(folder, target)
    own, exported = package.load(folder), package.load(target / "model.onnx")
    assert type(exported).__name__ == "PortableRecommender"
    wanted, found = own.recommend(users=[1, 2, 3], k=5), exported.recommend(users=[1, 2, 3], k=5)
    assert found["item_id"].tolist() == wanted["item_id"].tolist()
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-4, atol=1e-5)
    listed = exported.items["item_id"].tolist()[:20]
    some = exported.recommend(users=[1], candidates=listed, k=3)
    assert set(some["item_id"]) <= set(listed)
    if kind != "bpr":
        history = own.items["title"][:4].tolist()
        one, other = (each.recommend(histories=[history], k=5)["item_id"].tolist() for each in (own, exported))
        assert one == other
    else:
        refused(answer("recommend", target, "--history", "1"), 2, "BPR", "cannot score a history")
    words = ("--user", "7", "-k", "4")
    assert answer("recommend", target, *words).out == answer("recommend", folder, *words).out


def test_an_exported_reader_labels_as_its_run_does_without_torch(run, tmp_path):
    folder, target = run("lstm"), tmp_path / "out"
    export(folder, target)
    texts = ["a wonderful film", "dull", "zzz unknown words only", ""]
    wanted = package.load(folder).predict(texts)
    code = (
        "import sys, json, marquee\n"
        f"found = marquee.load({str(target / 'model.onnx')!r}).predict({texts!r})\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "print(found.to_json(orient='split'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row[0] for row in found["data"]] == wanted["label"].tolist()
    assert found["columns"] == list(wanted.columns)
    np.testing.assert_allclose([row[1:] for row in found["data"]], wanted.iloc[:, 1:].to_numpy(), atol=1e-5)


def test_an_exported_network_labels_images_in_8_bits_too(run, tmp_path, shared_folder):
    from PIL import Image

    folder = run("cnn")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 40, 3), dtype=np.uint8))
    wanted = package.load(folder).predict([image])
    export(folder, tmp_path / "whole")
    found = package.load(tmp_path / "whole").predict([image])
    np.testing.assert_allclose(found.iloc[:, 1:].to_numpy(), wanted.iloc[:, 1:].to_numpy(), atol=1e-5)
    export(folder, tmp_path / "small", "--int8", "--tolerance", "1", "--force")
    whole, small = ((tmp_path / name / "model.onnx").stat().st_size for name in ("whole", "small"))
    assert small < whole / 2
    entries = manifest_of(folder)["exports"]
    assert [entry["int8"] for entry in entries] == [False, True]


def test_the_certificate_stands_beside_the_model_and_in_the_manifest(run, tmp_path):
    folder, target = run("ease"), tmp_path / "out"
    export(folder, target)
    told, manifest = json.loads((target / "parity.json").read_text()), manifest_of(folder)
    assert told["passed"] and told["changed_units"] == 0 and told["p"] == 1.0
    assert told["before"] == pytest.approx(manifest["metrics"]["test/ndcg@10"], abs=1e-9)  # of the run's own test
    assert told["max_score_difference"] < 1e-4 and told["n_units"] == manifest["n_units"]
    (entry,) = manifest["exports"]
    assert entry["parity"]["after"] == told["after"] and entry["folder"] == str(target)
    assert answer("show", folder).code == 0
    sums = dict(line.split("  ")[::-1] for line in (target / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in target.iterdir()} - {"SHA256SUMS"}
    assert entry["model_sha256"] == sums["model.onnx"]


def test_the_card_has_front_matter_and_says_what_the_manifest_says(run, tmp_path):
    folder = run("ease")
    export(folder, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    manifest = manifest_of(folder)
    assert yaml.safe_load(front)["fingerprint"] == manifest["fingerprint"]
    assert yaml.safe_load(front)["tags"] == ["marquee", "recommendation"]
    assert yaml.safe_load(front)["license_name"] == "made by Marquee, Apache-2.0"
    headings = ("## Data and protocol", "## Metrics", "## Groups", "## Parity", "## Cost", "## Limits")
    ndcg = f"{manifest['metrics']['test/ndcg@10']:.4f}"
    for part in (*headings, "passed", "full ranking of 400 items", "baseline/popular", ndcg):
        assert part in body, part
    # By the normal approximation: mean ± 1.96 standard errors.
    values = pd.read_parquet(folder / "per_unit.parquet")["ndcg@10"]
    (row,) = [line for line in body.splitlines() if line.startswith("| ndcg@10 |")]
    low, high = map(float, row.split("|")[3].split(" to "))
    half = 1.96 * values.std() / len(values) ** 0.5
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_what_is_worse_than_the_run_is_refused_and_nothing_is_written(run, tmp_path, monkeypatch):
    """The artefact is made wrong here: it ranks every list the other way round."""
    folder, target = run("ease"), tmp_path / "out"
    right = parity.scorer_of

    def wrong(predictor):
        scorer = right(predictor)
        score = scorer.score
        scorer.score = lambda *given: -score(*given)
        return scorer

    monkeypatch.setattr(parity, "scorer_of", wrong)
    refused(answer("export", folder, target), 4, "is not the run that was measured", "ndcg@10", "--force")
    assert not target.exists() and "exports" not in manifest_of(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    done = answer("export", folder, target, "--force")
    assert done.code == 0 and "NOT PASSED" in done.out
    assert "NOT passed" in (target / "README.md").read_text(encoding="utf-8")
    assert manifest_of(folder)["exports"][0]["parity"]["passed"] is False


def test_another_runs_folder_is_not_replaced_and_the_same_runs_is(run, tmp_path):
    ease, bpr, target = run("ease"), run("bpr"), tmp_path / "out"
    export(ease, target)
    (target / "stale").write_text("of the former export")
    refused(answer("export", bpr, target), 2, "holds an export of another run", ease.name)
    export(ease, target)
    assert not (target / "stale").exists() and len(manifest_of(ease)["exports"]) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused(answer("export", ease, tmp_path / "mine"), 2, "is no export of marquee")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_corrupt_truncated_and_strange_files_are_named_with_their_sums(run, tmp_path):
    folder, target = run("bpr"), tmp_path / "out"
    export(folder, target)
    model = target / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2])
    refused(answer("recommend", target, "--user", "1"), 3, "model.onnx is corrupt", "sha256")
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(content)
    assert answer("recommend", alone, "--user", "1").code == 0  # moved alone, it has all it needs
    alone.write_bytes(content[: len(content) // 2])
    refused(answer("recommend", alone, "--user", "1"), 3, "alone.onnx is damaged or no ONNX model")
    strange = onnx.load_from_string(content)
    del strange.metadata_props[:]
    onnx.save(strange, alone)
    refused(answer("recommend", alone, "--user", "1"), 2, "was not written by marquee export")
    refused(answer("recommend", tmp_path / "none.onnx", "--user", "1"), 2, "none.onnx does not exist")
    refused(answer("export", target, tmp_path / "again"), 2, "is an export already")


def test_an_index_finds_what_exact_search_finds_and_says_what_it_loses(run, tmp_path):
    pytest.importorskip("faiss")
    folder, target = run("bpr"), tmp_path / "out"
    assert "not made: 400 items" in export(folder, target, "--index")
    assert not (target / "items.faiss").exists()
    out = export(folder, target, "--index", "--index-from", "100")
    told = json.loads((target / "export.json").read_text())["index"]
    if not told["used"]:  # short training may leave vectors that no list separates
        assert "all items are scored" in out and not (target / "items.faiss").exists()
        return
    assert told["recall"] >= 0.99 and abs(told["loss"]) < 0.01
    own, exported = package.load(folder), package.load(target)
    assert exported.index is not None
    wanted, found = own.recommend(k=5), exported.recommend(k=5)
    same = wanted.groupby("user")["item_id"].apply(set).combine(found.groupby("user")["item_id"].apply(set), len_both)
    assert same.mean() > 0.97
    seen = {
        (user, item) for user, row in enumerate(np.diff(own.known.offsets)) for item in own.known.history(user)[:row]
    }
    rows = {user: place for place, user in enumerate(own.users.tolist())}
    items = {item: place for place, item in enumerate(own.known.item_ids.tolist())}
    assert not any((rows[user], items[item]) in seen for user, item in zip(found["user"], found["item_id"]))
    exported.index.searcher.nprobe = 1  # finds too few for some, who are then scored exactly
    assert (exported.recommend(k=200).groupby("user").size() == own.recommend(k=200).groupby("user").size()).all()
    refused(answer("export", run("ease"), tmp_path / "e", "--index"), 2, "EASE are no products of vectors")


def len_both(one, other):
    return len(one & other) / len(one)


# Weights, and the run itself -----------------------------------------------------------------------------------------


def test_exported_weights_answer_as_the_run_and_are_checked(run, tmp_path):
    folder, target = run("ease"), tmp_path / "out"
    export(folder, target, "--format", "torch")
    wanted = package.load(folder).recommend(users=[5], k=5)
    assert package.load(target).recommend(users=[5], k=5).equals(wanted)
    assert not [path for path in target.rglob("*") if path.suffix in (".pt", ".ckpt", ".pkl", ".pt2")]
    weights = target / "weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    refused(answer("recommend", target, "--user", "5"), 3, "model.safetensors is corrupt", "sha256")
    refused(answer("export", folder, tmp_path / "x", "--format", "torch", "--int8"), 2, "--int8 belongs to")


def test_a_packed_run_is_imported_once_and_is_a_run_like_others(run, tmp_path):
    folder = run("ease")
    export(folder, tmp_path / "packed", "--format", "run")
    (file,) = (tmp_path / "packed").glob("*.zip")
    wanted = package.load(folder).recommend(users=[5], k=5)
    assert package.load(file).recommend(users=[5], k=5).equals(wanted)
    done = answer("import", file, "--runs", tmp_path / "elsewhere")
    assert done.code == 0 and "imported" in done.out, done.err
    there = tmp_path / "elsewhere" / "runs" / folder.name
    assert package.load(there).recommend(users=[5], k=5).equals(wanted)
    assert not [path for path in there.rglob("*") if path.suffix == ".ckpt"]
    for words in (["show", there], ["ls", "--runs", tmp_path / "elsewhere"], ["compare", there, folder]):
        assert answer(*words).code == 0, words
    assert "already there" in answer("import", file, "--runs", tmp_path / "elsewhere").out
    manifest = json.loads((there / "manifest.json").read_text())
    manifest["checkpoint"]["weights_sha256"] = "0" * 64  # another run, by the same name
    (there / "manifest.json").write_text(json.dumps(manifest))
    refused(answer("import", file, "--runs", tmp_path / "elsewhere"), 2, "is another run", "nothing was imported")
    again = tmp_path / "again"
    export(folder, again, "--format", "run")
    assert (again / file.name).read_bytes() != b""


def rezipped(source, target, change):
    """The archive again, with entries (name, content, attributes, compression) as `change` makes them."""
    with zipfile.ZipFile(source) as archive_:
        entries = [(entry.filename, archive_.read(entry), entry.external_attr) for entry in archive_.infolist()]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content, attributes in change(entries):
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = attributes, zipfile.ZIP_DEFLATED
            out.writestr(entry, content)
    return target


HARM = {
    "leads out of its folder": lambda e: [*e, ("../../escaped.json", b"{}", 0o644 << 16)],
    "leads out of its folder ": lambda e: [*e, ("/tmp/escaped.json", b"{}", 0o644 << 16)],
    "no plain file": lambda e: [*e, ("inference/link.json", b"/etc/passwd", 0o120777 << 16)],
    "no pickle among them": lambda e: [*e, ("inference/model.pkl", b"cos\nsystem\n", 0o644 << 16)],
    "no run's archive has": lambda e: [*e, ("checkpoints/best.ckpt", b"PK", 0o644 << 16)],
    "which its SHA256SUMS does not list": lambda e: [*e, ("inference/more.json", b"{}", 0o644 << 16)],
    "is corrupt: sha256": lambda e: [(n, c + b" " if n == "inference/ids.json" else c, a) for n, c, a in e],
    "which its SHA256SUMS lists": lambda e: [one for one in e if one[0] != "inference/ids.json"],
    "it was not written by marquee export": lambda e: [one for one in e if one[0] != "SHA256SUMS"],
    "would grow from": lambda e: [*e, ("inference/bomb.json", b"0" * 3_000_000, 0o644 << 16)],
    "two entries of one name": lambda e: [*e, e[-1]],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_would_do_harm_are_refused_and_nothing_is_left(run, tmp_path):
    folder = run("bpr")
    file = tmp_path / "good.zip"
    archive.pack(folder, file)
    other = tmp_path / "same.zip"
    archive.pack(folder, other)
    assert file.read_bytes() == other.read_bytes()
    for part, change in HARM.items():
        bad = rezipped(file, tmp_path / "bad.zip", change)
        refused(answer("import", bad, "--runs", tmp_path / "into"), 3, part.strip())
        refused(answer("recommend", bad, "--user", "1"), 3, part.strip())
        assert list((tmp_path / "into").rglob("*.json")) == []
    (tmp_path / "cut.zip").write_bytes(file.read_bytes()[:-200])
    refused(answer("import", tmp_path / "cut.zip", "--runs", tmp_path / "into"), 3, "cut.zip (sha256", "damaged")
    refused(answer("import", tmp_path / "none.zip"), 2, "none.zip does not exist")
    assert not (tmp_path.parent / "escaped.json").exists()
