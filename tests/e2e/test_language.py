"""Language models from one command to a file with its provenance: trained, killed, resumed, compared, writing."""

import json
import os
import signal
import time
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import pytest

import marquee as package
from marquee.config.fitting import fitting, option_class
from marquee.data.spec import TokenSpec

from .commands import begin, environment
from .conftest import answer, manifest_of
from .serving import Client
from .serving import refused as turned_down

WORLD = ["data=world_script", "data.scenes=100", "tracker=none", "plots=false", "task.sample=400"]
GPT = [*WORLD, "model=transformer/gpt", "model.dim=32", "model.layers=1", "model.heads=2", "model.dropout=0.1",
       "model.view.length=64", "optimizer.lr=0.01", "trainer.max_epochs=3", "scheduler=cosine_warmup"]  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory, world_cache):
    """Outputs with a finished run of a tiny GPT and one of an n-gram model: to be looked at, not changed."""
    folder = tmp_path_factory.mktemp("language") / "outputs"
    with mock.patch.dict(os.environ, environment(folder, world_cache)):
        for words in ([*WORLD, "model=baseline/ngram", "name=ngram"], [*GPT, "name=gpt"]):
            done = answer("train", *words)
            assert done.code == 0, done.err
    return folder


@pytest.fixture
def gpt(output, world_cache, monkeypatch):
    for name, value in environment(output, world_cache).items():
        monkeypatch.setenv(name, value)
    return next((output / "runs").glob("*-gpt"))


def generate(run, *words):
    return answer("generate", str(run), *words)


def refused(answered, code, *parts):
    assert answered.code == code, answered.out + answered.err
    assert "Traceback" not in answered.err and answered.out == ""
    for part in parts:
        assert part in answered.err, f"{part!r} is not in:\n{answered.err}"


# Training ------------------------------------------------------------------------------------------------------------


def test_a_run_stands_beside_baselines_the_text_itself_and_the_oracle(gpt):
    manifest = manifest_of(gpt)
    own, rows = manifest["metrics"], manifest["baselines"]
    assert manifest["status"] == "finished" and list(rows) == ["unigram", "5-gram", "the test text"]
    oracle = manifest["oracle"]["bits_per_character"]
    assert oracle < own["test/bits_per_character"] < rows["unigram"]["bits_per_character"]
    assert oracle < rows["5-gram"]["bits_per_character"]
    assert rows["the test text"]["lawful_lines"] == 1 and "nats" not in rows["the test text"]
    for name in ("distinct_2", "unknown_words", "longest_copy"):
        assert name in rows["5-gram"] and f"test/{name}" in own
    assert "every token once, at least half of the model's window before it" in manifest["task"]["protocol"]
    sample = (gpt / "sample.txt").read_text()
    assert 400 <= len(sample) < 600
    assert manifest["task"]["unit"] == "block"  # ten scenes


def test_killed_and_resumed_a_gpt_ends_with_the_weights_of_an_uninterrupted_run(gpt, tmp_path, world_cache):
    """As for every family: kill -9 in mid-epoch, then `train resume=latest`; the weights' sha256."""
    own = tmp_path / "outputs"
    killed = begin("train", *GPT, "name=gpt", env=environment(own, world_cache))
    try:
        curve, last = own / "latest" / "metrics.csv", own / "latest" / "checkpoints" / "last.ckpt"
        for _ in range(3000):
            if curve.exists() and len(curve.read_text().splitlines()) > 1 and last.exists():
                break
            assert killed.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    with mock.patch.dict(os.environ, {"MARQUEE_OUTPUT": str(own)}):
        done = answer("train", "resume=latest", "tracker=none")
    assert done.code == 0, done.err
    resumed, whole = manifest_of(own / "latest"), manifest_of(gpt)
    assert resumed["checkpoint"]["weights_sha256"] == whole["checkpoint"]["weights_sha256"]
    assert resumed["metrics"] == whole["metrics"]


def test_models_of_one_corpus_stand_in_one_table_with_a_paired_test(gpt):
    done = answer("compare", gpt.parent)
    assert done.code == 0, done.err
    assert "transformer/gpt" in done.out and "baseline/ngram" in done.out and "bits_per_character" in done.out
    assert "oracle" in done.out


def test_language_models_are_offered_for_corpora_and_for_nothing_else():
    for data in ("world_script", "tinyshakespeare", "scripts", "subtitles", "poems", "nottingham", "text_corpus"):
        kind = option_class("data", data)
        assert kind.spec_type is TokenSpec
        assert {"baseline/ngram", "rnn/lstm_lm", "transformer/gpt"} <= set(fitting("model", kind))
    assert "transformer/gpt" not in fitting("model", option_class("data", "world_reviews"))
    refused(answer("check", "data=world_reviews", "model=transformer/gpt"), 2, "transformer/gpt", "TokenSpec")


