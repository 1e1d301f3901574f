"""Piano rolls as files that people play, hear and look at: MIDI, sound, ABC notation, a picture."""

import io
import wave
from collections.abc import Iterator, Sequence

import numpy as np

from marquee.data.rolls.midi import package
from marquee.data.spec import RollSpec

RATE = 22_050  # samples of sound a second
PARTIALS = (1.0, 0.5, 0.3, 0.15, 0.08)  # how loud the first five partials of a note are
_NAMES = ("C", "^C", "D", "^D", "E", "F", "^F", "G", "^G", "A", "^A", "B")
TICKS = 480  # a quarter note in a MIDI file
BETWEEN = 2  # quarter notes of silence between two pieces


Note = tuple[int, float, float]  # a MIDI number, beginning and end in quarter notes


def notes_of(roll: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(key, first frame, frame after the last) of each note of a roll [frames, keys], by beginning, then by key: a key
    that sounds in frames on end is one note."""
    edge = np.zeros((1, roll.shape[1]), dtype=np.int8)
    change = np.diff(np.concatenate([edge, roll.astype(np.int8), edge]), axis=0)
    begins, ends = np.argwhere(change.T == 1), np.argwhere(change.T == -1)  # both by key, so they pair up
    found = [(int(key), int(begin), int(end)) for (key, begin), (_, end) in zip(begins, ends, strict=True)]
    yield from sorted(found, key=lambda note: (note[1], note[0]))


def in_turn(pieces: Sequence[tuple[Sequence[Note], float]]) -> list[Note]:
    """The notes of pieces and their lengths, one piece after the other, with silence between."""
    found, now = [], 0.0
    for notes, length in pieces:
        found += [(midi, float(begin) + now, float(end) + now) for midi, begin, end in notes]
        now += float(length) + BETWEEN
    return found


def rolls_in_turn(rolls: Sequence[np.ndarray], spec: RollSpec) -> list[Note]:
    """Likewise of rolls."""
    each = spec.frames_per_quarter
    return in_turn(
        [
            ([(key + spec.lowest, begin / each, end / each) for key, begin, end in notes_of(roll)], len(roll) / each)
            for roll in rolls
        ]
    )


def as_midi(notes: Sequence[Note], tempo: float) -> bytes:
    """A MIDI file of one track; `tempo` in quarter notes a minute. Raises ConfigError without the package mido."""
    mido = package()
    events = []
    for midi, begin, end in notes:
        events += [(round(begin * TICKS), 1, midi), (round(end * TICKS), 0, midi)]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo), time=0)])
    now = 0
    for at, on, note in sorted(events):  # at one moment what ends comes before what begins
        kind = "note_on" if on else "note_off"
        track.append(mido.Message(kind, note=note, velocity=80 if on else 0, time=at - now))
        now = at
    song = mido.MidiFile(ticks_per_beat=TICKS)
    song.tracks.append(track)
    file = io.BytesIO()
    song.save(file=file)
    return file.getvalue()


def sound(notes: Sequence[Note], tempo: float) -> bytes:
    """A WAV file, one channel of 16 bits: each note a sum of five partials that swells in a moment and dies away."""
    quarter = 60 / tempo * RATE
    found = np.zeros(int(max((end for _, _, end in notes), default=1) * quarter) + RATE // 2, dtype=np.float32)
    for midi, begin, end in notes:
        start, length = int(begin * quarter), int((end - begin) * quarter) + RATE // 10
        time = np.arange(min(length, len(found) - start), dtype=np.float32) / RATE
        pitch = 440.0 * 2 ** ((midi - 69) / 12)
        tone = sum(
            loud * np.sin(2 * np.pi * pitch * number * time)
            for number, loud in enumerate(PARTIALS, start=1)
            if pitch * number < RATE / 2
        )
        let_go = np.clip((length / RATE - time) / 0.1, 0, 1)
        found[start : start + len(time)] += tone * np.minimum(time / 0.01, 1) * np.exp(-1.5 * time) * let_go
    loudest = float(np.abs(found).max())
    samples = (found * (32_000 / loudest if loudest else 0)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def as_abc(rolls: Sequence[np.ndarray], spec: RollSpec, tempo: float) -> str:
    """ABC notation, a tune a piece: chords in brackets, four quarter notes a bar, what sounds on is tied.

    A sharp holds to the end of its bar, by some readers in all octaves: a natural behind one is written with its sign.
    """
    tunes = []
    for number, roll in enumerate(rolls, start=1):
        bar, words, sharp = 4 * spec.frames_per_quarter, [], set()
        edges = np.flatnonzero((roll[1:] != roll[:-1]).any(axis=1)) + 1
        cuts = sorted({0, len(roll), *edges.tolist(), *range(0, len(roll), bar)})
        for begin, end in zip(cuts[:-1], cuts[1:]):
            length = str(end - begin) if end - begin > 1 else ""
            on = [bool(end < len(roll) and roll[end, key]) for key in np.flatnonzero(roll[begin])]
            names = []
            for midi in (np.flatnonzero(roll[begin]) + spec.lowest).tolist():
                name = note_name(midi)
                letter = name.lstrip("^")[0].upper()
                names.append(f"={name}" if name[0] != "^" and letter in sharp else name)
                if name[0] == "^":
                    sharp.add(letter)
            if len(names) > 1:
                words.append(f"[{''.join(name + '-' * held for name, held in zip(names, on))}]{length}")
            else:
                words.append(f"{''.join(names) or 'z'}{length}{'-' * any(on)}")
            if end % bar == 0 or end == len(roll):
                words.append("|\n" if end % (4 * bar) == 0 or end == len(roll) else "|")
                sharp = set()
        head = f"X:{number}\nT:Piece {number}\nM:4/4\nL:1/{bar}\nQ:1/4={tempo:g}\nK:C\n"
        tunes.append(head + " ".join(words).replace("\n ", "\n"))
    return "\n".join(tunes)


def note_name(midi: int) -> str:
    """A MIDI note in ABC: 60 is C, 72 is c, 48 is C, with a comma behind it."""
    name, octave = _NAMES[midi % 12], midi // 12 - 5
    if octave >= 1:
        return name.lower() + "'" * (octave - 1)
    return name + "," * -octave


def picture(rolls: Sequence[np.ndarray]) -> bytes:
    """A PNG: a piece below the other, time to the right, high notes above, bright where a key sounds."""
    from PIL import Image

    width = max(len(roll) for roll in rolls)
    used = np.flatnonzero(np.concatenate(list(rolls)).any(axis=0))
    keys = rolls[0].shape[1]
    low, high = (max(int(used[0]) - 2, 0), min(int(used[-1]) + 3, keys)) if len(used) else (0, keys)
    rows = []
    for roll in rolls:
        shown = np.full((high - low, width), 32, dtype=np.uint8)
        part = roll[:, low:high].T[::-1]
        shown[:, : len(roll)] = np.where(part > 0, 240, 64)
        rows += [shown, np.full((2, width), 0, dtype=np.uint8)]
    pixels = np.concatenate(rows[:-1])
    scale = max(1, 1024 // width)
    image = Image.fromarray(pixels).resize((width * scale, len(pixels) * max(scale // 2, 2)), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
