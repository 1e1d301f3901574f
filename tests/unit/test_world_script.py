"""The embedded scenes: their law against enumeration, their oracle, and what counts as lawful and new."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.tokens.splits import Documents
from marquee.data.world import scripts
from marquee.data.world.scripts import MIXING, MOODS, WorldScript, law, lawful, log_probabilities, write
from marquee.tasks.language_model import LanguageModeling


@pytest.fixture(scope="module")
def data(world_cache, tmp_path_factory):
    made = WorldScript(scenes=150)
    made.setup(Documents(validation=0.2, test=0.3), Paths(world_cache, world_cache))
    return made


def by_enumeration(text):
    """P(text and its end): the sum over all sequences of moods, one a speech."""
    rules = law()
    steps, state = [[]], 0
    for code in [*rules.number(text).tolist(), 0]:
        steps[-1].append(rules.likely[state, code])
        state = int(rules.onwards[state, code])
        if rules.turns[state]:
            steps.append([])
    total = 0.0
    for moods in product(range(len(MOODS)), repeat=len(steps)):
        p = 1 / len(MOODS)
        for before, mood in zip(moods, moods[1:]):
            p *= MIXING[before, mood]
        for mood, some in zip(moods, steps):
            p *= math.prod(edge[mood] for edge in some)
        total += p
    return total


def test_every_state_gives_its_characters_all_of_its_probability():
    rules = law()
    sums = rules.likely.sum(1)
    assert np.allclose(sums[sums > 0], 1) and MIXING.sum(1) == pytest.approx(1)
    assert (rules.likely.sum(2) > 0)[rules.onwards < 0].sum() == 0


def test_the_probability_of_a_scene_is_the_sum_over_all_moods():
    scenes = sorted(write(1, 60), key=len)[:6]
    for text, found in zip(scenes, log_probabilities(scenes), strict=True):
        assert len(found) == len(text) + 1
        assert found.sum() == pytest.approx(math.log(by_enumeration(text)), rel=1e-9)


def test_what_is_against_the_law_has_no_probability():
    good = write(1, 60)[0]
    (bad,) = log_probabilities([good.replace("INT.", "EXT.")])
    assert bad[0] == -np.inf
    assert lawful("I lost the old key.") and lawful("[pause]\nwe sold the boat, and they keep the song!")
    for wrong in ("I lost old key.", "I lost the old key", "I lost the the key.", "key", "", "[pause] I lost the key."):
        assert not lawful(wrong)


def test_drawn_scenes_have_the_frequencies_of_the_law():
    """Who speaks first, and how many speeches a scene has, against what the grammar says; 800 scenes."""
    texts = write(3, 800)
    speeches = np.array([text.count(":\n") for text in texts])
    assert speeches.mean() == pytest.approx(1 / scripts.ENDS, rel=0.1)
    first = [text.split("\n\n")[1].split(":")[0] for text in texts]
    assert all(first.count(name) / 800 == pytest.approx(1 / 5, abs=0.05) for name in scripts.CAST)


def test_the_oracle_is_the_exact_cost_for_characters_and_for_pieces(data, world_cache):
    pytest.importorskip("tokenizers")
    exact = -sum(part.sum() for part in log_probabilities(data.texts("test")))
    characters = sum(map(len, data.texts("test")))
    pieces = WorldScript(scenes=150, tokenizer="bpe", vocabulary_size=300)
    pieces.setup(Documents(validation=0.2, test=0.3), Paths(world_cache, world_cache))
    for corpus in (data, pieces):
        from marquee.models.baseline.ngram import NGram
        from marquee.models.baseline.ngram import WholeCorpus as Whole

        task = LanguageModeling(NGram(corpus.spec, view=Whole(length=32), order=2), corpus, sample=0)
        metrics, units = task.evaluate(task.oracle(), "test")
        assert metrics["bits_per_character"] == pytest.approx(exact / math.log(2) / characters)
        assert torch.isfinite(task.oracle().table).all()


def test_new_lawful_lines_are_told_from_copies_and_from_mistakes(data):
    train = scripts._speeches(data.texts("train")[0])[0]
    new = next(s for text in write(9, 60) for s in scripts._speeches(text) if s not in data.known()["speeches"])
    sample = f"MARA:\n{train}\n\nIDA:\n{new}\n\nOTTO:\nno such line\n\nLENA:\nI lost"
    found = data.check([sample], data.known())
    assert found["lawful_lines"] == pytest.approx(2 / 3) and found["new_lawful_lines"] == pytest.approx(1 / 3)
    assert data.checks[-1] == "new_lawful_lines"
