"""Response selection: pairs of one conversation, words that both share, twins in a batch, ranks with ties."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from marquee.data.dataset import Paths
from marquee.data.dialogue.conversations import Conversations
from marquee.data.dialogue.views import AllPairs, PairBatch, Pairs
from marquee.data.holdout import Holdout
from marquee.data.spec import PairSpec
from marquee.errors import ConfigError, DataError
from marquee.metrics.retrieval import RetrievalEvaluator
from marquee.models.retrieval.bm25 import Bm25
from marquee.models.retrieval.dual_encoder import DualEncoder
from marquee.models.retrieval.tfidf import Tfidf
from marquee.tasks.response import Response


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """60 conversations of three or four turns."""
    folder = tmp_path_factory.mktemp("talks")
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    rows = [
        {"topic": "films" if n % 2 else "music",
         "turns": [" ".join(rng.choice(list("abcdefghijklm"), size=rng.integers(1, 6))) for _ in range(3 + n % 2)]}
        for n in range(60)
    ]  # fmt: skip
    (folder / "data" / "talks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Paths(folder / "data", folder / "cache"), [row["turns"] for row in rows]


def prepared(talks, **options):
    data = Conversations(path="talks.jsonl", min_count=1, **options)
    data.setup(Holdout(), talks[0])
    return data


def words(data, row):
    return " ".join(data.vocabulary[token] for token in row.tolist() if token)


def test_each_reply_follows_what_was_said_before_it(talks):
    data = prepared(talks, context=2)
    wanted = [(" ".join(turns[max(0, n - 2) : n]), turns[n]) for turns in talks[1] for n in range(1, len(turns))]
    said, replied = data.rows(np.arange(len(data.pairs)), 50)
    assert [(words(data, a), words(data, b)) for a, b in zip(said, replied)] == wanted


def test_a_conversation_lies_in_one_part(talks):
    data = prepared(talks)
    talk = np.repeat(np.arange(60), [len(turns) - 1 for turns in talks[1]])
    parts = [set(talk[rows]) for rows in data.parts.values()]
    assert sum(map(len, parts)) == 60 and len(set.union(*parts)) == 60


def test_long_texts_keep_the_end_of_what_was_said_and_the_beginning_of_the_reply(talks):
    data = prepared(talks)
    said, replied = data.rows(np.arange(len(data.pairs)), 2)
    pairs = [(turns[n - 1].split()[-2:], turns[n].split()[:2]) for turns in talks[1] for n in range(1, len(turns))]
    assert [(words(data, a).split(), words(data, b).split()) for a, b in zip(said, replied)] == pairs


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: not a JSON object"),
        ('{"turns": "a"}', "line 1: expected"),
        ('{"turns": ["a"]}', "no conversation"),
    ],
)
def test_lines_that_are_no_conversation_are_named(tmp_path, line, told):
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(DataError, match=told):
        Conversations(path=str(tmp_path / "x.jsonl")).setup(Holdout(), Paths(tmp_path, tmp_path / "cache"))


def fitted(kind, replies, **options):
    model = kind(PairSpec(8), view=AllPairs(), **options)
    rows = torch.tensor(replies)
    model.fit(PairBatch(rows, rows, torch.arange(len(rows)), torch.arange(len(rows))))
    return model


REPLIES = [[2, 3, 3, 0], [3, 4, 0, 0], [5, 0, 0, 0], [2, 2, 6, 7]]
SAID = [[2, 3, 0], [3, 5, 5], [1, 7, 0]]


def test_tfidf_is_that_of_scikit_learn():
    model = fitted(Tfidf, REPLIES)
    join = [" ".join(f"w{token}" for token in row if token > 1) for row in REPLIES]
    said = [" ".join(f"w{token}" for token in row if token > 1) for row in SAID]
    vectors = TfidfVectorizer(sublinear_tf=True).fit(join)
    wanted = (vectors.transform(said) @ vectors.transform(join).T).toarray()
    np.testing.assert_allclose(model.match(torch.tensor(SAID), torch.tensor(REPLIES)), wanted, rtol=1e-5, atol=1e-6)


def test_bm25_by_its_formula_word_by_word():
    model = fitted(Bm25, REPLIES, k1=1.5, b=0.6)
    texts = [[token for token in row if token > 1] for row in REPLIES]
    mean = sum(map(len, texts)) / 4
    wanted = []
    for row in SAID:
        scores = []
        for text in texts:
            counts, score = Counter(text), 0.0
            for word in (token for token in row if token > 1):
                held = sum(word in other for other in texts)
                idf = math.log(1 + (4 - held + 0.5) / (held + 0.5))
                often = counts[word]
                score += idf * often * 2.5 / (often + 1.5 * (1 - 0.6 + 0.6 * len(text) / mean))
            scores.append(score)
        wanted.append(scores)
    np.testing.assert_allclose(model.match(torch.tensor(SAID), torch.tensor(REPLIES)), wanted, rtol=1e-5)


def test_replies_of_the_same_words_are_no_negatives_of_each_other():
    torch.manual_seed(0)
    model = DualEncoder(PairSpec(8), view=Pairs(), dim=4, hidden=4, buckets=16, overlap=False).eval()
    contexts, replies = torch.tensor([[2, 3], [4, 5], [6, 0]]), torch.tensor([[3, 2], [3, 2], [7, 0]])
    loss = model.loss(PairBatch(contexts, replies, torch.tensor([9, 9, 1]), torch.arange(3)))
    scores = model.match(contexts, replies).double()
    kept = scores.clone()
    kept[0, 1] = kept[1, 0] = -torch.inf
    by_hand = -(kept.log_softmax(1).diag().mean() + kept.T.log_softmax(1).diag().mean()) / 2
    assert float(loss.detach()) == pytest.approx(float(by_hand), rel=1e-5)
    # A cosine times the learnt scale, whatever the padding.
    assert scores.abs().max() <= float(model.scale.exp()) + 1e-5
    wider = torch.cat([contexts, torch.zeros(3, 4, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model.match(wider, replies), model.match(contexts, replies))


def test_ranks_are_expected_over_ties_and_copies_of_the_right_reply_are_right():
    """By hand: alone on the second place; tied with one for the first; a copy scored higher counts as a tie."""
    evaluator = RetrievalEvaluator((1, 2), "_uniform3")
    scores = torch.tensor([[0.5, 0.9, 0.1, 0.0], [0.7, 0.7, 0.2, 0.1], [0.3, 0.2, 0.8, 0.1]])
    same = torch.zeros(3, 4, dtype=torch.bool)
    same[:, 0] = True
    same[2, 2] = True
    batch = SimpleNamespace(index=torch.tensor([7, 3, 5]), right=torch.zeros(3, dtype=torch.int64), same=same)
    evaluator.update(scores, batch)
    metrics, units = evaluator.compute([evaluator.state()])
    assert units["pair"].tolist() == [3, 5, 7]
    assert units["recall@1_uniform3"].tolist() == [0.5, 0.5, 0.0]
    assert units["recall@2_uniform3"].tolist() == [1.0, 1.0, 1.0]
    assert units["mrr_uniform3"].tolist() == [0.75, 0.75, 0.5]
    assert metrics["mrr_uniform3"] == pytest.approx(2 / 3)


def test_all_runs_rank_the_same_candidates_and_chance_finds_one_in_ten(talks):
    data = prepared(talks)
    task = Response(DualEncoder(data.spec, view=Pairs(), dim=4, hidden=4, buckets=16), data, seed=5, candidates=10)
    other = Response(Tfidf(data.spec, view=AllPairs()), data, seed=6, candidates=10)
    blocks = [[batch.index.tolist() for batch in of.evaluation_batches("test")] for of in (task, other)]
    assert blocks[0] == blocks[1] and len(blocks[0]) == len(data.parts["test"]) // 10
    metrics, _ = task.evaluate(task.baselines()["random"], "test")
    assert 0.1 <= metrics["recall@1_uniform9"] < 0.15  # copies of the right reply are right
    assert task.metrics_of({"candidates": 10}) == ["recall@1_uniform9", "mrr_uniform9"]
    with pytest.raises(ConfigError, match=r"task.ks=10: of task.candidates=10 .*\n  allowed: 1 ... 9"):
        Response(task.model, data, candidates=10, ks=[1, 10])
    with pytest.raises(DataError, match=r"task.candidates=500 are wanted"):
        Response(task.model, data, candidates=500)


def test_overlap_adds_the_cosine_of_tfidf_by_its_weight(talks):
    torch.manual_seed(0)
    data = prepared(talks)
    model = DualEncoder(data.spec, view=Pairs(), dim=4, hidden=4, buckets=16).eval()
    model.prepare(data)
    words_alone = Tfidf(data.spec, view=AllPairs())
    words_alone.fit(AllPairs().batch(data, data.parts["train"]))
    batch = Pairs().batch(data, data.parts["test"][:5])
    with torch.no_grad():
        both = model.match(batch.contexts, batch.replies)
        added = model.weight.exp() * words_alone.match(batch.contexts, batch.replies)
        model.shared = None
        torch.testing.assert_close(both - added, model.match(batch.contexts, batch.replies), rtol=1e-4, atol=1e-5)
