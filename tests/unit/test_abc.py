"""Tunes in ABC notation: lengths, keys, bars and what cannot be read, by hand from the standard."""

from fractions import Fraction

import pytest

from marquee.data.tokens.abc import read_tune

HEAD = "X:1\nT:Test\nM:{m}\nL:{l}\nK:{k}\n"


def tune(body, m="4/4", l="1/4", k="C"):  # noqa: E741 - the field's name
    return read_tune(HEAD.format(m=m, l=l, k=k) + body)


def times(found):
    return [(midi, float(begin), float(end)) for midi, begin, end in found.notes]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [("C2", 2), ("C/", 0.5), ("C//", 0.25), ("C3/2", 1.5), ("C/4", 0.25), ("C", 1), ("C12", 12)],
)
def test_lengths(body, wanted):
    assert times(tune(body)) == [(60, 0, wanted)]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [("C", [65, 67, 70 + 1]), ("G", [66, 67, 71]), ("F", [65, 67, 70]), ("Am", [65, 67, 71]), ("Dm", [65, 67, 70]),
     ("Bb", [65, 67, 70]), ("A", [66, 68, 71]), ("ADor", [66, 67, 71]), ("Emix", [66, 68, 71]), ("Gmin", [65, 67, 70])],
)  # fmt: skip
def test_keys_and_modes_sharpen_and_flatten(key, wanted):
    assert [midi for midi, *_ in tune("FGB", k=key).notes] == wanted


def test_accidentals_last_to_the_end_of_the_bar_and_octaves_are_marked():
    assert [midi for midi, *_ in tune("^FF=F|F,f'c,C,", k="G").notes] == [66, 66, 65, 54, 90, 60, 48]


def test_ties_join_and_chords_sound_together():
    assert times(tune("C2-C2|[CE]-[CG]c")) == [(60, 0, 4), (60, 4, 6), (64, 4, 5), (67, 5, 6), (72, 6, 7)]
    assert times(tune("[C2-E2-][C2E2]")) == [(60, 0, 4), (64, 0, 4)]


def test_tuplets_broken_rhythm_and_rests_take_their_time():
    assert times(tune("(3CDEz")) == [(60, 0, 2 / 3), (62, 2 / 3, 4 / 3), (64, 4 / 3, 2)]
    assert times(tune("C>D E<F")) == [(60, 0, 1.5), (62, 1.5, 2), (64, 2, 2.5), (65, 2.5, 4)]
    assert times(tune("z2C")) == [(60, 2, 3)]


def test_bars_are_full_or_not_and_a_pick_up_is_not():
    found = tune('"Em"E|CDEF|:C2 D2:|[1C3|[2C4||', m="4/4")
    assert [(float(length), length == wanted) for length, wanted in found.bars] == [
        (1, False), (4, True), (4, True), (3, False), (4, True),
    ]  # fmt: skip
    assert found.full_bars == 3 and found.errors == []
    assert tune("CDE|C3", m="3/4").full_bars == 2 and tune("CDE cde|", m="6/8", l="1/8").full_bars == 1
    assert tune("CDEF|", m="C").bars == [(Fraction(4), Fraction(4))]


def test_what_cannot_be_read_is_listed_with_its_place_and_left_out():
    found = tune("C ? D\nE [CH] F")
    assert [midi for midi, *_ in found.notes] == [60, 62, 64, 65]
    assert found.errors == ["line 6, column 3: '?'", "line 7, column 3: [CH]"]
    assert read_tune("X:1\nCDE").errors == ["line 2: 'CDE' stands before K:", "there is no K:"]
    assert tune("C", m="4/0").errors == ["line 3: M:4/0 is no meter"]
    assert tune("C", k="H").errors == ["line 5: K:H is no key"]
    assert read_tune("").notes == []


def test_a_tempo_is_read_and_a_length_follows_from_the_meter():
    assert read_tune("X:1\nQ:1/4=96\nK:C\nC").tempo == 96
    assert times(read_tune("X:1\nM:2/4\nK:C\nC")) == [(60, 0, 0.25)]
    assert times(read_tune("X:1\nM:3/4\nK:C\nC")) == [(60, 0, 0.5)]
