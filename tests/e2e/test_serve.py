"""A finished run as a service: what it answers, refuses and survives, and how a newer run takes over."""

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
from PIL import Image

import marquee as package
from marquee.inference.golden import GOLDEN
from marquee.serving.reloading import newest

from .commands import begin, environment
from .conftest import answer, manifest_of
from .serving import Client, refused

RECOMMEND = "/v1/recommend"


@pytest.fixture(scope="module")
def clients(trained):
    """A client of each of the finished runs, opened when it is asked for."""
    found = {}

    def client(kind):
        if kind not in found:
            found[kind] = Client(trained[kind])
        return found[kind]

    yield client
    for one in found.values():
        one.close()


@pytest.fixture
def opened():
    """Opens services that end with the test."""
    found = []

    def open_client(*given, **settings):
        found.append(Client(*given, **settings))
        return found[-1]

    yield open_client
    for one in found:
        one.close()


def table_of(answered):
    """(item, score) pairs of the first list of an answer."""
    assert answered.status_code == 200, answered.text
    return [(item["item_id"], item["score"]) for item in answered.json()["answers"][0]["items"]]


def copied(folder, output, change=lambda folder: None, **manifest):
    """A second run beside another: the same files, another id, and a manifest that says something else.

    It is changed and moved there as a whole: a service that looks for newer runs does not see a part of it.
    """
    new = output / "runs" / manifest.pop("id", "00000000-copy")
    new.parent.mkdir(parents=True, exist_ok=True)
    part = output / f"{new.name}.part"
    shutil.copytree(folder, part, ignore=shutil.ignore_patterns("checkpoints", "wandb*", "tensorboard*"))
    content = {**manifest_of(folder), "id": new.name, **manifest}
    (part / "manifest.json").write_text(json.dumps(content))
    change(part)
    part.rename(new)
    return new


# Answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ease", "gru", "ratings", "bpr"])
def test_answers_are_those_of_the_predictor_whatever_is_asked_together(clients, trained, kind):
    """The predictor is asked one by one; the service has all of it at once, with other lengths and other limits."""
    client, predictor = clients(kind), package.load(trained[kind])
    ids, random = predictor.items["item_id"].tolist(), np.random.default_rng(4)
    asked = []
    for number in range(24):
        how = {"k": int(random.integers(1, 30))}
        if number % 3 == 1:
            how["candidates"] = random.choice(ids, 40, replace=False).tolist()
        if number % 4 == 2:
            how["filter_seen"] = False
        by_history = number % 2 and predictor.model.scores_unseen_users
        who = random.choice(ids, number % 7, replace=False).tolist() if by_history else int(number + 1)
        asked.append(("history" if by_history else "user", who, how))
    before = client.batches()
    answers = client.many([(RECOMMEND, {way: who, **how}) for way, who, how in asked])
    batches, rows = (now - then for now, then in zip(client.batches(), before, strict=True))
    assert rows == 24 and batches < 12
    for (way, who, how), answered in zip(asked, answers, strict=True):
        alone = predictor.recommend(**{"histories" if way == "history" else "users": [who]}, **how)
        items, scores = zip(*table_of(answered), strict=True)
        assert list(items) == alone["item_id"].tolist()
        assert list(scores) == pytest.approx(alone["score"].tolist(), rel=1e-5, abs=1e-6)
        assert answered.headers["x-marquee-fingerprint"] == manifest_of(trained[kind])["fingerprint"]
        assert answered.json()["fingerprint"] == answered.headers["x-marquee-fingerprint"]


def test_several_users_or_histories_are_one_request(clients):
    client = clients("ease")
    one = [table_of(client.post(RECOMMEND, {"user": user})) for user in (1, 2)]
    both = client.post(RECOMMEND, {"users": [1, 2]}).json()["answers"]
    assert [entry["user"] for entry in both] == [1, 2]
    assert [[item["item_id"] for item in entry["items"]] for entry in both] == [[i for i, _ in own] for own in one]
    assert client.post(RECOMMEND, {"users": []}).json()["answers"] == []
    assert len(client.post(RECOMMEND, {"histories": [[1], [], [2, 3]]}).json()["answers"]) == 3
    limited = client.post(RECOMMEND, {"users": [1, 2, 3], "candidates": [4, 5, 6, 7], "exclude": [5]}).json()["answers"]
    assert all({item["item_id"] for item in entry["items"]} <= {4, 6, 7} for entry in limited)
    assert client.post(RECOMMEND, {"users": [], "exclude": [1]}).json()["answers"] == []


