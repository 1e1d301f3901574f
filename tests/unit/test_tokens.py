"""Corpora: codings, cuts, streams, windows, copies and forms, on texts small enough to check by hand."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from marquee.data.dataset import Paths
from marquee.data.tokens.coding import BOUNDARY, UNKNOWN, BytePairs, Characters, coding_of
from marquee.data.tokens.copies import Passages
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.data.tokens.files import TextCorpus
from marquee.data.tokens.forms import Poems, Script, Subtitles, Tunes
from marquee.data.tokens.scripts import script
from marquee.data.tokens.splits import Documents
from marquee.data.tokens.views import TokenWindows, scored_windows
from marquee.errors import ConfigError, DataError


class Given(TokenData):
    """Texts that a test gives."""

    def __init__(self, texts, parts=(), ends=True, **settings):
        super().__init__(**settings)
        self.given = Corpus(texts, [f"text {n}" for n in range(len(texts))], parts)
        self.are_ends = ends

    def source(self, paths):
        return TokenSource("given", {"texts": list(self.given.texts), "parts": list(self.given.parts)},
                           lambda: self.given, self.are_ends)  # fmt: skip


def ready(tmp_path, *args, split=None, **settings):
    data = Given(*args, **settings)
    data.setup(split or Documents(), Paths(tmp_path, tmp_path / "cache"))
    return data


# Codings --------------------------------------------------------------------------------------------------------------


def test_characters_are_numbered_by_code_point_behind_the_two_special_tokens():
    coding = Characters.learn(["cab", "b\U0001f3ad"])
    assert coding.characters == "abc\U0001f3ad" and coding.size == 6
    tokens, places = coding.encode("b\U0001f3adz")
    assert tokens.tolist() == [3, 5, UNKNOWN] and places.tolist() == [0, 1, 2]
    assert coding.decode([3, BOUNDARY, 5, UNKNOWN]) == "b\U0001f3ad\ufffd"
    assert coding.unknown("zazy") == ["z", "y"]


def test_byte_pairs_know_every_text_and_come_back_from_json():
    pytest.importorskip("tokenizers")
    coding = BytePairs.learn(["the cat the cat the hat"] * 5, 300)
    assert coding.encode("the cat")[0].size < 7
    for text in ("the cat", "zebra \U0001f3ad 詩\n<unknown>", "  two  spaces"):
        tokens, places = coding.encode(text)
        assert coding.decode(tokens) == text and places[0] == 0 and (np.diff(places) >= 0).all()
        assert tokens.min() >= 2
    again = coding_of(json.loads(json.dumps(coding.to_json())))
    assert again.encode("the hat")[0].tolist() == coding.encode("the hat")[0].tolist()
    with pytest.raises(ConfigError, match="at least 258"):
        BytePairs.learn(["x"], 100)


# Cuts and streams -----------------------------------------------------------------------------------------------------


def test_one_document_is_cut_by_position_and_its_end_is_no_end(tmp_path):
    data = ready(tmp_path, ["abcdefghij" * 10], split=Documents(validation=0.2, test=0.1))
    assert data.texts("train") == ["abcdefghij" * 7]
    assert data.texts("test") == ["abcdefghij"]
    assert not data.ends
    assert data.streams["test"].tokens.tolist() == [BOUNDARY, *range(2, 12)]


def test_a_part_that_the_data_bring_is_kept_and_nothing_else_is_cut_for_it(tmp_path):
    data = ready(tmp_path, ["b" * 10 + "a" * 90, "abc"], [None, "test"], ends=False)
    assert data.texts("test") == ["abc"] and data.texts("validation") == ["b" * 10]
    assert data.unknown == {"validation": 10, "test": 2}  # training has a alone


def test_equal_documents_are_on_one_side_and_shares_go_by_characters(tmp_path):
    texts = ["x" * 50] * 10 + [chr(97 + n) * 50 for n in range(20)]
    data = ready(tmp_path, texts, split=Documents(validation=0.2, test=0.2))
    sides = [name for name in ("train", "validation", "test") if "x" * 50 in data.texts(name)]
    assert len(sides) == 1
    sizes = {name: sum(map(len, data.texts(name))) for name in ("train", "validation", "test")}
    assert sum(sizes.values()) == 1500 and 100 <= sizes["test"] <= 600


def test_documents_stand_between_boundaries_and_their_ends_belong_to_them(tmp_path):
    parts = ["train", "train", "test", "test"]
    data = ready(tmp_path, ["ab", "ba", "bab", "a"], parts, split=Documents(validation=0))
    assert not data.validates
    assert data.streams["test"].tokens.tolist() == [BOUNDARY, 3, 2, 3, BOUNDARY, 2, BOUNDARY]
    assert data.streams["test"].places.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert data.unit == "block" and data.streams["test"].characters.tolist() == [4]


def test_units_have_the_same_characters_whatever_the_tokens(tmp_path):
    pytest.importorskip("tokenizers")
    text = "".join(f"line {n} says {n * n}\n" for n in range(2000))
    found = [ready(tmp_path, [text], tokenizer=kind, vocabulary_size=300) for kind in ("char", "bpe")]
    one, two = (data.streams["test"] for data in found)
    assert len(two.tokens) < len(one.tokens) and one.characters.tolist() == two.characters.tolist()
    assert one.characters.sum() == len(found[0].texts("test")[0]) and len(one.characters) > 1
    assert found[0].fingerprint == found[1].fingerprint
    many = [chr(65 + n % 26) * (n + 5) for n in range(200)]
    data = ready(tmp_path, many, split=Documents(test=0.3))
    assert data.unit == "document"
    assert data.streams["test"].characters.tolist() == [len(text) for text in data.texts("test")]


@pytest.mark.parametrize(("length", "stride", "batch"), [(4, 2, 1), (5, 3, 4), (7, 7, 2), (100, 50, 8), (6, 1, 3)])
def test_every_token_is_scored_once_and_has_the_context_that_is_promised(tmp_path, length, stride, batch):
    data = ready(tmp_path, ["abcdefghij" * 3, "abcdefghijab"], [None, "test"], ends=False)
    n, seen = 12, []
    for windows in scored_windows(data, "test", length, stride, batch):
        tokens = data.streams["test"].tokens
        assert (tokens[windows.places] == windows.targets.numpy()).all()
        assert (tokens[windows.places - 1] == windows.inputs.numpy()).all()
        for places, counted in zip(windows.places.tolist(), windows.counted.tolist()):
            own = [place for place, yes in zip(places, counted) if yes]
            seen += own
            assert all(place - places[0] >= length - stride or places[0] == 1 for place in own)
    assert sorted(seen) == list(range(1, n + 1))
    halves = [w for rank in (0, 1) for w in scored_windows(data, "test", length, stride, batch, rank, 2)]
    assert sorted(int(p) for w in halves for p in w.places[w.counted]) == list(range(1, n + 1))


def test_training_windows_are_a_function_of_seed_and_epoch_and_cover_the_stream(tmp_path):
    data = ready(tmp_path, ["abcdefghij" * 50, "abc"], [None, "test"], ends=False)
    view = TokenWindows(batch_size=4, length=7)
    one, again, other = (list(view.train_batches(data, 1, epoch)) for epoch in (0, 0, 1))
    assert len(one) == view.steps(data)
    assert all((a.inputs == b.inputs).all() for a, b in zip(one, again))
    assert any((a.inputs != b.inputs).any() for a, b in zip(one, other))
    assert all((batch.inputs[:, 1:] == batch.targets[:, :-1]).all() for batch in one)
    tokens = sum(batch.targets.numel() for batch in one)
    assert tokens >= len(data.streams["train"].tokens) - 2 * 7 - 1


def test_a_corpus_shorter_than_a_window_is_refused_with_what_to_type(tmp_path):
    data = ready(tmp_path, ["abcdefghij" * 5])
    with pytest.raises(DataError, match=r"train part has \d+ tokens, and a window has 128 .*model.view.length=\d+"):
        TokenWindows().steps(data)
    with pytest.raises(DataError, match=r"validation part is empty: 1 documents, 3 characters"):
        ready(tmp_path, ["abc"])
    with pytest.raises(DataError, match="holds no text"):
        ready(tmp_path, ["", ""])


# Own files ------------------------------------------------------------------------------------------------------------


def corpus(tmp_path, **settings) -> TextCorpus:
    data = TextCorpus(**settings)
    data.setup(Documents(), Paths(tmp_path, tmp_path / "cache"))
    return data


def test_own_texts_come_from_a_file_a_folder_or_json_lines(tmp_path):
    (tmp_path / "one.txt").write_bytes("\ufeffeins zwei\r\n".encode() * 40)
    data = corpus(tmp_path, path="one.txt")
    assert data.texts("train")[0].startswith("eins zwei\n") and "\r" not in data.coding.characters
    (tmp_path / "many").mkdir()
    for n in range(30):
        (tmp_path / "many" / f"{n:02}.txt").write_text(f"text number {n}\n" * 5)
    data = corpus(tmp_path, path=str(tmp_path / "many"))
    assert data.report["documents"] == 30 and data.titles[3] == "03.txt"
    lines = [json.dumps({"text": f"line {n} of many"}) for n in range(50)]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines))
    assert corpus(tmp_path, path="lines.jsonl").report["documents"] == 50


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": "none.txt"}, r"none.txt does not exist"),
        ({"path": "latin.txt"}, r"latin.txt line 2: byte 0xe9 is not valid utf-8.*data.encoding=iso-8859-1"),
        ({"path": "empty.txt"}, r"empty.txt is empty"),
        ({"path": "lines.jsonl"}, r"there is no column 'text'. Columns seen: words. Type data.text=COLUMN"),
        ({"path": "book.pdf"}, r"unknown ending '.pdf'"),
        ({"path": "nothing"}, r"holds no .txt or .jsonl file"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_what_to_do(tmp_path, settings, told):
    (tmp_path / "latin.txt").write_bytes(b"first\ncaf\xe9\n")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "lines.jsonl").write_text('{"words": "x"}\n')
    (tmp_path / "book.pdf").write_text("x")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=told):
        corpus(tmp_path, **settings)
    if settings["path"] == "latin.txt":
        (tmp_path / "latin.txt").write_bytes(b"first\ncaf\xe9\n" * 30)
        assert "\xe9" in corpus(tmp_path, **settings, encoding="iso-8859-1").coding.characters


# Copies ---------------------------------------------------------------------------------------------------------------


def longest_by_hand(text, training, least):
    """The longest stretch that stands in one of the training texts, by trying all."""
    best = 0
    for begin in range(len(text)):
        end = begin + max(least, best + 1)
        while end <= len(text) and any(text[begin:end] in own for own in training):
            best, end = end - begin, end + 1
    return best


def test_the_longest_copy_is_that_of_a_search_by_hand():
    generator = np.random.default_rng(0)
    training = ["".join(generator.choice(list("abc"), 300)) for _ in range(3)]
    passages = Passages.of(training, ["one", "two", "three"], 5)
    for _ in range(40):
        text = "".join(generator.choice(list("abc"), 60))
        found = passages.longest(text)
        assert found.length == longest_by_hand(text, training, 5)
        if found.length:
            own = training[["one", "two", "three"].index(found.document)]
            assert own[found.place : found.place + found.length] == text[found.begin : found.begin + found.length]


def test_copies_do_not_run_over_the_border_of_documents_and_the_index_comes_back(tmp_path):
    passages = Passages.of(["abcdefgh", "ijklmnop"], ["one", "two"], 4)
    assert passages.longest("efghijkl").length == 4
    assert passages.longest("xyz").length == passages.longest("").length == 0
    passages.save(tmp_path / "p.safetensors")
    again = Passages.load(tmp_path / "p.safetensors", json.loads(json.dumps(passages.to_json())))
    found = again.longest("..klmnop..")
    assert (found.length, found.begin, found.document, found.place) == (6, 2, "two", 2)
    # Of the training text there is nothing to read in it.
    assert b"ijkl" not in (tmp_path / "p.safetensors").read_bytes()


# Forms ----------------------------------------------------------------------------------------------------------------

SCENE = "ACT 1\n\nMARA:\nGood <day> & night.\n[She sits.]\n\n[Enter OTTO]\n\nOTTO:\nNo. [aside\n\nEVE:\nYes."


def test_a_script_is_checked_for_its_cast_and_closed_directions():
    found = Script().check([SCENE], {"cast": ["MARA", "OTTO"]})
    assert found == {"known_speakers": 2 / 3, "closed_directions": 2 / 3}
    assert Script().known([SCENE]) == {"cast": ["EVE", "MARA", "OTTO"]}
    # What is open where the sample ends may have been closed later.
    assert Script().check(["MARA:\nYes [sits]\n\n[Exit"], {"cast": []})["closed_directions"] == 1


def test_tei_is_well_formed_and_says_who_speaks():
    root = ElementTree.fromstring(Script().written([SCENE, "x\x01y"], "tei").encode())
    t = "{http://www.tei-c.org/ns/1.0}"
    assert [speaker.text for speaker in root.iter(f"{t}speaker")] == ["MARA", "OTTO", "EVE"]
    assert [line.text for line in root.iter(f"{t}l")] == ["Good <day> & night.", "No. [aside", "Yes."]
    assert [stage.text for stage in root.iter(f"{t}stage")] == ["She sits.", "Enter OTTO"]
    assert len(list(root.iter(f"{t}div"))) == 2


def test_subtitles_are_checked_for_times_and_written_as_srt():
    text = "0.0-2.0 Ida: Hello you.\n1.5-1.0 Otto: Wait!\n3.0-4.5 Eve: 12:30?\nno time\n"
    found = Subtitles().check([text], {"cast": ["Ida", "Eve"]})
    assert found == {"timed_lines": 3 / 4, "increasing_times": 2 / 3, "known_speakers": 2 / 3,
                     "reading_speed": (10 / 2 + 6 / 1.5) / 2}  # fmt: skip
    blocks = Subtitles().written([text, "0.0-1.0 Ida: Again."], "srt").strip().split("\n\n")
    assert blocks[0] == "1\n00:00:00,000 --> 00:00:02,000\nIda: Hello you."
    assert blocks[1].split("\n")[1] == "00:00:01,500 --> 00:00:02,000"  # half a second, so that players show it
    assert blocks[3] == "4\n00:00:05,500 --> 00:00:06,500\nIda: Again."


def test_poems_and_tunes_are_checked_by_their_lines_and_fields():
    regular, free = "秦川雄帝宅，函谷壯皇居。\n綺殿千尋起，離宮百雉餘。\n", "秦川，函谷壯皇居。\n"
    assert Poems().check([regular, free], {}) == {"equal_lines": 0.5, "regular_poems": 0.5}
    assert Poems().check([], {}) == {}
    good, bad = "X:1\nT:A\nM:3/4\nK:G\nabc|d3|\n", "T:B\nK:G\nabc\n"
    assert Tunes().check([good, bad], {})["headed_tunes"] == 0.5


def test_tei_of_a_play_becomes_paragraphs():
    play = ElementTree.fromstring(
        '<TEI xmlns="http://www.tei-c.org/ns/1.0"><text><body><div><head>ACT 1 </head><stage>Enter A. </stage><sp>'
        "<speaker>ANNA </speaker><p><lb/>Who is <w>there</w>? <stage>She [waits].</stage> <lb/>Speak!</p>"
        "<l>A verse.</l></sp></div></body></text></TEI>"
    )
    assert script(play) == "ACT 1\n\n[Enter A.]\n\nANNA:\nWho is there? [She (waits).]\nSpeak!\nA verse.\n"


# The published corpora -----------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_published_corpora_have_the_counts_that_their_publishers_state(real_data, tmp_path):
    from marquee.data.tokens.shakespeare import TinyShakespeare
    from marquee.data.tokens.subtitles import Subtitles as Meld
    from marquee.data.tokens.tunes import Nottingham

    found = {}
    for kind in (TinyShakespeare, Meld, Nottingham):
        found[kind] = kind()
        found[kind].setup(Documents(), Paths(Path(real_data), tmp_path))
    shakespeare = found[TinyShakespeare]
    assert len(shakespeare.coding.characters) == 65 and shakespeare.report["test characters"] == 111_540
    assert shakespeare.report["train characters"] + shakespeare.report["validation characters"] == 1_003_854
    documents = [found[Meld].report[f"{part} documents"] for part in ("train", "validation", "test")]
    assert documents == [1038, 114, 280]
    assert found[Nottingham].report["documents"] == 1034
    checked = found[Nottingham].form.check(found[Nottingham].texts("train"), {})
    headed = checked["headed_tunes"]
    assert checked["parsed_tunes"] > 0.995 and 0.85 < checked["full_bars"] < 0.9  # another reader counts 0.86
    assert math.isclose(headed, 1, abs_tol=0.01)
