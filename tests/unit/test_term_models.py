"""Linear text models on n-grams, beside scikit-learn and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC

from marquee.data.spec import TextSpec
from marquee.data.text.ngrams import NGrams, tokens_of
from marquee.data.text.store import TextStore
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError, DataError
from marquee.inference.artefacts import load_model, save_model
from marquee.models.linear.fasttext import FastText
from marquee.models.linear.naive_bayes import NaiveBayes
from marquee.models.linear.nbsvm import NbSvm
from marquee.models.linear.tfidf_logistic import TfidfLogistic

VOCABULARY = 30


class SmallTexts:
    """Random texts of known words: of class k, the k-th third of the vocabulary is more frequent."""

    def __init__(self, n=120, classes=3, unknown=0.1, multilabel=False, seed=0):
        random = np.random.default_rng(seed)
        classes_of = random.integers(classes, size=n) if n > 20 else np.arange(n) % classes
        lengths = random.integers(2, 12, size=n)
        rows = []
        for label, length in zip(classes_of, lengths):
            lean = random.random(length) < 0.4
            own = 2 + label * 9 + random.integers(9, size=length)
            words = np.where(lean, own, random.integers(2, VOCABULARY, size=length))
            rows.append(np.where(random.random(length) < unknown, 1, words))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.store = TextStore(np.concatenate(rows).astype(np.int32), offsets, np.arange(VOCABULARY, dtype=np.int32))
        self.labels = classes_of
        if multilabel:
            second = (classes_of + random.integers(2, size=n)) % classes
            self.labels = (np.eye(classes)[classes_of] + np.eye(classes)[second] > 0).astype(np.float32)
        self.parts = {"train": np.arange(n * 3 // 4), "test": np.arange(n * 3 // 4, n)}
        self.spec = TextSpec(VOCABULARY, classes, tuple("abc"[:classes]), multilabel)

    def save_inference(self, folder):
        pass


def store_of(*texts):
    """A data set of texts given as token ids."""
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    store = TextStore(np.concatenate(texts).astype(np.int32), offsets, np.arange(10, dtype=np.int32))
    rows = np.arange(len(texts))
    return SimpleNamespace(store=store, labels=rows % 2, parts={"train": rows}, spec=TextSpec(10, 2))


def dense(batch):
    """The batch as a matrix of counts [texts, n-grams]."""
    matrix = np.zeros((len(batch.offsets) - 1, len(batch.keys)))
    matrix[batch.texts.numpy(), batch.terms.numpy()] = batch.counts.numpy()
    return matrix


def training(data, view):
    return next(view.train_batches(data, 0, 0))


def fitted(kind, data, longest=2, view=None, **options):
    model = kind(data.spec, view=view or NGrams(longest=longest), **options)
    model.fit(training(data, model.view))
    return model


EVERY = {
    "multinomial": (NaiveBayes, {}),
    "bernoulli": (NaiveBayes, {"event": "bernoulli"}),
    "complement": (NaiveBayes, {"event": "complement"}),
    "nbsvm": (NbSvm, {}),
    "nbsvm, hinge": (NbSvm, {"loss": "squared_hinge", "beta": 0.5}),
    "tfidf": (TfidfLogistic, {}),
}


# N-grams ------------------------------------------------------------------------------------------------------------


def test_ngrams_are_counted_by_hand_and_unknown_words_break_them():
    # Keys to the base 10: 2 3 is 23, 2 3 2 is 232. Token 1 is unknown and belongs to none.
    data = store_of([2, 3, 2, 3], [1], [3, 1, 2, 4])
    batch = NGrams(longest=3).batch(data, np.arange(3))
    assert batch.keys.tolist() == [2, 3, 4, 23, 24, 32, 232, 323]
    assert dense(batch).astype(int).tolist() == [[2, 2, 0, 2, 0, 1, 1, 1], [0] * 8, [1, 1, 1, 0, 1, 0, 0, 0]]
    assert batch.offsets.tolist() == [0, 6, 6, 10]


def test_keys_are_read_back_as_words():
    keys = torch.tensor([2, 23, 232, 9, 999])
    assert tokens_of(keys, 10).tolist() == [[2, 0, 0], [2, 3, 0], [2, 3, 2], [9, 0, 0], [9, 9, 9]]


def test_rare_ngrams_are_left_out_of_training():
    data = store_of([2, 3], [2, 4], [2, 3])
    batch = training(data, NGrams(min_count=2))
    assert batch.keys.tolist() == [2, 3, 23]
    assert dense(batch).astype(int).tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 1]]


def test_too_high_a_minimum_is_refused_with_its_keys():
    with pytest.raises(DataError, match=r"stands in 3 of the 2 training texts.*model\.view\.min_count"):
        training(store_of([2, 3], [2, 4]), NGrams(min_count=3))


def test_hashed_ngrams_lie_in_the_buckets_and_meet_there():
    data = SmallTexts()
    batch = training(data, NGrams(buckets=16))
    assert batch.keys.max() < 16 and batch.keys.min() >= 0
    exact = training(data, NGrams())
    assert batch.counts.sum() == exact.counts.sum()
    assert len(batch.keys) == 16  # several hundred n-grams fill them all


def test_long_texts_are_cut_as_token_rows_are():
    data = SmallTexts()
    for truncate in ("head", "tail", "both"):
        view = NGrams(max_length=5, truncate=truncate)
        rows = TextBatches(max_length=5, truncate=truncate).batch(data, np.arange(20))
        for ours, theirs in zip(view.count(rows, VOCABULARY), view.batch(data, np.arange(20))):
            assert torch.equal(ours, theirs)


def test_ngrams_that_cannot_be_numbered_are_refused():
    view = NGrams(longest=3)
    with pytest.raises(ConfigError, match=r"model\.view\.longest=3: n-grams of 3,000,000 words"):
        list(view.keys(torch.tensor([2]), torch.tensor([0]), 3_000_000))


# What all of them promise -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("view", [NGrams(longest=3), NGrams(longest=2, buckets=64), NGrams(longest=1, min_count=3)])
def test_the_parts_of_the_words_and_the_bias_add_up_to_the_logits(name, view):
    kind, options = EVERY[name]
    data = SmallTexts()
    model = fitted(kind, data, view=view, **options)
    batch = TextBatches().batch(data, data.parts["test"])
    logits = model(batch)
    for row, length in enumerate(batch.lengths.tolist()):
        parts = model.contributions(batch.tokens[row, :length])
        assert parts.shape == (length, 3)
        torch.testing.assert_close(parts.sum(0) + model.bias, logits[row], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_padding_changes_nothing_and_the_views_batches_give_the_same(name):
    kind, options = EVERY[name]
    data = SmallTexts()
    model = fitted(kind, data, **options)
    batch = TextBatches().batch(data, data.parts["test"])
    torch.testing.assert_close(model(model.view.batch(data, data.parts["test"])), model(batch))
    alone = TextBatch(batch.tokens[3:4, : batch.lengths[3]], batch.lengths[3:4], None, None)
    torch.testing.assert_close(model(alone)[0], model(batch)[3])


@pytest.mark.parametrize("name", EVERY)
def test_a_text_without_a_known_word_gets_the_bias(name):
    kind, options = EVERY[name]
    model = fitted(kind, SmallTexts(), **options)
    logits = model(TextBatch(torch.tensor([[1, 1], [1, 0]]), torch.tensor([2, 1]), None, None))
    torch.testing.assert_close(logits, model.bias.expand(2, -1))
    assert not model.contributions(torch.tensor([1])).any()


@pytest.mark.parametrize("name", EVERY)
def test_a_saved_model_predicts_the_same_however_many_ngrams_it_has(name, tmp_path):
    kind, options = EVERY[name]
    data = SmallTexts()
    model = fitted(kind, data, **options)
    node = {"_target_": f"{kind.__module__}.{kind.__name__}", **options}
    node["view"] = {"_target_": "marquee.data.text.ngrams.NGrams"}
    save_model(tmp_path / "run", node, model, data)
    loaded, _ = load_model(tmp_path / "run")
    batch = TextBatches().batch(data, data.parts["test"])
    assert torch.equal(loaded(batch), model(batch))
    assert torch.equal(loaded.term_weights()[0], model.keys)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("multilabel", [False, True])
def test_what_is_learnt_is_better_than_chance(name, multilabel):
    kind, options = EVERY[name]
    data = SmallTexts(n=400, unknown=0, multilabel=multilabel)
    model = fitted(kind, data, **options)
    logits, labels = model(TextBatches().batch(data, data.parts["test"])), data.labels[data.parts["test"]]
    if multilabel:  # the mean logit of labels that hold is above that of those that do not
        held = torch.from_numpy(labels) > 0
        assert logits[held].mean() > logits[~held].mean() + 0.5
    else:
        assert (logits.argmax(1).numpy() == labels).mean() > 0.6


def test_a_bucket_does_not_know_its_ngrams():
    model = fitted(NaiveBayes, SmallTexts(), view=NGrams(buckets=8))
    keys, weights = model.term_weights()
    assert len(keys) == 0 and weights.shape == (0, 3)


# Each beside a second implementation ---------------------------------------------------------------------------------


def sample_weights(labels):
    return len(labels) / (len(np.unique(labels)) * np.bincount(labels)[labels])


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(
    ("event", "theirs"),
    [("multinomial", MultinomialNB), ("bernoulli", BernoulliNB), ("complement", ComplementNB)],
)
def test_naive_bayes_equals_scikit_learns(event, theirs, balanced):
    data = SmallTexts()
    model = fitted(NaiveBayes, data, event=event, alpha=0.5, class_weights="balanced" if balanced else "none")
    labels = data.labels[data.parts["train"]]
    counts = dense(training(data, model.view))
    reference = theirs(alpha=0.5).fit(counts, labels, sample_weights(labels) if balanced else None)
    ours = model(training(data, model.view))
    joint = reference._joint_log_likelihood(counts)
    if event == "complement":
        torch.testing.assert_close(ours.double(), torch.from_numpy(joint), atol=1e-4, rtol=1e-5)
    probabilities = torch.from_numpy(reference.predict_proba(counts)).float()
    torch.testing.assert_close(ours.softmax(1), probabilities, atol=1e-4, rtol=1e-4)


def test_naive_bayes_of_several_labels_is_one_of_each_against_the_rest():
    data = SmallTexts(multilabel=True)
    model = fitted(NaiveBayes, data)
    batch = training(data, model.view)
    for label in range(3):
        reference = MultinomialNB().fit(dense(batch), data.labels[data.parts["train"]][:, label])
        expected = torch.from_numpy(reference.predict_proba(dense(batch))[:, 1]).float()
        torch.testing.assert_close(model(batch)[:, label].sigmoid(), expected, atol=1e-4, rtol=1e-4)


def ratio(present, positive, alpha=1.0):
    """r of Wang & Manning 2012, a text at a time."""
    p, q = np.full(present.shape[1], alpha), np.full(present.shape[1], alpha)
    for row, is_positive in zip(present, positive):
        if is_positive:
            p += row
        else:
            q += row
    return np.log((p / p.sum()) / (q / q.sum()))


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge"])
def test_nbsvm_of_two_classes_equals_scikit_learns_on_weighed_presence(loss):
    data = SmallTexts(classes=2)
    model = fitted(NbSvm, data, loss=loss, c=0.7, beta=1.0, max_iterations=2000)
    batch = training(data, model.view)
    present, labels = (dense(batch) > 0).astype(float), data.labels[data.parts["train"]]
    r = ratio(present, labels == 1)
    if loss == "logistic":
        reference, scale = LogisticRegression(C=0.7, tol=1e-8, max_iter=5000), 1
    else:  # its bias is penalised, the less the larger the scaling
        reference, scale = LinearSVC(C=0.7, intercept_scaling=100, dual=False, tol=1e-8, max_iter=20_000), 2
    margins = reference.fit(present * r, labels).decision_function(present * r)
    logits = model(batch).double()
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], torch.from_numpy(scale * margins), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(logits[:, 0], -logits[:, 1])


def test_nbsvm_of_several_classes_is_one_of_each_against_the_rest():
    data = SmallTexts()
    model = fitted(NbSvm, data, c=0.5, beta=1.0, max_iterations=2000)
    batch = training(data, model.view)
    present = (dense(batch) > 0).astype(float)
    for label in range(3):
        positive = data.labels[data.parts["train"]] == label
        weighed = present * ratio(present, positive)
        margins = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(weighed, positive).decision_function(weighed)
        expected = torch.from_numpy(margins)
        torch.testing.assert_close(model(batch)[:, label].double(), expected, atol=5e-3, rtol=5e-3)


def test_interpolation_leads_from_the_learnt_weights_to_naive_bayes():
    data = SmallTexts(classes=2)
    learnt, naive, half = (fitted(NbSvm, data, beta=beta) for beta in (1.0, 0.0, 0.5))
    torch.testing.assert_close(half.weights, (learnt.weights + naive.weights) / 2, atol=1e-6, rtol=1e-4)
    batch = training(data, naive.view)
    r = ratio((dense(batch) > 0).astype(float), data.labels[data.parts["train"]] == 1)
    each = naive.weights[:, 1].numpy() / r
    assert each == pytest.approx(np.full(len(r), each[0]), rel=1e-3)  # one size for all: eq. 5 with beta = 0


@pytest.mark.parametrize(("classes", "sublinear"), [(2, True), (3, True), (3, False)])
def test_tfidf_logistic_equals_scikit_learns_vectorizer_and_regression(classes, sublinear):
    data = SmallTexts(classes=classes, unknown=0)
    model = fitted(TfidfLogistic, data, c=2.0, sublinear=sublinear, max_iterations=2000)

    def written(rows):
        return [
            " ".join(f"w{data.store.tokens[i]}" for i in range(*data.store.offsets[[row, row + 1]])) for row in rows
        ]

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=sublinear, token_pattern=r"\w+")
    train, test = data.parts["train"], data.parts["test"]
    features = vectorizer.fit_transform(written(train))
    reference = LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(features, data.labels[train])
    expected = torch.from_numpy(reference.predict_proba(vectorizer.transform(written(test)))).float()
    found = model(model.view.batch(data, test)).softmax(1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("kind", "reach"), [(TfidfLogistic, {"c": 2.0}), (NbSvm, {"c": 0.5, "beta": 1.0})])
def test_balanced_classes_are_those_of_scikit_learn(kind, reach):
    data = SmallTexts(classes=2)
    data.labels = (np.arange(len(data.labels)) % 5 == 0).astype(np.int64)  # one in five
    model = fitted(kind, data, class_weights="balanced", max_iterations=2000, **reach)
    batch = training(data, model.view)
    labels = data.labels[data.parts["train"]]
    if kind is NbSvm:
        features = (dense(batch) > 0) * ratio((dense(batch) > 0).astype(float), labels == 1)
    else:
        features = np.zeros_like(dense(batch))
        values = model.values(batch.counts, batch.terms, batch.texts, len(labels))
        features[batch.texts.numpy(), batch.terms.numpy()] = values.numpy()
    reference = LogisticRegression(C=reach["c"], class_weight="balanced", tol=1e-8, max_iter=5000)
    margins = torch.from_numpy(reference.fit(features, labels).decision_function(features))
    logits = model(batch).double()
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], margins, atol=5e-3, rtol=5e-3)


def test_balanced_labels_weigh_their_positives_as_their_negatives():
    data = SmallTexts(multilabel=True)
    data.labels[:, 0] = np.arange(len(data.labels)) % 9 == 0
    model = fitted(TfidfLogistic, data, class_weights="balanced", c=2.0, max_iterations=2000)
    batch = training(data, model.view)
    features = np.zeros_like(dense(batch))
    values = model.values(batch.counts, batch.terms, batch.texts, len(batch.labels))
    features[batch.texts.numpy(), batch.terms.numpy()] = values.numpy()
    reference = LogisticRegression(C=2.0, class_weight="balanced", tol=1e-8, max_iter=5000)
    margins = torch.from_numpy(reference.fit(features, batch.labels[:, 0].numpy()).decision_function(features))
    torch.testing.assert_close(model(batch)[:, 0].double(), margins, atol=5e-3, rtol=5e-3)


def test_a_label_that_every_text_has_leaves_finite_weights():
    data = SmallTexts(multilabel=True)
    data.labels[:, 1] = 1
    for name, (kind, options) in EVERY.items():
        model = fitted(kind, data, **options)
        assert model.weights.isfinite().all() and model.bias.isfinite().all(), name
        assert (model(training(data, model.view))[:, 1] > 0).all() or name == "complement", name


# fastText -----------------------------------------------------------------------------------------------------------


def test_bernoulli_stays_finite_for_words_that_every_text_has_and_hardly_any_smoothing():
    data = store_of([2, 3], [2], [2, 4], [2])
    model = fitted(NaiveBayes, data, longest=1, event="bernoulli", alpha=1e-20)
    logits = model(TextBatches().batch(data, np.arange(4)))
    # By hand: word 2 tells nothing, 3 and 4 stand in one of the two texts of the first class, in none of the second.
    ends = np.log([[1 / 4, 1e-20 / 2], [1 / 4, 1], [1 / 4, 1e-20 / 2], [1 / 4, 1]]) + np.log(1 / 2)
    assert logits.numpy() == pytest.approx(ends, abs=1e-4)


def test_fasttext_is_the_mean_of_words_and_pairs_by_hand():
    model = FastText(TextSpec(10, 2), view=TextBatches(), dim=3, buckets=8)
    torch.nn.init.normal_(model.output.weight)
    tokens = torch.tensor([[2, 3, 4, 0], [5, 0, 0, 0]])
    logits = model(TextBatch(tokens, torch.tensor([3, 1]), None, None))
    rows = model._rows(tokens)
    assert rows.shape == (2, 7) and (rows[0, [0, 1, 2, 4, 5]] > 0).all() and rows[0, [3, 6]].tolist() == [0, 0]
    vectors = model.vectors.weight
    words, pairs = vectors[[2, 3, 4]], vectors[rows[0, 4:6]]
    torch.testing.assert_close(logits[0], model.output(torch.cat([words, pairs]).mean(0)))
    torch.testing.assert_close(logits[1], model.output(vectors[5]))


def test_fasttext_learns_the_same_with_sparse_gradients():
    data, found = SmallTexts(classes=2), []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = FastText(data.spec, view=TextBatches(), buckets=32, longest=3, sparse_gradients=sparse)
        optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
        for batch in model.view.train_batches(data, 0, 0):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch), batch.labels).backward()
            optimizer.step()
        found.append(model.vectors.weight.detach())
    torch.testing.assert_close(*found)