def test_what_is_excluded_is_not_recommended_and_all_else_is_as_before(clients):
    client = clients("ease")
    whole = [item for item, _ in table_of(client.post(RECOMMEND, {"user": 5, "k": 12}))]
    rest = [item for item, _ in table_of(client.post(RECOMMEND, {"user": 5, "k": 9, "exclude": whole[:3]}))]
    assert rest == whole[3:]


def test_more_than_the_catalogue_is_all_that_is_left(clients, trained):
    predictor = package.load(trained["ease"])
    seen = len(predictor.known.history(4))
    assert len(table_of(clients("ease").post(RECOMMEND, {"user": 5, "k": 1000}))) == 400 - seen


def test_a_reason_is_what_the_score_loses_without_that_title(clients, trained):
    """EASE adds up rows of its matrix, so by hand the share of a title is the entry of its row."""
    predictor = package.load(trained["ease"])
    weights = next(value for value in predictor.model.state_dict().values() if value.shape == (400, 400)).numpy()
    ids, titles = predictor.items["item_id"].tolist(), predictor.items["title"].tolist()
    told = clients("ease").post(RECOMMEND, {"history": ids[:5], "k": 3, "explain": True}).json()["answers"][0]["items"]
    for item in told:
        column = weights[:5, ids.index(item["item_id"])]
        expected = [place for place in np.argsort(-column)[:3] if column[place] > 0]
        assert [reason["title"] for reason in item["because"]] == [titles[place] for place in expected]
        assert [reason["share"] for reason in item["because"]] == pytest.approx(column[expected], abs=1e-6)


def test_a_title_that_was_liked_twice_is_one_reason(clients, trained):
    ids = package.load(trained["gru"]).items["item_id"].tolist()
    body = {"history": [*ids[:2] * 3, *ids[:5]], "k": 5, "explain": True}
    told = clients("gru").post(RECOMMEND, body).json()["answers"][0]["items"]
    named = [[reason["item_id"] for reason in item["because"]] for item in told]
    assert any(named) and all(len(set(one)) == len(one) for one in named)
    assert all(one["because"] == sorted(one["because"], key=lambda own: -own["share"]) for one in told)


def test_texts_and_images_are_labelled_as_by_the_predictor(clients, trained):
    texts = ["a slow start, but the last act is wonderful", "", "dreadful"]
    alone = package.load(trained["lstm"]).predict(texts)
    answers = clients("lstm").many([("/v1/predict", {"texts": [text]}) for text in texts])
    for answered, (_, row) in zip(answers, alone.iterrows(), strict=True):
        (told,) = answered.json()["predictions"]
        assert told["label"] == row["label"]
        for label, chance in told["probabilities"].items():
            assert chance == pytest.approx(row[f"p({label})"], abs=1e-6)

    random = np.random.default_rng(0)
    files = [png(random.integers(0, 256, (30, 20, 3), dtype=np.uint8)) for _ in range(2)]
    alone = package.load(trained["cnn"]).predict(files)
    client = clients("cnn")
    together = client.post("/v1/predict", {"images": [base64.b64encode(file).decode() for file in files]})
    raw = client.post("/v1/predict", files[0], headers={"content-type": "image/png"})
    for told, row in zip([*together.json()["predictions"], *raw.json()["predictions"]], (0, 1, 0), strict=True):
        assert told["label"] == alone["label"][row]
        for label, chance in told["probabilities"].items():
            assert chance == pytest.approx(alone[f"p({label})"][row], abs=1e-6)


