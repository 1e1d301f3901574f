"""Piano rolls: published parts, MIDI files, stretches, likelihoods and what can be checked of music."""

import wave
from io import BytesIO
from itertools import combinations

import mido
import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch.distributions import Bernoulli

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.rolls.midi import Midi, read_midi
from marquee.data.rolls.published import PublishedRolls
from marquee.data.rolls.views import RollBatch, RollWindows
from marquee.data.spec import RollSpec
from marquee.data.tokens.abc import read_tune
from marquee.data.world.chords import ChordLaw, WorldChords, law
from marquee.errors import ConfigError, DataError
from marquee.inference.composer import compose
from marquee.inference.scores import as_abc, as_midi, note_name, notes_of, picture, rolls_in_turn, sound
from marquee.metrics.polyphony import validity
from marquee.models.cnn.tcn import Tcn
from marquee.models.rnn.gru_frames import GruFrames
from marquee.models.rnn.lstm_frames import LstmFrames
from marquee.models.rnn.nade import RnnNade
from marquee.tasks.polyphony import Chains, Polyphony

SPEC = RollSpec(frames_per_quarter=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chords")
    data = WorldChords(pieces=40)
    data.setup(Holdout(), Paths(folder, folder / "cache"))
    return data


def cells(*pieces):
    column = np.empty((1, len(pieces)), dtype=object)
    for place, piece in enumerate(pieces):
        column[0, place] = piece
    return column


def test_published_parts_are_kept_and_pieces_of_one_frame_left_out(tmp_path):
    rng = np.random.default_rng(0)
    pieces = [(rng.random((n, 88)) < 0.05).astype(float) for n in (5, 1, 4, 3)]
    fields = {"traindata": cells(*pieces[:2]), "validdata": cells(pieces[2]), "testdata": cells(pieces[3])}
    savemat(tmp_path / "JSB_Chorales.mat", fields)
    data = PublishedRolls()
    data.setup(Holdout(validation=0.5), Paths(tmp_path, tmp_path / "cache"))
    assert [rows.tolist() for rows in data.parts.values()] == [[0], [1], [2]]
    np.testing.assert_array_equal(data.piece(2), pieces[3])
    assert data.names == ["train 1", "validation 1", "test 1"] and data.report["test frames"] == 3

    savemat(tmp_path / "MuseData.mat", {"traindata": cells(np.full((3, 88), 2.0))})
    with pytest.raises(DataError, match="piece 1 of traindata is no matrix of 0 and 1"):
        PublishedRolls(collection="muse").setup(Holdout(), Paths(tmp_path, tmp_path / "cache"))
    (tmp_path / "Nottingham.mat").write_bytes(b"no matrix")
    with pytest.raises(DataError, match=r"Nottingham.mat cannot be read"):
        PublishedRolls(collection="nottingham").setup(Holdout(), Paths(tmp_path, tmp_path / "cache"))


def song(*notes, tracks=1, ticks=480):
    """A MIDI file of (note, begin, end) in ticks."""
    made = mido.MidiFile(ticks_per_beat=ticks)
    for _ in range(tracks):
        events = sorted([(b, 1, n) for n, b, _ in notes] + [(e, 0, n) for n, _, e in notes])
        track, now = mido.MidiTrack(), 0
        for at, on, note in events:
            track.append(mido.Message("note_on", note=note, velocity=64 * on, time=at - now))
            now = at
        made.tracks.append(track)
    return made


def test_notes_lie_on_the_nearest_frames_and_sound_for_one_at_least(tmp_path):
    song((60, 0, 480), (64, 100, 110), (67, 470, 960), (10, 0, 480)).save(tmp_path / "a.mid")
    roll = read_midi(tmp_path / "a.mid", 4)
    assert roll.shape == (8, 88)
    assert [np.flatnonzero(roll[:, note - 21]).tolist() for note in (60, 64, 67)] == [[0, 1, 2, 3], [1], [4, 5, 6, 7]]
    assert roll.sum() == 9


@pytest.mark.parametrize(
    ("make", "told"),
    [(lambda path: song().save(path), "has no notes"),
     (lambda path: song((60, 0, 9), tracks=1000).save(path), "has 1000 tracks; up to 128 are read"),
     (lambda path: path.write_bytes(b"MThd"), "is no MIDI file that can be read"),
     (lambda path: song((60, 0, 480 * 60_000)).save(path), "240,000 frames; up to 200,000")],
)  # fmt: skip
def test_files_that_are_no_music_are_named_or_left_out_and_counted(tmp_path, make, told):
    make(tmp_path / "bad.mid")
    paths = Paths(tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match=rf"bad.mid.*{told}(.|\n)*data.skip_unreadable=true"):
        Midi(path=str(tmp_path)).setup(Holdout(), paths)
    with pytest.raises(DataError, match=r"none of 1 files can be read"):
        Midi(path=str(tmp_path), skip_unreadable=True).setup(Holdout(), paths)
    for number in range(12):
        song((60 + number, 0, 960)).save(tmp_path / f"{number}.mid")
    data = Midi(path=str(tmp_path), skip_unreadable=True)
    data.setup(Holdout(), paths)
    assert len(data.names) == 12


def test_every_frame_but_the_first_of_a_piece_is_predicted_in_each_epoch(world):
    view = RollWindows(batch_size=4, length=16)
    seen = {}
    for batch in view.train_batches(world, 1, 0):
        assert batch.frames.shape[1] <= 16 and (batch.lengths >= 2).all()
        for frames, length, piece in zip(batch.frames, batch.lengths, batch.index):
            whole = torch.from_numpy(world.piece(int(piece))).float()
            starts = range(len(whole) - int(length) + 1)
            places = [p for p in starts if torch.equal(whole[p : p + length], frames[:length])]
            assert places and not frames[length:].any()
            seen.setdefault(int(piece), set()).update(range(places[0] + 1, places[0] + int(length)))
    assert seen == {int(piece): set(range(1, len(world.piece(piece)))) for piece in world.parts["train"]}
    assert sum(1 for _ in view.train_batches(world, 1, 0)) == view.steps(world)


def test_transposed_stretches_are_moved_as_a_whole(world):
    plain = next(RollWindows(length=16).train_batches(world, 1, 0))
    moved = next(RollWindows(length=16, transpose=5).train_batches(world, 1, 0))
    shifts = set()
    for before, after in zip(plain.frames, moved.frames):
        by = next(by for by in range(-5, 6) if torch.equal(before.roll(by, 1), after))
        shifts.add(by)
    assert len(shifts) > 3


def models():
    view = RollWindows()
    torch.manual_seed(0)
    yield GruFrames(SPEC, view=view, hidden=8, layers=2)
    yield LstmFrames(SPEC, view=view, hidden=8)
    yield Tcn(SPEC, view=view, channels=6, levels=2, kernel=3)
    yield RnnNade(SPEC, view=view, hidden=8, units=5)


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_what_is_written_has_the_likelihood_that_reading_it_gives(model):
    """Step by step with a memory, and all at once: the same nats; and silence stands before the first frame."""
    ((roll, nats), *_) = made = compose(model, 88, [(1, 0), (1, 1), (2, 0)], 20, 1.0)
    frames = torch.cat([torch.zeros(1, 88), torch.from_numpy(roll).float()])[None].double()
    with torch.no_grad():
        read = -model.double().eval().log_likelihood(frames)[0]
    np.testing.assert_allclose(nats, read, rtol=1e-6, atol=1e-6)
    alone = compose(model, 88, [(1, 1)], 20, 1.0)[0]
    np.testing.assert_array_equal(alone[0], made[1][0])
    assert alone[1] == pytest.approx(made[1][1], rel=1e-12)
    greedy = compose(model, 88, [(1, 0), (5, 3)], 6, 0.0)
    np.testing.assert_array_equal(greedy[0][0], greedy[1][0])


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_no_model_hears_a_frame_before_it_says_what_it_is(model):
    torch.manual_seed(1)
    frames = (torch.rand(1, 12, 88) < 0.1).float()
    other = frames.clone()
    other[:, 8:] = 1 - other[:, 8:]
    model = model.float().eval()
    with torch.no_grad():
        first, second = model.log_likelihood(frames)[0], model.log_likelihood(other)[0]
    torch.testing.assert_close(first[:7], second[:7])
    batch = RollBatch(torch.cat([frames, other]), torch.tensor([12, 4]), torch.tensor([0, 1]))
    with torch.no_grad():
        by_hand = -(first.sum() + second[:3].sum()) / (11 + 3)
    assert float(model.loss(batch)) == pytest.approx(float(by_hand), rel=1e-5)


def test_a_nade_is_a_distribution_over_chords():
    """Over all 2^4 chords of four keys the probabilities add up to one."""
    torch.manual_seed(0)
    model = RnnNade(RollSpec(keys=4), view=RollWindows(), hidden=3, units=3).eval()
    torch.nn.init.normal_(model.below, std=2)
    torch.nn.init.normal_(model.above, std=2)
    chords = torch.tensor([[[0.0, 1, 0, 1], [*map(float, f"{n:04b}")]] for n in range(16)])
    with torch.no_grad():
        assert float(model.log_likelihood(chords).exp().sum()) == pytest.approx(1, rel=1e-5)


def test_the_law_of_the_world_is_the_sum_over_all_hidden_chains():
    """Brute force over every chain of three chords, for notes together and each for itself."""
    begin, chain, keys = (torch.from_numpy(part) for part in law())
    assert torch.allclose(chain.sum(1), torch.ones(7, dtype=torch.float64)) and begin.sum() == pytest.approx(1)
    torch.manual_seed(3)
    frames = (torch.rand(1, 3, 88) < 0.1).float()
    emitted = Bernoulli(keys[:, None]).log_prob(frames.double()).sum(2).exp()  # [chords, frames]

    def joint(until):
        total = 0.0
        for hidden in np.ndindex(*(7,) * until):
            p = begin[hidden[0]]
            for place in range(1, until):
                p = p * chain[hidden[place - 1], hidden[place]]
            total += p * torch.stack([emitted[hidden[place], place] for place in range(until)]).prod()
        return total

    found = ChordLaw().log_likelihood(frames)[0]
    torch.testing.assert_close(found.exp(), torch.stack([joint(2) / joint(1), joint(3) / joint(2)]))
    belief = (begin * emitted[:, 0]) / joint(1) @ chain
    each = Bernoulli(belief @ keys).log_prob(frames[0, 1].double()).sum()
    assert float(ChordLaw().of_keys().log_likelihood(frames)[0, 0]) == pytest.approx(float(each))


def test_the_oracle_is_better_than_every_baseline_and_frames_count_alike(world):
    task = Polyphony(GruFrames(world.spec, view=RollWindows(), hidden=4), world, sample=0)
    scores = {name: task.evaluate(scorer, "test")[0]["nats"] for name, scorer in task.baselines().items()}
    best, units = task.evaluate(task.oracle(), "test")
    assert best["nats"] < min(scores.values())
    assert units["nats"].mean() == pytest.approx(best["nats"])
    frames = [world.piece(number) for number in world.parts["test"]]
    law_ = ChordLaw().of_keys()
    by_hand = sum(-law_.log_likelihood(torch.from_numpy(piece).float()[None]).sum() for piece in frames)
    assert best["nats"] == pytest.approx(float(by_hand) / sum(len(piece) - 1 for piece in frames))


def test_chains_of_two_states_by_hand():
    """Key 0 sounds once in two after it sounded, once in one after silence; half a count of each kind is added."""
    chains = Chains([np.array([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=np.uint8)])
    torch.testing.assert_close(chains.logits.sigmoid(), torch.tensor([[1.5 / 2, 1.5 / 4], [1.5 / 3, 0.5 / 1]]))
    frames = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    assert float(chains.log_likelihood(frames)) == pytest.approx(np.log(1.5 / 3 * 1.5 / 4), rel=1e-5)


def parallels(piece):
    """A second count, pair by pair."""
    found = {7: 0, 0: 0}
    changes = overlaps = 0
    for before, after in zip(piece[:-1], piece[1:]):
        old, new = np.flatnonzero(before), np.flatnonzero(after)
        if (before == after).all() or len(old) != len(new) or len(old) < 2:
            continue
        changes += 1
        overlaps += any(new[i] > old[i + 1] or new[i + 1] < old[i] for i in range(len(old) - 1))
        for i, j in combinations(range(len(old)), 2):
            steps = new[i] - old[i], new[j] - old[j]
            for gap in found:
                if steps[0] * steps[1] > 0 and (old[j] - old[i]) % 12 == gap == (new[j] - new[i]) % 12:
                    found[gap] += 1
    return changes, found, overlaps


def test_what_is_checked_of_music_is_what_counting_by_hand_gives():
    rng = np.random.default_rng(0)
    piece = np.zeros((300, 88), dtype=np.uint8)
    for row in piece:
        row[rng.choice(np.arange(20, 50), size=rng.integers(0, 5), replace=False)] = 1
    piece[1::2] = np.roll(piece[::2], 1, axis=1)  # every chord moves on by a semitone, in parallel
    changes, found, overlaps = parallels(piece)
    checked = validity([piece], 32, 40)
    assert checked["parallel_fifths"] == pytest.approx(100 * found[7] / changes) and found[7] > 0
    assert checked["parallel_octaves"] == pytest.approx(100 * found[0] / changes) and found[0] > 0
    assert checked["overlaps"] == pytest.approx(overlaps / changes)
    outside = piece[:, :32].sum() + piece[:, 41:].sum()
    assert checked["out_of_range"] == pytest.approx(outside / piece.sum())
    assert checked["empty_frames"] == (piece.sum(1) == 0).mean()
    assert checked["notes"] == pytest.approx(piece.sum() / 300)


def test_music_survives_a_midi_file(tmp_path):
    rng = np.random.default_rng(1)
    rolls = [(rng.random((12, 88)) < 0.08).astype(np.uint8) for _ in range(2)]
    for roll in rolls:
        roll[[0, -1], 40] = 1  # silence at the ends is not kept
    (tmp_path / "two.mid").write_bytes(as_midi(rolls_in_turn(rolls, SPEC), 100.0))
    wanted = np.concatenate([rolls[0], np.zeros((8, 88), np.uint8), rolls[1]])
    np.testing.assert_array_equal(read_midi(tmp_path / "two.mid", 4), wanted)
    assert mido.MidiFile(tmp_path / "two.mid").length == pytest.approx(32 / 4 * 0.6, rel=1e-3)


def test_the_sound_is_that_of_the_notes():
    """440 Hz is the loudest of a second of A, by its Fourier transform."""
    roll = np.zeros((8, 88), dtype=np.uint8)
    roll[:, 69 - 21] = 1
    with wave.open(BytesIO(sound(rolls_in_turn([roll], SPEC), 120.0))) as file:
        rate = file.getframerate()
        heard = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(float)
    assert len(heard) / rate == pytest.approx(1.5, abs=0.01) and np.abs(heard).max() == 32_000
    assert np.argmax(np.abs(np.fft.rfft(heard[:rate]))) == pytest.approx(440, abs=1)
    silence = sound([], 120.0)
    assert len(silence) > 44


def test_tunes_are_written_in_abc():
    roll = np.zeros((20, 88), dtype=np.uint8)
    roll[:4, 60 - 21] = 1
    roll[4:6, [60 - 21, 64 - 21]] = 1
    roll[12:18, 72 - 21] = 1
    text = as_abc([roll], SPEC, 90.0)
    assert text.endswith("K:C\nC4- [CE]2 z6 c4- | c2 z2 |\n"), text
    assert [note_name(midi) for midi in (36, 48, 59, 60, 61, 71, 72, 84, 85)] == [
        "C,,", "C,", "B,", "C", "^C", "B", "c", "c'", "^c'",
    ]  # fmt: skip
    assert list(notes_of(roll))[0] == (39, 0, 6)


def test_abc_read_again_has_the_same_notes():
    """By the reader of tunes: naturals behind sharps, held notes of chords that change, ties over bars."""
    rng = np.random.default_rng(0)
    roll = (rng.random((70, 88)) < 0.04).astype(np.uint8)
    for frame in range(1, len(roll)):
        roll[frame] = np.where(rng.random(88) < 0.4, roll[frame - 1], roll[frame])
    tune = read_tune(as_abc([roll], SPEC, 90.0))
    wanted = sorted((key + SPEC.lowest, begin / 4, end / 4) for key, begin, end in notes_of(roll))
    assert not tune.errors and sorted((midi, float(begin), float(end)) for midi, begin, end in tune.notes) == wanted
    both = np.zeros((2, 88), dtype=np.uint8)
    both[0, 61 - 21] = both[1, 72 - 21] = 1  # some readers let ^C sharpen c, too
    assert "^C =c |" in as_abc([both], SPEC, 90.0)


def test_the_picture_has_a_row_a_key():
    from PIL import Image

    roll = np.zeros((16, 88), dtype=np.uint8)
    roll[4:8, 40] = 1
    image = np.asarray(Image.open(BytesIO(picture([roll, roll]))))
    assert image.max() == 240 and (image == 240).mean() == pytest.approx(2 * 4 / (16 * (2 * 5 + 2)), rel=0.01)


def test_a_file_that_waits_for_ever_is_refused(tmp_path):
    """Its notes are 2^147 ticks apart, a number that neither int64 nor float32 holds."""
    wait = b"\xff" * 20 + b"\x7f"
    events = wait + b"\x90\x3c\x50" + wait + b"\x80\x3c\x40" + b"\x00\xff\x2f\x00"
    head = b"MThd" + (6).to_bytes(4, "big") + b"\0\0\0\1" + (480).to_bytes(2, "big")
    (tmp_path / "x.mid").write_bytes(head + b"MTrk" + len(events).to_bytes(4, "big") + events)
    with pytest.raises(DataError, match="up to 200,000 are read"):
        read_midi(tmp_path / "x.mid", 4)


def test_more_sound_than_a_file_should_have_is_refused_before_it_is_made():
    from marquee.inference.composer import Composer
    from marquee.inference.generation import Made

    composer = object.__new__(Composer)
    composer.spec = SPEC
    made = [Made(np.zeros((30_000, 88), dtype=np.uint8), {"tempo": 90.0})]
    with pytest.raises(ConfigError, match=r"--format=wav: 5,001 seconds of sound; up to 3,600"):
        composer.render(made, "wav")
    with pytest.raises(ConfigError, match=r"--frames=50000: allowed is 1 ... 100000 of all pieces together, here 3"):
        composer.make(3, 1, {**Composer.takes, "frames": 50_000})


@pytest.mark.parametrize(("option", "value"), [("frames", 0), ("temperature", -1.0), ("tempo", 5.0)])
def test_settings_out_of_range_are_named(option, value):
    from marquee.inference.composer import Composer

    composer = object.__new__(Composer)
    with pytest.raises(ConfigError, match=rf"--{option}={value}: allowed is"):
        composer.make(1, 1, {**Composer.takes, option: value})


def test_baselines_of_the_chorales_are_as_computed_elsewhere(real_data, world_cache):
    """11.09 and 10.49 nats a frame: computed independently beside the published data."""
    data = PublishedRolls()
    data.setup(Holdout(), Paths(real_data, world_cache))
    assert [int(data.lengths(rows).sum()) for rows in data.parts.values()] == [13_807, 4_602, 4_725]
    task = Polyphony(GruFrames(data.spec, view=RollWindows(), hidden=4), data, sample=0)
    scores = {name: round(task.evaluate(scorer, "test")[0]["nats"], 2) for name, scorer in task.baselines().items()}
    assert scores == {"unigram": 11.09, "two-state chains": 10.49}


def test_a_long_piece_is_judged_in_stretches_as_it_would_be_at_once(monkeypatch):
    torch.manual_seed(0)
    model = RnnNade(SPEC, view=RollWindows(), hidden=4, units=3).eval()
    frames = (torch.rand(2, 30, SPEC.keys) < 0.05).float()
    whole = model.log_likelihood(frames)
    monkeypatch.setattr("marquee.models.rnn.nade.STRETCH", 7)
    assert torch.allclose(model.log_likelihood(frames), whole, atol=1e-5) and whole.shape == (2, 29)
