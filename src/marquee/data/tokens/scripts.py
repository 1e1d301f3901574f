"""Shakespeare's 37 plays as scripts: who speaks, what is said, stage directions in brackets; split by play.

ShakeDraCor (Fischer et al. 2019, "Programmable Corpora: Introducing DraCor"), of the Folger Digital Texts. Their
licence, CC BY-NC 3.0, allows no commercial use, also not of what is trained on them.
"""

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.sources import RawFile, find
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.errors import DataError

RAW = RawFile(
    ("shakedracor/tei.tar.gz",), origin="tei/*.xml of github.com/dracor-org/shakedracor, packed as tei.tar.gz"
)
TEI = "{http://www.tei-c.org/ns/1.0}"
SPACES = re.compile(r"\s+")


class Scripts(TokenData):
    """Plays as paragraphs: `NAME:` with the lines below, `[stage directions]`, headings of acts and scenes.

    The parts are whole plays, so that a test play's people are strangers to a model (in tinyshakespeare the cut lies
    within a play).
    """

    licence = "CC BY-NC 3.0: no commercial use"
    form_name = "script"

    def source(self, paths: Paths) -> TokenSource:
        archive = find(RAW, paths, "scripts")
        return TokenSource("scripts", {"archive": file_sha256(archive)}, lambda: _read(archive))


def _read(archive: Path) -> Corpus:
    texts, titles = [], []
    try:
        with tarfile.open(archive, "r:gz") as content:
            members = sorted((m for m in content if m.isfile() and m.name.endswith(".xml")), key=lambda m: m.name)
            for member in members:
                root = ElementTree.parse(io.BytesIO(content.extractfile(member).read())).getroot()
                texts.append(script(root))
                titles.append(Path(member.name).stem)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ElementTree.ParseError) as error:
        raise DataError(f"{archive} is damaged ({error}). Put the original there.") from error
    if not texts:
        raise DataError(f"{archive} holds no .xml file; expected the plays of ShakeDraCor as TEI.")
    return Corpus(texts, titles)


def script(root: ElementTree.Element) -> str:
    """A play's text of its TEI."""
    body = root.find(f".//{TEI}body")
    if body is None:
        raise DataError("A play has no <body>; expected TEI as DraCor has it.")
    return "\n\n".join(_paragraphs(body)) + "\n"


def _paragraphs(node: ElementTree.Element) -> Iterator[str]:
    for child in node:
        tag = child.tag.removeprefix(TEI)
        if tag == "sp":
            speaker = child.find(f"{TEI}speaker")
            lines = [line for line in _lines(child) if line]
            name = _plain("" if speaker is None else "".join(speaker.itertext())).rstrip(".:")
            yield "\n".join([f"{name}:", *lines] if name else lines)
        elif tag in ("head", "stage"):
            words = _plain("".join(child.itertext()))
            if words:
                yield f"[{_unbracketed(words)}]" if tag == "stage" else words
        elif tag in ("div", "lg", "ab", "p"):
            yield from _paragraphs(child)


def _lines(speech: ElementTree.Element) -> Iterator[str]:
    """Lines of verse and of prose, and what is done meanwhile, each on a line of its own."""
    for child in speech:
        tag = child.tag.removeprefix(TEI)
        if tag == "stage":
            yield f"[{_unbracketed(_plain(''.join(child.itertext())))}]"
        elif tag in ("l", "p", "ab"):
            yield from _broken(child)
        elif tag in ("lg", "q", "quote", "div"):
            yield from _lines(child)


def _broken(node: ElementTree.Element) -> Iterator[str]:
    """The lines of a paragraph, which `lb` breaks; a direction inside a line stays there, in brackets."""
    whole = [node.text or ""]
    for child in node:
        tag = child.tag.removeprefix(TEI)
        if tag == "lb":
            whole.append("\n")
        elif tag == "stage":
            whole.append(f" [{_unbracketed(_plain(''.join(child.itertext())))}] ")
        else:
            whole.append("".join(child.itertext()))
        whole.append((child.tail or "").replace("\n", " "))
    for line in "".join(whole).split("\n"):
        yield _plain(line)


def _plain(text: str) -> str:
    return SPACES.sub(" ", text).strip()


def _unbracketed(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")