def bomb(side):
    """A PNG file of a hundred bytes that says of itself to be so large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    whole = png(np.zeros((8, 8, 3), np.uint8))
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_titles_are_searched_and_the_number_of_suggestions_is_limited(clients, trained):
    client, titles = clients("ease"), package.load(trained["ease"]).items["title"].tolist()
    found = client.get("/v1/items", params={"q": titles[7][:6].lower(), "n": 5}).json()["items"]
    assert 1 <= len(found) <= 5 and all(titles[7][:6].lower() in item["title"].lower() for item in found)
    for params in ({}, {"q": " "}, {"q": "a", "n": 51}, {"q": "a", "n": 0}, {"q": "x" * 301}):
        refused(client.get("/v1/items", params=params), 400, "invalid", "/v1/items?q=")
    refused(client.get("/v1/items", params={"q": "a", "n": "many"}), 400, "invalid", "query.n")


def test_the_run_says_what_it_is_and_metrics_count(clients, trained):
    client, manifest = clients("ease"), manifest_of(trained["ease"])
    told = client.get("/v1/run").json()
    assert told["fingerprint"] == manifest["fingerprint"] and told["metrics"] == manifest["metrics"]
    assert told["protocol"].startswith("full ranking of 400 items") and told["does"] == "recommends items"
    assert told["endpoints"] == ["/v1/recommend", "/v1/items"] and told["ready"] is True
    client.post(RECOMMEND, {"user": 1})
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert f'fingerprint="{manifest["fingerprint"]}"' in text and "marquee_ready 1.0" in text
    for line in ('marquee_requests_total{endpoint="/v1/recommend",status="200"}', "marquee_batch_rows_bucket",
                 'marquee_requests_total{endpoint="other",status="404"}', "marquee_queue 0.0",
                 'marquee_request_seconds_bucket{endpoint="/v1/run"'):  # fmt: skip
        assert line in text


def test_the_endpoints_are_described(clients):
    api = clients("ease").get("/openapi.json").json()
    assert {"/v1/recommend", "/v1/predict", "/v1/items", "/v1/run", "/v1/reload", "/live", "/ready"} <= set(
        api["paths"]
    )
    assert "histories" in api["components"]["schemas"]["Recommend"]["properties"]


# Refusals ------------------------------------------------------------------------------------------------------------


def test_unknown_users_and_titles_are_not_found_and_suggestions_are_made(clients, trained):
    client, title = clients("ease"), package.load(trained["ease"]).items["title"][0]
    error = refused(client.post(RECOMMEND, {"history": [title[:-2] + "zz"]}), 404, "unknown", "neither a title")
    assert title in error["suggestions"]
    refused(client.post(RECOMMEND, {"user": 99999}), 404, "unknown", "99999", "1,000 users")
    refused(client.post(RECOMMEND, {"user": 1, "exclude": ["nothing at all"]}), 404, "unknown")


def test_one_unknown_title_leaves_the_others_their_answer(clients):
    answers = clients("ease").many([(RECOMMEND, {"history": [name]}) for name in (1, "no such film", 3)])
    assert [answered.status_code for answered in answers] == [200, 404, 200]


def test_what_the_run_does_not_do_is_refused_with_what_it_does(clients):
    refused(clients("ease").post("/v1/predict", {"texts": ["fine"]}), 409, "cannot", "recommends items", RECOMMEND)
    refused(clients("lstm").post(RECOMMEND, {"user": 1}), 409, "cannot", "classifies texts", "/v1/predict")
    refused(clients("lstm").post("/v1/predict", {"images": ["aGk="]}), 400, "invalid", "give texts")
    refused(clients("cnn").post("/v1/predict", {"texts": ["fine"]}), 400, "invalid", "give images")
    refused(clients("lstm").post("/v1/predict", b"x", headers={"content-type": "image/png"}), 400, "invalid")
    refused(clients("bpr").post(RECOMMEND, {"history": [1]}), 400, "invalid", "knows users by id only")
    refused(clients("ease").post(RECOMMEND, {"features": {"age": 3}}), 400, "invalid", "no features of users")
    refused(clients("ease").get("/v2"), 404, "no_such_endpoint", RECOMMEND)
    refused(clients("ease").get(RECOMMEND), 405, "method")


WRONG = [
    ("{}", 400, "Give one of user"),
    ('{"user": 1, "history": [1]}', 400, "user and history were given"),
    ('{"user": 1, "k": 0}', 400, "body.k"),
    ('{"user": 1, "k": 1e9}', 400, "body.k"),
    ('{"user": 1, "k": 100000000000000000000}', 400, "takes up to 1,000"),
    ('{"user": NaN}', 400, "body.user"),
    ('{"user": true}', 400, "body.user"),
    ('{"user": {"a": 1}}', 400, "body.user"),
    ('{"users": 1}', 400, "body.users"),
    ('{"user": 1, "kk": 1}', 400, "body.kk"),
    ('{"user": 1', 400, "JSON"),
    ("[1, 2]", 400, "body"),
    (b'{"history": ["\xff\xfe"]}', 400, ""),
    ('{"history": ["\\ud800"]}', 404, "neither a title"),
    ("[" * 5000, 400, ""),
    ('{"user": ' + "9" * 5000 + "}", 400, ""),
    (json.dumps({"history": [1] * 10_001}), 400, "takes up to 10,000"),
    (json.dumps({"users": [1] * 257}), 400, "takes up to 256"),
    (json.dumps({"users": [1] * 9, "explain": True}), 400, "explained: 9"),
    (json.dumps({"users": [1] * 200, "k": 300}), 400, "items of all answers: 60000"),
    (b"x" * 10_000_000, 413, "8,000,000 bytes"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_wrong_request_is_refused_in_words(clients, number):
    body, status, part = WRONG[number]
    answered = clients("ease").post(RECOMMEND, body)
    assert answered.status_code == status, answered.text[:300]
    assert part in answered.json()["error"]["message"] and len(answered.content) < 2000


def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(clients):
    client, kind = clients("cnn"), {"headers": {"content-type": "image/png"}}
    refused(client.post("/v1/predict", bomb(9000), **kind), 413, "too_large", "9000 x 9000", "25,000,000")
    refused(client.post("/v1/predict", bomb(100_000), **kind), 413, "too_large", "25,000,000")
    refused(client.post("/v1/predict", b"%!PS-Adobe-3.0 EPSF-3.0\n", **kind), 400, "unreadable", "JPEG, PNG")
    refused(client.post("/v1/predict", {"images": ["not base64!"]}), 400, "unreadable", "base64")
    whole = png(np.zeros((8, 8, 3), np.uint8))
    refused(client.post("/v1/predict", whole[: len(whole) // 2], **kind), 400, "unreadable")


def test_only_who_has_the_token_is_answered(clients):
    client = clients("ease")
    for given in ("Bearer wrong", "secret", "Basic secret", "Bearer ", "Bearer secret2", "Bearer s\u00e9cret"):
        headers = {"authorization": given.encode("latin-1")}
        for path in ("/v1/run", "/metrics", "/v1/items?q=a"):
            refused(client.get(path, headers=headers), 401, "unauthorised", "Bearer")
        for path in ("/", "/live", "/ready", "/docs", "/page.js"):  # the page asks for it, health needs none
            assert client.get(path, headers=headers).status_code == 200


def test_pages_allow_no_foreign_script(clients):
    policy = clients("ease").get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_a_small_service_says_what_it_takes(opened, trained):
    client = opened(trained["lstm"], max_rows=2, max_text=10, max_body=200)
    refused(client.post("/v1/predict", {"texts": ["a"] * 3}), 400, "too_many", "up to 2")
    refused(client.post("/v1/predict", {"texts": ["a" * 11]}), 400, "too_many", "characters of a text")
    refused(client.post("/v1/predict", {"texts": ["a" * 300]}), 413, "too_large", "200 bytes")
    refused(client.post("/v1/predict", b"{}", headers={"content-type": "text/plain"}), 415, "type", "application/json")
    client = opened(trained["ease"], max_k=5, max_list=3)
    refused(client.post(RECOMMEND, {"user": 1, "k": 6}), 400, "too_many", "k: 6", "up to 5")
    refused(client.post(RECOMMEND, {"user": 1, "k": 5, "candidates": [1, 2, 3, 4]}), 400, "too_many", "items of a list")
    client = opened(trained["cnn"], max_pixels=63)
    kind = {"headers": {"content-type": "image/png"}}
    refused(client.post("/v1/predict", png(np.zeros((8, 8, 3), np.uint8)), **kind), 413, "too_large", "8 x 8")
    assert client.post("/v1/predict", png(np.zeros((9, 7, 3), np.uint8)), **kind).status_code == 200


def test_a_request_that_never_arrives_is_given_up_and_one_that_is_broken_off_leaves_nothing(opened, trained):
    client = opened(trained["ease"], timeout=0.1)

    def status(*messages, then=None):
        """Of a request whose body comes in these parts, and then waits, or what `then` says."""
        sent, parts = [], list(messages)

        async def receive():
            if parts:
                return parts.pop(0)
            if then is None:
                await asyncio.sleep(30)
            return then

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
                 "path": RECOMMEND, "raw_path": RECOMMEND.encode(), "query_string": b"", "root_path": "",
                 "headers": [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")],
                 "client": ("here", 1), "server": ("test", 80)}  # fmt: skip
        client._run(client.app(scope, receive, send))
        assert client.service.working == client.service.body == 0
        return sent[0]["status"]

    part = {"type": "http.request", "body": b'{"user": ', "more_body": True}
    assert status(part) == 408 and status() == 408
    assert status(part, then={"type": "http.disconnect"}) == 400
    assert status(part, {"type": "http.request", "body": b"1}", "more_body": False}) == 200
    client.service.body = 16 * client.service.settings.max_body  # others fill the memory
    try:
        refused(client.post(RECOMMEND, {"user": 1}), 429, "busy", "fill the memory")
    finally:
        client.service.body = 0


# Golden requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ease", "bpr", "gru", "lstm", "cnn"])
def test_training_stores_golden_requests_and_they_come_out_again(clients, trained, kind):
    content = json.loads((trained[kind] / "inference" / GOLDEN).read_text())
    assert content["requests"] and "user" not in json.dumps([one["question"] for one in content["requests"]])
    assert clients(kind).get("/ready").status_code == 200


@pytest.mark.parametrize("kind", ["ease", "lstm"])
def test_a_run_that_answers_otherwise_than_at_training_is_not_ready(trained, tmp_path, opened, kind):
    folder = copied(trained[kind], tmp_path)
    file = folder / "inference" / GOLDEN
    content = json.loads(file.read_text())
    answer = content["requests"][0]["answer"]
    name = next(name for name in answer if isinstance(answer[name][0], float))
    answer[name][0] += 0.01 + 0.01 * abs(answer[name][0])
    file.write_text(json.dumps(content))
    client = opened(folder)
    refused(client.get("/ready"), 503, "not_ready", "golden request 1")
    path, body = {"ease": (RECOMMEND, {"user": 1}), "lstm": ("/v1/predict", {"texts": ["a"]})}[kind]
    refused(client.post(path, body), 503, "not_ready", "golden request 1")
    assert client.get("/live").status_code == 200 and client.get("/v1/run").json()["ready"] is False


def test_nothing_is_answered_before_the_golden_requests_have_come_out(trained, opened):
    client = opened(trained["ease"], warm=False)
    early = client.get("/ready")
    refused(early, 503, "not_ready", "being tried")
    assert early.headers["retry-after"] == "1"
    refused(client.post(RECOMMEND, {"user": 1}), 503, "not_ready")
    client.service.warm()
    assert client.get("/ready").status_code == 200


def test_a_run_of_an_earlier_version_is_ready_with_a_remark(trained, tmp_path, opened):
    folder = copied(trained["ease"], tmp_path)
    (folder / "inference" / GOLDEN).unlink()
    told = opened(folder).get("/ready").json()
    assert told["ready"] and "no golden requests" in told["remarks"][0]


# Newer runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def label(trained, tmp_path):
    """Outputs with a run of the label `films`, and what makes a newer one of that label."""
    import pandas as pd

    first = copied(trained["ease"], tmp_path, id="00000000-films", finished="2026-01-01T00:00:00.000+00:00")

    def newer(number, loss=0.0, **manifest):
        """Each user's ndcg@10 is lower by that share."""
        finished = f"2026-01-01T00:00:{number:02d}.000+00:00"
        fingerprint = str(number) * 64

        def worse(new):
            units = pd.read_parquet(new / "per_unit.parquet")
            units["ndcg@10"] *= 1 - loss
            units.to_parquet(new / "per_unit.parquet")
            content = manifest_of(new)
            content["metrics"]["test/ndcg@10"] = float(units["ndcg@10"].mean())
            (new / "manifest.json").write_text(json.dumps(content))

        return copied(first, tmp_path, worse, id=f"{fingerprint[:8]}-films", finished=finished,
                      fingerprint=fingerprint, **manifest)  # fmt: skip

    return tmp_path, newer