# Writing -------------------------------------------------------------------------------------------------------------


def test_what_is_written_can_be_verified_and_a_change_is_told(gpt, tmp_path):
    file = tmp_path / "scene.txt"
    done = generate(gpt, "--prompt", "INT. GARDEN", "-n", "2", "--tokens", "90", "--seed", "4", "--output", file)
    assert done.code == 0 and "2 texts written" in done.out
    told = json.loads((tmp_path / "scene.txt.provenance.json").read_text())
    manifest = manifest_of(gpt)
    assert told["run"]["fingerprint"] == manifest["fingerprint"] and told["seed"] == 4 and told["n"] == 2
    assert told["settings"]["prompt"] == "INT. GARDEN" and len(told["made"]) == 2
    facts = told["made"][0]
    assert len(facts["log_probabilities"]) == facts["tokens"] <= 90
    assert facts["log_probability"] == pytest.approx(sum(facts["log_probabilities"]), abs=1e-4)
    same = answer("generate", "--verify", file)
    assert same.code == 0 and same.out == f"{file}: identical\n"
    kept = file.read_text()
    file.write_text(kept[:40] + "#" + kept[41:])
    refused(answer("generate", "--verify", file), 4, "has been changed", "from byte 40 on")
    file.write_text(kept)
    facts["log_probability"] += 1
    (tmp_path / "scene.txt.provenance.json").write_text(json.dumps(told))
    refused(answer("generate", "--verify", file), 4, "what is told of sample 0 differs in log_probability")
    ngram = next(gpt.parent.glob("*-ngram"))
    refused(generate(ngram, "--verify", file), 4, "the file is of another")


def test_the_first_of_five_is_what_one_would_be_and_a_seed_repeats(gpt):
    predictor = package.load(gpt)
    five = predictor.generate(5, 7, tokens=60)
    assert predictor.generate(1, 7, tokens=60)[0] == five[0]
    assert predictor.generate(40, 7, tokens=60)[:5] == five  # two batches
    assert predictor.generate(1, 8, tokens=60)[0] != five[0]
    greedy = predictor.generate(2, 7, tokens=60, temperature=0)
    assert greedy[0].content == greedy[1].content


def test_a_text_ends_before_what_stops_it_or_with_its_document(gpt):
    predictor = package.load(gpt)
    (free,) = predictor.generate(1, 3, tokens=300, prompt="INT. ")
    assert free.facts["ended"] in ("end", "tokens")
    (stopped,) = predictor.generate(1, 3, tokens=300, prompt="INT. ", stop=["\n\n"])
    assert stopped.facts["ended"] == "stop" and "\n\n" not in stopped.content
    assert free.content.startswith(stopped.content + "\n\n")


def test_of_a_prompt_that_is_too_long_the_end_is_read_and_that_is_said(gpt):
    long = "INT. GARDEN - DAY\n\n" * 10
    done = generate(gpt, "--prompt", long, "--tokens", "5")
    assert done.code == 0 and f"of the prompt's {len(long)} tokens the last 64 were read" in done.out
    one, other = (package.load(gpt).generate(1, 2, prompt=prompt, tokens=30)[0] for prompt in (long, long[19:]))
    assert one.content == "INT. GARDEN - DAY\n\n" + other.content and one.facts["prompt_tokens_read"] == 64


def test_a_script_is_written_as_tei_by_the_files_ending(gpt, tmp_path):
    file = tmp_path / "scene.xml"
    assert generate(gpt, "--tokens", "400", "--output", file).code == 0
    root = ElementTree.fromstring(file.read_bytes())
    assert root.tag == "{http://www.tei-c.org/ns/1.0}TEI"
    assert answer("generate", "--verify", file).code == 0


