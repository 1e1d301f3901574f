"""Language models: n-grams against a second implementation, writing against whole passes, sampling by hand."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from marquee.data.spec import TokenSpec
from marquee.data.tokens.views import Corpus, ScoredWindows, TokenWindows, WholeCorpus, Windows
from marquee.errors import ConfigError, JobError
from marquee.inference.sampling import SETTINGS, allowed, choose, in_double, refuse_out_of_range, softmax, write
from marquee.metrics.likelihood import UNKNOWN_NATS, LikelihoodEvaluator
from marquee.metrics.written import distinct, words, written_metrics
from marquee.models.baseline.ngram import NGram
from marquee.models.rnn.lstm_lm import LstmLanguageModel
from marquee.models.transformer.gpt import Gpt

V = 7
SPEC = TokenSpec(V)


def stream(n=400, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).choice(V, n, p=np.arange(1, V + 1) / 28))


def windows(tokens):
    return Windows(tokens[None, :-1], tokens[None, 1:])


# N-grams --------------------------------------------------------------------------------------------------------------


def witten_bell(train, order):
    """P(w | h) by dictionaries and recursion, as the formula has it."""
    follow = defaultdict(Counter)
    for place in range(1, len(train)):
        for n in range(min(order, place + 1)):
            follow[tuple(train[place - n : place])][train[place]] += 1

    def p(w, h):
        shorter = p(w, h[1:]) if h else 1 / V
        if h not in follow:
            return shorter
        counts = follow[h]
        return (counts[w] + len(counts) * shorter) / (sum(counts.values()) + len(counts))

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngrams_are_those_of_a_second_implementation(order):
    train, text = stream(), stream(60, seed=1)
    model = NGram(SPEC, view=WholeCorpus(), order=order)
    model.fit(Corpus(train[None]))
    p = witten_bell(train.tolist(), order)
    batch, tokens = windows(text), text.tolist()
    wanted = [
        math.log(p(tokens[i], tuple(tokens[max(i - order + 1, 0) : i]))) for i in range(1, len(tokens))
    ]  # fmt: skip
    assert model.log_likelihood(batch)[0].tolist() == pytest.approx(wanted, rel=1e-6)
    whole = model(batch.inputs)
    assert whole.exp().sum(-1).numpy() == pytest.approx(1, abs=1e-9)
    assert whole.gather(2, batch.targets[..., None])[0, :, 0].tolist() == pytest.approx(wanted, rel=1e-6)


def test_ngrams_travel_with_their_tables(tmp_path):
    from safetensors.torch import load_file, save_file

    model = NGram(SPEC, view=WholeCorpus(), order=4)
    model.fit(Corpus(stream()[None]))
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    other = NGram(SPEC, view=WholeCorpus(), order=4)
    other.load_state_dict(load_file(tmp_path / "m.safetensors"))
    batch = windows(stream(50, seed=2))
    assert torch.equal(other.log_likelihood(batch), model.log_likelihood(batch))


@pytest.mark.real_data
def test_the_5_gram_has_the_likelihood_on_tiny_shakespeare_that_was_computed_independently(real_data, tmp_path):
    """1.669 nats: docs of this project, by dictionaries in pure Python."""
    from marquee.data.dataset import Paths
    from marquee.data.tokens.shakespeare import TinyShakespeare
    from marquee.data.tokens.splits import Documents
    from marquee.tasks.language_model import LanguageModeling

    data = TinyShakespeare()
    data.setup(Documents(validation=0), Paths(real_data, tmp_path))
    model = NGram(data.spec, view=WholeCorpus(), order=5)
    model.fit(next(model.view.train_batches(data, 1, 0)))
    metrics, units = LanguageModeling(model, data, sample=0).evaluate(model, "test")
    assert metrics["nats"] == pytest.approx(1.669, abs=5e-4)
    assert metrics["bits_per_character"] == pytest.approx(metrics["nats"] / math.log(2))
    assert units["bits_per_character"].mean() == pytest.approx(metrics["bits_per_character"])


# Writing token by token ----------------------------------------------------------------------------------------------


def models():
    torch.manual_seed(0)
    view = TokenWindows(batch_size=2, length=16)
    ngram = NGram(SPEC, view=WholeCorpus(), order=4)
    ngram.fit(Corpus(stream()[None]))
    gpt = {"view": view, "dim": 16, "heads": 2, "layers": 2}
    return {
        "ngram": ngram,
        "lstm": LstmLanguageModel(SPEC, view=view, dim=8, hidden=12, layers=2),
        "tied lstm": LstmLanguageModel(SPEC, view=view, dim=8, hidden=12, layers=1, tie=True),
        "gpt": Gpt(SPEC, **gpt),
        "classic gpt": Gpt(SPEC, **gpt, block="classic", tie=False),
    }


@pytest.mark.parametrize("name", list(models()))
@torch.no_grad()
def test_logits_with_a_memory_are_those_of_a_whole_pass(name):
    model = models()[name].eval()
    for parameter in model.parameters():  # weights that make a difference
        parameter.mul_(3)
    tokens = torch.stack([stream(16, seed=3), stream(16, seed=4)])
    wanted = model(tokens).log_softmax(-1)
    memory = model.start(2)
    for begin, end in ((0, 5), (5, 6), (6, 7), (7, 12), (12, 16)):
        logits, memory = model.step(tokens[:, begin:end], memory)
        assert torch.allclose(logits.log_softmax(-1), wanted[:, end - 1], atol=1e-4)


@torch.no_grad()
def test_beyond_its_window_a_gpt_goes_on_as_a_whole_pass_over_the_newer_half_does():
    for name in ("gpt", "classic gpt"):
        model = in_double(models()[name])
        tokens = stream(60, seed=5)[None]
        memory, start = model.start(1), 0
        for place in range(60):
            logits, memory = model.step(tokens[:, place : place + 1], memory)
            if place - start == 16:  # the seventeenth token does not fit
                start = place - 7
            assert torch.allclose(logits, model(tokens[:, start : place + 1])[:, -1], atol=1e-9)
        logits, _ = model.step(tokens, model.start(1))  # of a prompt that is too long the end is read
        assert torch.allclose(logits, model(tokens[:, -16:])[:, -1], atol=1e-9)


def test_a_tied_output_is_the_table_of_token_vectors_and_gradients_reach_every_weight():
    for name, model in models().items():
        if name == "ngram":
            continue
        batch = windows(stream(17))
        F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten()).backward()
        assert all(parameter.grad is not None for parameter in model.parameters()), name
        assert (model.output is None) == (name in ("tied lstm", "gpt")), name
    with pytest.raises(ConfigError, match=r"model.dim=18 with model.heads=6"):
        Gpt(SPEC, view=TokenWindows(), dim=18, heads=6)


def test_a_gpt_looks_at_nothing_that_comes_later():
    model = models()["gpt"].eval()
    one, other = stream(12, seed=6)[None], stream(12, seed=6)[None].clone()
    other[0, 8:] = (other[0, 8:] + 1) % V
    assert torch.allclose(model(one)[:, :8], model(other)[:, :8], atol=1e-6)


# Sampling -------------------------------------------------------------------------------------------------------------

PLAIN = {name: default for name, (default, *_) in SETTINGS.items()}
LOGITS = np.log([[0.4, 0.3, 0.2, 0.1]])
NOTHING = np.zeros((1, 4), dtype=bool)


def after(**settings):
    return softmax(allowed(LOGITS, settings.pop("seen", NOTHING), PLAIN | settings))[0].tolist()


def test_each_sampling_step_is_that_of_its_formula():
    assert after() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    squares = np.array([0.16, 0.09, 0.04, 0.01])
    assert after(temperature=0.5) == pytest.approx(squares / squares.sum())
    assert after(top_k=2) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert after(top_p=0.65) == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert after(top_p=0.75) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0])  # the one that reaches p is in
    assert after(min_p=0.5) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0])  # 0.2 is half of 0.4
    seen = np.array([[True, False, False, False]])
    penalised = np.array([0.4**2, 0.3, 0.2, 0.1])  # log 0.4 < 0 times 2
    assert after(repetition_penalty=2.0, seen=seen) == pytest.approx(penalised / penalised.sum())


def test_sampling_steps_go_in_the_stated_order():
    # After the temperature 0.5 the shares are .53, .30, .13, .03: top-p 0.8 takes two. Before it, it would take three.
    assert after(temperature=0.5, top_p=0.8) == pytest.approx([0.16 / 0.25, 0.09 / 0.25, 0, 0])
    # Of the three that top-k leaves, .44 .33 .22, top-p 0.7 takes two; of all four it would take two as well, so 0.75.
    assert after(top_k=3, top_p=0.75) == pytest.approx([4 / 7, 3 / 7, 0, 0])


def test_a_token_is_chosen_by_where_the_random_number_falls():
    numbers = np.array([0.0, 0.399, 0.401, 0.699, 0.701, 0.95, 1.0])
    assert choose(LOGITS.repeat(7, axis=0), numbers)[:6].tolist() == [0, 0, 1, 1, 2, 3]
    banned = LOGITS.copy()
    banned[0, 3] = -np.inf
    assert choose(banned.repeat(7, axis=0), numbers).max() == 2


@pytest.mark.parametrize("name", list(models()))
def test_a_sample_depends_on_seed_and_number_alone(name):
    model = in_double(models()[name])
    settings = PLAIN | {"tokens": 40}
    five = write(model, [1, 2], [(9, index) for index in range(5)], settings)
    one = write(model, [1, 2], [(9, 3)], settings)
    assert one[0].tokens == five[3].tokens
    assert one[0].log_probabilities == pytest.approx(five[3].log_probabilities, abs=1e-9)
    assert len({tuple(sample.tokens) for sample in five}) == 5
    assert write(model, [1, 2], [(8, 3)], settings)[0].tokens != one[0].tokens


def test_log_probabilities_are_the_models_own_whatever_the_sampler():
    model = in_double(models()["gpt"])
    (sample,) = write(model, [1], [(0, 0)], PLAIN | {"tokens": 10, "temperature": 0.3, "top_k": 3})
    tokens = torch.tensor([[1, *sample.tokens]])
    wanted = model.log_likelihood(windows(tokens[0]))[0]
    assert sample.log_probabilities == pytest.approx(wanted.tolist(), abs=1e-5)


def test_greedy_takes_the_likeliest_and_what_is_forbidden_never_comes():
    model = in_double(models()["ngram"])
    greedy = write(model, [1], [(0, 0), (5, 1)], PLAIN | {"tokens": 30, "temperature": 0.0})
    assert greedy[0].tokens == greedy[1].tokens
    logits, _ = model.step(torch.tensor([[1]]), model.start(1))
    assert greedy[0].tokens[0] == int(logits.argmax())
    (sample,) = write(model, [1], [(0, 0)], PLAIN | {"tokens": 200}, never=[6, 5])
    assert not {5, 6} & set(sample.tokens)
    (short,) = write(model, [1], [(0, 0)], PLAIN | {"tokens": 200}, ended=lambda row, tokens: tokens[-1] == 4)
    assert short.tokens[-1] == 4 and 4 not in short.tokens[:-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", 0), ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf), ("top_k", -1),
     ("top_p", 0.0), ("top_p", 1.1), ("min_p", 1.0), ("min_p", -0.1), ("repetition_penalty", 0.0)],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}="):
        refuse_out_of_range(PLAIN | {name: value})


# Metrics --------------------------------------------------------------------------------------------------------------


def scored(places, counted):
    places = torch.tensor([places])
    return ScoredWindows(places, places, places, torch.tensor([counted]))


def test_likelihoods_are_summed_by_unit_as_by_hand():
    units, characters = np.array([0, 0, 0, 1]), np.array([3, 1])
    evaluator = LikelihoodEvaluator(units, characters, np.array([False, False, True, False]), "block")
    evaluator.update(torch.tensor([[-1.0, -2.0]]), scored([1, 2], [True, True]))
    evaluator.update(torch.tensor([[-9.0, -4.0]]), scored([2, 3], [False, True]))
    metrics, table = evaluator.compute([evaluator.state()])
    nats = [1 + UNKNOWN_NATS, 4]  # an unknown character costs the same whatever the model says
    assert metrics["nats"] == pytest.approx(sum(nats) / 3)
    assert metrics["bits_per_character"] == pytest.approx(sum(nats) / math.log(2) / 4)
    assert metrics["perplexity"] == pytest.approx(math.exp(sum(nats) / 3))
    assert table["nats"].tolist() == pytest.approx([nats[0] * 2 / 3, nats[1] * 2 / 3])
    assert table["bits_per_character"].mean() == pytest.approx(metrics["bits_per_character"])
    with pytest.raises(JobError, match="gives 1 of 2 tokens a likelihood"):
        evaluator.update(torch.tensor([[-1.0, math.nan]]), scored([1, 3], [True, True]))


def test_what_is_written_is_measured_as_by_hand():
    assert words("Don't stop, 詩人 don't") == ["don't", "stop", "詩", "人", "don't"]
    tokens = "a b a b".split()
    assert (distinct(tokens, 1), distinct(tokens, 2), distinct(tokens, 5)) == (0.5, 2 / 3, None)
    found = written_metrics(["a b", "c b!"], {"a", "b"}, len, lambda: {"form": 1.0})
    assert found == {"distinct_1": 0.75, "distinct_2": 1.0, "distinct_3": 1.0, "unknown_words": 0.25,
                     "longest_copy": 4.0, "form": 1.0}  # fmt: skip
    assert written_metrics([""], set(), len, dict) == {"longest_copy": 0.0}


def test_metrics_of_samples_have_no_better_direction_but_those_of_the_form():
    from marquee.metrics.direction import direction, neither
    from marquee.tasks.language_model import LanguageModeling

    own = LanguageModeling.directions
    assert direction("bits_per_character", own) == "min" and direction("lawful_lines", own) == "max"
    assert all(neither(name) for name in ("distinct_2", "unknown_words", "longest_copy", "reading_speed"))