def test_a_newer_run_takes_over_under_load_and_nobody_is_refused(label, opened):
    output, newer = label
    client = opened("films", runs=output, reload=True)
    new = newer(1)
    came = []
    reload = threading.Thread(target=lambda: came.append(client.service.reload()))
    answers = client.many([(RECOMMEND, {"user": user}) for user in range(1, 41)])
    reload.start()
    while not came and len(answers) < 4000:
        answers += client.many([(RECOMMEND, {"user": user}) for user in range(1, 41)])
    reload.join()
    answers += client.many([(RECOMMEND, {"user": user}) for user in range(1, 41)])
    assert came[0]["outcome"] == "taken" and came[0]["run"] == new.name
    assert {answered.status_code for answered in answers} == {200}
    fingerprints = [answered.json()["fingerprint"] for answered in answers]
    assert fingerprints[0] != "1" * 64 and fingerprints[-40:] == ["1" * 64] * 40
    assert 'marquee_reloads_total{outcome="taken"} 1.0' in client.get("/metrics").text


def test_a_run_of_another_protocol_or_a_worse_one_takes_over_by_force_only(label, opened):
    output, newer = label
    client = opened("films", runs=output, reload=True)
    first = client.get("/v1/run").json()["run"]
    assert client.post("/v1/reload", {}).json()["outcome"] == "same"

    newer(1, split={**manifest_of(output / "runs" / first)["split"], "fingerprint": "f" * 64, "config": {}})
    told = client.post("/v1/reload", {})
    assert told.status_code == 409 and "another protocol" in told.json()["message"]
    assert client.get("/v1/run").json()["run"] == first

    worse = newer(2, loss=0.3)
    told = client.post("/v1/reload", {}).json()
    assert told["outcome"] == "refused" and "significantly worse: ndcg@10" in told["message"]
    assert "p = 0.0001" in told["message"] and client.get("/v1/run").json()["run"] == first
    assert client.post("/v1/reload", {"force": True}).json()["outcome"] == "taken"
    assert client.get("/v1/run").json()["run"] == worse.name


