"""Talking through the command line: requests are learnt, a guide leads through a catalogue, a transcript repeats."""

import json
from pathlib import Path

import pytest

import marquee

from .commands import environment
from .conftest import answer, manifest_of
from .serving import Client, refused

SAID = ["hello", "recommend a comedy please", "something lighter", "not that one", "why", "tell me more",
        "what is the weather like tomorrow", "you are stupid", "", "thanks"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with three finished runs: requests, a recommender, and one that chooses replies."""
    folder = tmp_path_factory.mktemp("talking")
    talks = [{"turns": [f"do you know film {n}", f"yes film {n} is good", "who is in it"]} for n in range(60)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for key, value in environment(folder / "outputs", folder / "cache").items():
            patch.setenv(key, value)
        (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)))
        quick = ["tracker=none", "trainer.max_epochs=4"]
        requests = ["data=world_requests", "data.texts=1500", "optimizer.lr=0.01", "model.dropout=0.1"]
        assert answer("train", *requests, *quick, "name=requests").code == 0
        assert answer("train", "model=linear/ease", "tracker=none", "name=films").code == 0
        words = ["data=conversations", "data.path=talks.jsonl", "task.candidates=5", "model=retrieval/bm25"]
        assert answer("train", *words, "tracker=none", "name=replies").code == 0
        folders = {file.name.partition("-")[2]: file for file in (folder / "outputs" / "runs").iterdir()}
        yield {name: str(path) for name, path in folders.items()}


@pytest.fixture
def chat(place):
    return lambda *words: answer("chat", place["requests"], "--recommender", place["films"], *words)


def test_requests_are_read_nearly_without_fault(place):
    metrics = manifest_of(Path(place["requests"]))["metrics"]
    assert metrics["test/accuracy"] > 0.95 and metrics["test/slot_f1"] > 0.7
    table = marquee.load(place["requests"]).predict(["i would like to watch a comedy"])
    assert table["label"][0] == "recommend" and table["slots"][0] == "kind=comedy"


def test_a_conversation_is_written_and_comes_out_identical(chat, tmp_path):
    file = tmp_path / "talk.json"
    talked = chat("--claims", "--transcript", str(file), "--say", *SAID)
    assert talked.code == 0, talked.err
    assert "How about" in talked.out and "genres = " in talked.out and "beyond me" in talked.out
    content = json.loads(file.read_text())
    assert [turn["said"] for turn in content["turns"]] == SAID
    assert content["recommender"] and content["reader"]
    again = chat("--replay", str(file))
    assert (again.code, again.out) == (0, f"identical: {len(SAID)} turns\n")

    content["turns"][1]["reply"] = "How about nothing?"
    content["recommender"] = "0" * 64
    file.write_text(json.dumps(content))
    differs = chat("--replay", str(file))
    assert differs.code == 4
    assert "recommender: 000" in differs.err and "turn 2, reply: 'How about nothing?' then" in differs.err


def test_lines_may_be_piped_in_until_quit(chat, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n\nquit\nhello\n"))
    talked = chat()
    assert talked.code == 0 and talked.out.count("Hello.") == 1 and "Say what you are looking for" in talked.out


def test_bytes_that_are_no_text_can_be_written_and_options_that_do_nothing_are_refused(chat, tmp_path):
    file = tmp_path / "talk.json"
    assert chat("--say", "\udcff\udcfe", "--transcript", str(file)).code == 0
    assert chat("--replay", str(file)).out == "identical: 1 turns\n"
    refused = chat("--replay", str(file), "--transcript", str(tmp_path / "other.json"))
    assert refused.code == 2 and "leave --transcript and --claims out" in refused.err
    assert "that is a folder" in chat("--say", "hi", "--transcript", str(tmp_path)).err


def test_what_cannot_be_talked_with_is_named(place, chat, tmp_path):
    alone = answer("chat", place["requests"], "--say", "hello")
    assert alone.code == 2 and "--recommender RUN (its items), or --catalogue FILE" in alone.err
    wrong = answer("chat", place["films"], "--recommender", place["films"], "--say", "hello")
    assert wrong.code == 2 and "fix: marquee train data=world_requests" in wrong.err
    swapped = answer("chat", place["requests"], "--recommender", place["replies"], "--say", "hello")
    assert swapped.code == 2 and "--recommender: this run chooses replies" in swapped.err
    (tmp_path / "x.json").write_text("{}")
    assert chat("--replay", str(tmp_path / "x.json")).code == 3
    assert chat("--transcript", str(tmp_path / "none" / "x.json")).code == 2
    other = tmp_path / "films.csv"
    other.write_text("item_id,title\n1,Heat\n")
    unlike = chat("--catalogue", str(other), "--say", "hello")
    assert unlike.code == 2 and "1 rows, 400 items" in unlike.err


def test_a_finished_run_chooses_a_reply(place, tmp_path):
    run = place["replies"]
    best = answer(
        "reply", run, "--to", "do you know film 3", "--candidates", "on monday", "yes film 3 is good", "-k", "1"
    )
    assert best.code == 0 and "yes film 3 is good" in best.out and "monday" not in best.out
    (tmp_path / "replies.txt").write_text("yes film 3 is good\n\nno\n")
    assert answer("reply", run, "--to", "film 3", "--from", str(tmp_path / "replies.txt")).code == 0
    nothing = answer("reply", run, "--to", " ", "--candidates", "no")
    assert nothing.code == 2 and "something to reply to" in nothing.err
    missing = answer("reply", run, "--to", "x", "--from", str(tmp_path / "none.txt"))
    assert missing.code == 3 and "--from takes a text file with a reply a line" in missing.err
    other = answer("reply", place["films"], "--to", "x", "--candidates", "y")
    assert other.code == 2 and "This run recommends items; it cannot reply" in other.err


# Served --------------------------------------------------------------------------------------------------------------


def test_a_service_talks_as_the_guide_does_and_remembers_nobody(place, chat, tmp_path):
    """Second implementation: the transcript of the command line, turn by turn."""
    file, said = tmp_path / "talk.json", [message for message in SAID if message]
    assert chat("--transcript", str(file), "--say", *said).code == 0
    expected = [turn["reply"] for turn in json.loads(file.read_text())["turns"]]
    client = Client(place["requests"], recommender=place["films"])
    try:
        assert client.get("/ready").status_code == 200
        assert client.get("/v1/run").json()["endpoints"] == ["/v1/predict", "/v1/chat"]
        asked = [("/v1/chat", {"messages": said[: n + 1]}) for n in range(len(said))]
        answers = client.many(asked[::-1])[::-1]  # other visitors in between change nothing
        assert [answered.json()["turn"]["reply"] for answered in answers] == expected
        refused(client.post("/v1/chat", {"messages": []}), 400, "invalid", "messages")
        refused(client.post("/v1/chat", {"messages": ["hello"] * 51}), 400, "invalid", "messages")
        (told,) = client.post("/v1/predict", {"texts": ["i would like to watch a comedy"]}).json()["predictions"]
        assert (told["label"], told["slots"]) == ("recommend", "kind=comedy")
    finally:
        client.close()


def test_a_service_chooses_replies_as_the_predictor_does(place):
    client, candidates = Client(place["replies"]), ["on monday", "yes film 3 is good", "no"]
    try:
        assert client.get("/ready").status_code == 200
        told = client.post("/v1/reply", {"to": ["do you know film 3"], "candidates": candidates, "k": 2}).json()
        alone = marquee.load(place["replies"]).respond(["do you know film 3"], candidates).head(2)
        assert told["replies"] == alone.to_dict("records")
        refused(client.post("/v1/reply", {"to": [" "], "candidates": ["a"]}), 400, "invalid", "something to reply to")
        refused(client.post("/v1/chat", {"messages": ["hello"]}), 409, "cannot", "chooses replies")
    finally:
        client.close()
