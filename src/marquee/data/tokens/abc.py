"""Tunes in ABC notation, read as notes in quarter notes of time: what plays them, and what counts their bars.

The part of the ABC standard 2.1 that folk tunes use: keys and modes, lengths, broken rhythm, tuplets, chords, ties;
grace notes and chord symbols are left out, repeats and endings read once, as they are written.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction

_SHARPS = "FCGDAEB"
_MAJOR = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6, "C#": 7, "F": -1, "Bb": -2, "Eb": -3, "Ab": -4,
          "Db": -5, "Gb": -6, "Cb": -7}  # fmt: skip
_MODES = {
    "": 0,
    "maj": 0,
    "ion": 0,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "mix": -1,
    "dor": -2,
    "phr": -4,
    "lyd": 1,
    "loc": -5,
}
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_TUPLETS = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}  # so many notes in the time of so many; others in that of two
_FIELD = re.compile(r"^([A-Za-z]):(.*)$")
_NOTE = r"(?P<accidental>\^\^|__|[\^_=])?(?P<pitch>[A-Ga-g])(?P<octave>[,']*)"
_LENGTH = r"(?P<length>\d*/*\d*)"
_PARTS = re.compile(
    r'(?P<left_out>"[^"\n]*"|\{[^}\n]*\}|![^!\n]+!|\+[^+\n]+\+|[~.uvHLMOPSTy`()]|\\\n?|\s+)'
    r"|\[(?P<key>[A-Za-z]):(?P<value>[^\]\n]*)\]"
    r"|(?P<bar>:*\|+[:\]]*[12]?|\|\]|::|\[\||\[[12])"
    rf"|\[(?P<chord>[^\]\n]*)\]{_LENGTH}"
    rf"|{_NOTE}{_LENGTH.replace('length', 'note_length')}"
    rf"|(?P<rest>[zx]){_LENGTH.replace('length', 'rest_length')}"
    r"|(?P<broken>>+|<+)|(?P<tie>-)"
)
_TUPLET = re.compile(r"\((\d)(?::\d*)*")
_CHORD_NOTE = re.compile(_NOTE + _LENGTH)


@dataclass
class Tune:
    """Notes (MIDI number, begin, end, in quarter notes), the length of each bar in quarter notes, and what could not be
    read, with its place."""

    notes: list[tuple[int, Fraction, Fraction]] = field(default_factory=list)
    bars: list[tuple[Fraction, Fraction]] = field(default_factory=list)  # length, and what the meter asks for
    errors: list[str] = field(default_factory=list)
    tempo: float | None = None

    @property
    def full_bars(self) -> int:
        """Bars that are as long as their meter asks for; a pick-up is none."""
        return sum(length == wanted for length, wanted in self.bars)


def read_tune(text: str) -> Tune:
    """One tune. What cannot be read is left out and listed in `errors`; nothing is raised."""
    tune, reader = Tune(), _Reader()
    body = False
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.partition("%")[0].rstrip()
        if named := _FIELD.match(line):
            if problem := reader.set(named[1], named[2].strip(), tune):
                tune.errors.append(f"line {number}: {problem}")
            body = body or named[1] == "K"
        elif line and body:
            reader.line(line, number, tune)
        elif line:
            tune.errors.append(f"line {number}: {line[:20]!r} stands before K:")
    reader.bar(tune)
    if not body:
        tune.errors.append("there is no K:")
    return tune


class _Reader:
    """Where a reader stands in a tune."""

    def __init__(self) -> None:
        self.now = self.bar_began = Fraction(0)
        self.meter = Fraction(4)  # quarter notes a bar
        self.unit: Fraction | None = None
        self.key: dict[str, int] = {}
        self.accidentals: dict[tuple[str, str], int] = {}
        self.tuplet, self.left = Fraction(1), 0
        self.broken = Fraction(1)
        self.last: list[int] = []  # places of the notes struck last, for ties and broken rhythm
        self.tied = False

    def set(self, name: str, value: str, tune: Tune) -> str | None:
        """A field; what is wrong with it, or None."""
        if name == "M":
            if value in ("C", "C|"):
                self.meter = Fraction(4)
            elif found := re.fullmatch(r"(\d+)\s*/\s*(\d+)", value):
                if not int(found[1]) or not int(found[2]):
                    return f"M:{value} is no meter"
                self.meter = Fraction(int(found[1]), int(found[2])) * 4
            elif value.lower() != "none":
                return f"M:{value} is no meter"
        elif name == "L":
            found = re.fullmatch(r"(\d+)\s*/\s*(\d+)", value)
            if not found or not int(found[1]) or not int(found[2]):
                return f"L:{value} is no length"
            self.unit = Fraction(int(found[1]), int(found[2])) * 4
        elif name == "K":
            found = re.match(r"([A-G][#b]?)\s*([A-Za-z]*)", value)
            mode = found[2].lower()[:3] if found else ""
            if not found or (mode not in _MODES and mode[:1] != "m"):
                return f"K:{value} is no key"
            fifths = _MAJOR.get(found[1], 0) + _MODES.get(mode, _MODES["m"])
            names = _SHARPS[:fifths] if fifths >= 0 else _SHARPS[fifths:]
            self.key = dict.fromkeys(names, 1 if fifths >= 0 else -1)
        elif name == "Q" and (found := re.search(r"=\s*(\d+)", value) or re.fullmatch(r"(\d+)", value)):
            tune.tempo = float(found[1])
        return None

    def line(self, line: str, number: int, tune: Tune) -> None:
        place = 0
        while place < len(line):
            if found := _TUPLET.match(line, place):
                many = int(found[1])
                self.tuplet, self.left = Fraction(_TUPLETS.get(many, 2), many or 1), many
                place = found.end()
                continue
            found = _PARTS.match(line, place)
            if not found:
                tune.errors.append(f"line {number}, column {place + 1}: {line[place]!r}")
                place += 1
                continue
            place = max(found.end(), place + 1)
            if found["key"]:
                if problem := self.set(found["key"], found["value"].strip(), tune):
                    tune.errors.append(f"line {number}: {problem}")
            elif found["bar"]:
                self.bar(tune)
            elif found["pitch"]:
                self.strike([found], found["note_length"], tune)
            elif found["chord"] is not None:
                plain = re.sub(r"[-+ ]", "", found["chord"])  # ties within are as one behind
                inside = list(_CHORD_NOTE.finditer(plain))
                if "".join(note[0] for note in inside) != plain or not inside:
                    tune.errors.append(f"line {number}, column {found.start() + 1}: [{found['chord']}]")
                else:
                    self.strike(inside, found["length"], tune, inside[0]["length"])
                    self.tied = "-" in found["chord"]
            elif found["rest"]:
                self.last, self.tied = [], False
                self.now += self._time(found["rest_length"])
            elif found["broken"]:
                self._break(found["broken"], tune)
            elif found["tie"]:
                self.tied = True

    def bar(self, tune: Tune) -> None:
        if self.now > self.bar_began:
            tune.bars.append((self.now - self.bar_began, self.meter))
        self.bar_began, self.accidentals = self.now, {}

    def strike(self, notes: list[re.Match], length: str, tune: Tune, inner: str = "") -> None:
        time = self._time(length) * (_fraction(inner) if inner else 1)
        before = {tune.notes[place][0]: place for place in self.last} if self.tied else {}
        self.last, self.tied = [], False
        for note in notes:
            midi = self._midi(note)
            if midi in before:  # it sounds on
                place = before[midi]
                tune.notes[place] = (midi, tune.notes[place][1], self.now + time)
            else:
                place = len(tune.notes)
                tune.notes.append((midi, self.now, self.now + time))
            self.last.append(place)
        self.now += time

    def _midi(self, note: re.Match) -> int:
        name, octave = note["pitch"].upper(), note["octave"]
        place = (name, note["pitch"] + octave)
        if note["accidental"]:
            self.accidentals[place] = {"^": 1, "_": -1, "=": 0, "^^": 2, "__": -2}[note["accidental"]]
        shift = self.accidentals.get(place, self.key.get(name, 0))
        up = (12 if note["pitch"].islower() else 0) + 12 * (octave.count("'") - octave.count(","))
        return min(max(60 + _STEPS[name] + shift + up, 0), 127)

    def _time(self, length: str) -> Fraction:
        # Without L: it goes by the meter: a sixteenth where a bar is shorter than three quarters of a whole note.
        unit = self.unit or (Fraction(1, 4) if self.meter < 3 else Fraction(1, 2))
        time = unit * _fraction(length) * self.broken
        self.broken = Fraction(1)
        if self.left:
            time, self.left = time * self.tuplet, self.left - 1
        return time

    def _break(self, signs: str, tune: Tune) -> None:
        """The note before is lengthened and the next one shortened, or the other way round."""
        part = Fraction(1, 2 ** len(signs))
        first, second = (2 - part, part) if signs[0] == ">" else (part, 2 - part)
        self.broken = second
        if not self.last:
            return
        _, begin, end = tune.notes[self.last[0]]
        moved = (end - begin) * first - (end - begin)
        for place in self.last:
            midi, begin, end = tune.notes[place]
            tune.notes[place] = (midi, begin, end + moved)
        self.now += moved


def _fraction(length: str) -> Fraction:
    """`3`, `3/2`, `/2`, `/` (a half), `//` (a quarter), nothing (one)."""
    above, slashes, below = re.fullmatch(r"(\d*)(/*)(\d*)", length).groups()
    value = Fraction(int(above or 1))
    if below and int(below):
        return value / int(below)
    return value / 2 ** len(slashes)