def test_a_newer_run_of_another_task_does_not_hide_the_one_that_may_take_over(label, opened, trained):
    """`latest` means every run: that a review run was finished after it does not keep a newer film run away."""
    output, newer = label
    client = opened("latest", runs=output, reload=True)
    films = newer(1)
    copied(trained["lstm"], output, id="99999999-reviews", finished="2026-01-01T00:00:09.000+00:00")
    client.service.look_for_newer()
    assert client.get("/v1/run").json()["run"] == films.name
    assert client.service.reload()["outcome"] == "refused"  # that of the reviews


def test_a_run_that_was_tested_on_fewer_users_cannot_be_compared(label, opened):
    import pandas as pd

    output, newer = label
    client = opened("films", runs=output, reload=True)
    new = newer(1)
    units, content = pd.read_parquet(new / "per_unit.parquet").head(3), manifest_of(new)
    units.to_parquet(new / "per_unit.parquet")
    content["metrics"]["test/ndcg@10"], content["n_units"] = float(units["ndcg@10"].mean()), 3
    (new / "manifest.json").write_text(json.dumps(content))
    told = client.service.reload()
    assert told["outcome"] == "refused" and "tested on 3 of the 1,000 units" in told["message"]


def test_a_label_that_ends_in_a_number_is_one_of_its_own(label):
    output, newer = label
    first = output / "runs" / "00000000-films"
    for name, own in (("33333333-films-2", "films"), ("44444444-films-2", "films-2")):
        copied(first, output, id=name, name=own, finished="2026-01-02T00:00:00.000+00:00")
    named = lambda run: [folder.name for folder in newest(run, output)]  # noqa: E731
    assert named("films") == ["33333333-films-2", "00000000-films"]
    assert named("films-2") == ["44444444-films-2", "33333333-films-2"]