def test_without_a_file_the_text_is_shown_with_its_nearest_passage(gpt):
    ngram = next(gpt.parent.glob("*-ngram"))
    done = generate(ngram, "--tokens", "400", "-n", "2")
    assert done.code == 0 and "=== 1 ===" in done.out
    copies = [one.facts["longest_copy"] for one in package.load(ngram).generate(2, 1, tokens=400)]
    longest = max(copies, key=lambda copy: copy["characters"])
    assert longest["text"] in done.out and longest["document"].startswith("scene ")
    assert f"(longest copy of training text: {longest['characters']} characters, of {longest['document']})" in done.out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--prompt", "詩 Q"], ["'詩' (U+8A69)", "'Q' (U+0051)", "data.tokenizer=bpe"]),
        (["--temperature", "-1"], ["--temperature=-1.0", "0 or more"]),
        (["--top-p", "0"], ["--top-p=0.0"]),
        (["--tokens", "0"], ["--tokens=0"]),
        (["--stop", ""], ["--stop"]),
        (["--format", "srt"], ["--format srt", "text (.txt), tei (.xml)"]),
        (["--output", "scene.pdf"], ["'.pdf'", "text (.txt)"]),
        (["--output", "nowhere/scene.txt"], ["there is no folder nowhere"]),
        (["--set", "colour=blue"], ["--colour", "does not take it", "--prompt"]),
        (["--set", "colour"], ["NAME=VALUE"]),
        (["--set", 'top_k="many"'], ["--top-k", "int"]),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(gpt, words, parts):
    refused(generate(gpt, *words), 2, *parts)


def test_verify_names_what_is_missing(gpt, tmp_path):
    refused(answer("generate", "--verify", tmp_path / "x.txt"), 3, "x.txt.provenance.json does not exist")
    refused(answer("generate"), 2, "needs a RUN")
    (tmp_path / "y.txt").write_text("y")
    (tmp_path / "y.txt.provenance.json").write_text('{"version": 1}')
    refused(answer("generate", "--verify", tmp_path / "y.txt"), 3, "no provenance")
    whole = {"version": 1, "format": "text", "n": 1, "seed": 1, "settings": {}, "sha256": "0", "made": [], "run": {}}
    for wrong in ({"n": "1"}, {"made": [3]}, {"settings": []}, {"run": {"id": "gone"}}, {"version": 9}):
        content = {**whole, "run": {"id": gpt.name}, **wrong}
        (tmp_path / "y.txt.provenance.json").write_text(json.dumps(content))
        refused(answer("generate", "--verify", tmp_path / "y.txt"), 3, "y.txt")
    refused(answer("generate", "--verify", tmp_path / "y.txt", "-n", "2"), 2, "leave the other options out")


def test_runs_that_make_nothing_say_what_they_do(trained):
    refused(answer("generate", str(trained["ratings"])), 2, "recommends items; it cannot generate")


def test_an_own_corpus_of_pieces_writes_without_its_text(tmp_path, world_cache, shell):
    """The vocabulary travels in the run's folder: the corpus may be gone."""
    pytest.importorskip("tokenizers")
    Path("data").mkdir(exist_ok=True)
    corpus = Path("data/own.txt")
    corpus.write_text("".join(f"Ida said {n} words, and Otto {n + 1}.\n" for n in range(300)))
    words = ["data=text_corpus", "data.path=own.txt", "data.tokenizer=bpe", "data.vocabulary_size=300",
             "model=baseline/ngram", "model.order=3", "tracker=none", "task.sample=0"]  # fmt: skip
    done = shell("train", *words)
    assert done.code == 0, done.err
    corpus.unlink()
    done = shell("generate", "latest", "--prompt", "Ida said 詩", "--tokens", "30")
    assert done.code == 0 and "Ida said 詩" in done.out
    refused(shell("train", *words), 3, "own.txt does not exist")


# Served --------------------------------------------------------------------------------------------------------------


def test_a_service_writes_what_the_command_line_writes(gpt, tmp_path):
    file = tmp_path / "two.txt"
    assert generate(gpt, "-n", "2", "--tokens", "30", "--seed", "4", "--output", file).code == 0
    client = Client(gpt, max_tokens=100)
    try:
        assert client.get("/ready").status_code == 200
        body = {"n": 2, "seed": 4, "settings": {"tokens": 30}}
        made = client.post("/v1/generate", body).json()["made"]
        assert made["content"] == file.read_text(encoding="utf-8") and len(made["facts"]) == 2
        for wrong, part in (
            ({"settings": {"tokens": 101}}, "up to 100"),
            ({"n": 4, "settings": {"tokens": 30}}, "tokens of all samples"),
            ({}, "tokens of all samples: 400"),
            ({"settings": {"tokens": 5, "frames": 3}}, "does not take it"),
            ({"settings": {"tokens": 5}, "format": "mp3"}, "allowed: text"),
            ({"settings": {"tokens": 5, "prompt": "\u5317"}}, "not trained on"),
        ):
            answered = client.post("/v1/generate", wrong)
            assert answered.status_code == 400, answered.text
            assert part in answered.json()["error"]["message"]
        turned_down(client.post("/v1/recommend", {"user": 1}), 409, "cannot", "writes texts")
    finally:
        client.close()