def test_a_service_with_force_takes_whatever_is_newer(label, opened):
    output, newer = label
    client = opened("films", runs=output, reload=True, force=True)
    worse = newer(1, loss=0.3)
    client.service.look_for_newer()
    assert client.get("/v1/run").json()["run"] == worse.name


def test_a_damaged_newer_run_does_not_take_over_and_is_not_looked_at_twice(label, opened, monkeypatch):
    output, newer = label
    client = opened("films", runs=output, reload=True)
    new = newer(1)
    file = new / "inference" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + b"\0" * 8)
    client.service.look_for_newer()
    told = client.post("/v1/reload", {"force": True})
    assert told.status_code == 409 and "sha256" in told.json()["message"] and str(file) in told.json()["message"]
    assert client.post(RECOMMEND, {"user": 1}).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(client.service, "reload", lambda **_: pytest.fail("looked at twice"))
        client.service.look_for_newer()
    shutil.copy(client.service.served.folder / "inference" / file.name, file)  # it was being copied, manifest first
    client.service.look_for_newer()
    assert client.get("/v1/run").json()["run"] == new.name


def test_what_comes_while_a_run_is_looked_at_is_looked_at_again(label, opened, monkeypatch):
    output, newer = label
    client = opened("films", runs=output, reload=True)
    new = newer(1)

    def too_early(current, folder):
        (folder / "manifest.json").write_text((folder / "manifest.json").read_text() + "\n")
        return "it is being copied"

    with monkeypatch.context() as patch:
        patch.setattr(client.service, "_why_not", too_early)
        client.service.look_for_newer()
    assert client.service.served.folder != new
    client.service.look_for_newer()
    assert client.service.served.folder == new


def test_the_shadow_is_asked_too_and_its_overlap_is_reported(trained, opened):
    """By hand: the share of the items of each served list that the shadow's predictor recommends as well."""
    client = opened(trained["ease"], shadow=str(trained["bpr"]))
    one, other = package.load(trained["ease"]), package.load(trained["bpr"])
    lists = [[set(own.recommend(users=[user], k=5)["item_id"]) for own in (one, other)] for user in range(1, 9)]
    expected = np.mean([len(served & shadow) / 5 for served, shadow in lists])
    client.many([(RECOMMEND, {"user": user, "k": 5}) for user in range(1, 9)])
    for _ in range(100):
        told = client.get("/v1/run").json()["shadow"]
        if told["compared"] == 8:
            break
        time.sleep(0.02)
    assert told["overlap@5"] == pytest.approx(expected) and told["run"] == trained["bpr"].name
    assert told["wrong"] == []
    assert 'marquee_shadow_overlap_count{k="5"} 8.0' in client.get("/metrics").text
    client.post(RECOMMEND, {"history": [1]})  # a model of ids cannot
    for _ in range(100):
        if client.get("/v1/run").json()["shadow"]["failed"] == 1:
            return
        time.sleep(0.02)
    pytest.fail("what the shadow could not answer is not counted")


# The command and its process -----------------------------------------------------------------------------------------


def test_what_cannot_be_served_is_said_before_anything_listens(trained, tmp_path, monkeypatch):
    def says(code, *words, parts):
        done = answer("serve", *map(str, words))
        assert done.code == code and "Traceback" not in done.err, done.err
        for part in parts:
            assert part in done.err, done.err

    ease = trained["ease"]
    says(2, "nothing", "--runs", tmp_path, parts=["no run nothing"])
    says(2, ease, "--host", "0.0.0.0", parts=["a token is needed", "--token-env"])
    says(2, ease, "--token-env", "NO_TOKEN_HERE", parts=["no NO_TOKEN_HERE", "export"])
    monkeypatch.setenv("EMPTY", " ")
    says(2, ease, "--token-env", "EMPTY", parts=["no EMPTY"])
    says(2, ease, "--host", "203.0.113.7", "--token-env", "PATH", parts=["no address of this machine"])
    says(2, ease, "--force", parts=["add --reload"])
    says(2, ease, "--replicas", "2", parts=["--engine ray"])
    says(2, ease, "--port", "70000", parts=["no port"])
    says(2, ease, "--port", "0", "--shadow", trained["lstm"], parts=["--shadow", "classifies texts"])
    says(2, ease, "--port", "0", "--recommender", ease, parts=["world_requests"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        says(4, ease, "--port", taken.getsockname()[1], parts=["cannot be used", "--port 0"])
    folder = copied(ease, tmp_path)
    file = folder / "inference" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    says(3, folder, "--port", "0", parts=[str(file), "sha256 is", "marquee rerun"])
    file.unlink()
    says(3, folder, "--port", "0", parts=[str(file), "cannot be read"])


@pytest.mark.parametrize("kind, name", [("ease", "ids.json"), ("ease", "items.json"), ("ease", "histories.safetensors"),
                                        ("lstm", "text.json"), ("cnn", "model.json")])  # fmt: skip
def test_any_file_that_is_not_as_training_wrote_it_is_named(trained, tmp_path, kind, name):
    """Ids in another order would be a service that answers, and whose answers are other people's."""
    folder = copied(trained[kind], tmp_path)
    file = folder / "inference" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = answer("serve", str(folder), "--port", "0")
    assert done.code == 3 and f"{file} is damaged: its sha256 is" in done.err, done.err
    file.unlink()
    done = answer("serve", str(folder), "--port", "0")
    assert done.code == 3 and f"{file} cannot be read" in done.err, done.err
    (folder / "inference" / GOLDEN).write_text("[1]")
    done = answer("serve", str(folder), "--port", "0")
    assert done.code == 3 and f"{GOLDEN} is damaged" in done.err, done.err


class Process:
    """`marquee serve` in a process of its own, at a free port of this machine."""

    def __init__(self, output, cache, *words):
        self.process = begin("serve", *map(str, words), "--port", "0", env=environment(output, cache))
        for _ in range(400):
            if "http://" in self.process.told() or self.process.poll() is not None:
                break
            time.sleep(0.05)
        told = self.process.told()
        assert "http://" in told, self.process.communicate(5)
        self.address = told.split("http://")[1].split()[0]
        for _ in range(200):
            if self.get("/ready")[0] == 200:
                return
            time.sleep(0.05)
        raise AssertionError("never ready")

    def get(self, path, body=None):
        request = urllib.request.Request(f"http://{self.address}{path}", body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answered:
                return answered.status, answered.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def test_a_stopped_service_answers_what_is_under_way_and_leaves_nothing_behind(trained, tmp_path):
    """Six requests wait for a seventh, of which only the head has come when the service is told to stop."""
    served = Process(tmp_path, tmp_path, trained["ease"], "--batch-wait", "20000")
    body = json.dumps({"user": 1}).encode()
    host, port = served.address.split(":")
    statuses = []
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(
            b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        threads = [threading.Thread(target=lambda: statuses.append(served.get(RECOMMEND, body)[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            if b"marquee_queue 6.0" in served.get("/metrics")[1]:
                break
            time.sleep(0.05)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert statuses == [] and served.process.poll() is None
        slow.sendall(body)
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")
    for thread in threads:
        thread.join(30)
    assert statuses == [200] * 6
    assert served.process.wait(30) == 0 and served.process.told().endswith("stopped\n")


def test_a_stopped_service_does_not_wait_for_ever_for_a_request_that_never_arrives(trained, tmp_path):
    served = Process(tmp_path, tmp_path, trained["ease"], "--drain", "0.5")
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        for _ in range(200):
            if b"marquee_working 2.0" in served.get("/metrics")[1]:
                break
            time.sleep(0.05)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0


def test_a_killed_service_leaves_no_process_behind_and_its_port_is_free(trained, tmp_path):
    served = Process(tmp_path, tmp_path, trained["ease"])
    host, port = served.address.split(":")
    served.process.kill()
    served.process.wait(10)
    with pytest.raises(ProcessLookupError):  # nobody of its group is left
        os.killpg(served.process.pid, 0)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((host, int(port)))


def test_a_signal_or_a_look_now_and_then_finds_the_newer_run(label):
    output, newer = label
    served = Process(output, output, "films", "--runs", output, "--reload", "--reload-seconds", "0.1")
    for number, hint in ((1, None), (2, signal.SIGHUP)):
        new = newer(number)
        if hint:
            served.process.send_signal(hint)
        for _ in range(200):
            if json.loads(served.get("/v1/run")[1])["run"] == new.name:
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"{new.name} never took over: {served.process.told()}")
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(30) == 0
