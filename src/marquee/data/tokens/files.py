"""Bring your own texts to be continued: plain files, a folder of them, or one JSON object a line."""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_records, read_text
from marquee.data.tokens.coding import Kind
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.data.tokens.forms import FORMS
from marquee.errors import ConfigError, DataError

ENDINGS = (".txt", ".jsonl", ".ndjson", ".gz")


class TextCorpus(TokenData):
    """Texts of one's own.

    path       a .txt file, which is one document; a .jsonl file, a document a line (both also .gz); or a folder of them
    test_path  an official test part likewise; null: it is cut from `path`
    text       the key of a .jsonl line that holds the text
    encoding   of the files
    form       plain; script (`NAME:` and lines below), subtitles (`0.0-1.5 Name: words`), poems or tunes (ABC): checks
               that its samples get, and formats that they can be written in

    The other parameters are those of every corpus.
    """

    def __init__(
        self,
        *,
        path: str,
        test_path: str | None = None,
        text: str = "text",
        encoding: str = "utf-8",
        form: Literal["plain", "script", "subtitles", "poems", "tunes"] = "plain",
        tokenizer: Kind = "char",
        vocabulary_size: Annotated[int, Ge(258)] = 1024,
    ):
        super().__init__(tokenizer=tokenizer, vocabulary_size=vocabulary_size)
        self.path, self.test_path, self.text_key, self.encoding = path, test_path, text, encoding
        self.form_name, self.form = form, FORMS[form]()

    def source(self, paths: Paths) -> TokenSource:
        if not self.path:
            raise ConfigError("data=text_corpus needs data.path=FILE (.txt, .jsonl, or a folder of such files).")
        files = _files(self.path, paths)
        tests = _files(self.test_path, paths) if self.test_path else []
        if both := set(files) & set(tests):
            raise DataError(f"{min(both)} stands in data.path and in data.test_path.")
        sums, test_sums = ([file_sha256(file) for file in some] for some in (files, tests))
        key = {"text": self.text_key, "encoding": self.encoding, "files": sums, "tests": test_sums}

        def read() -> Corpus:
            texts, titles, parts = [], [], []
            for file in [*files, *tests]:
                found = self._read(file)
                texts += found
                titles += [file.name if len(found) == 1 else f"{file.name} line {n}" for n in range(1, len(found) + 1)]
                parts += ["test" if file in tests else None] * len(found)
            return Corpus(texts, titles, parts)

        return TokenSource("text_corpus", key, read)

    def _read(self, path: Path) -> list[str]:
        if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            (texts,) = read_records(path, {"data.text": self.text_key}, encoding=self.encoding)
        else:
            texts = [read_text(path, self.encoding)]
        return [text.replace("\r\n", "\n") for text in texts]


def _files(path: str, paths: Paths) -> list[Path]:
    """As given, else below `paths.data`; a folder stands for its files, by name."""
    places = [Path(path).expanduser(), paths.data / path]
    for place in places:
        if place.is_file():
            if place.suffix not in ENDINGS:
                raise DataError(f"{place}: unknown ending {place.suffix!r}; read are .txt and .jsonl, also .gz.")
            return [place]
        if place.is_dir():
            found = sorted(file for file in place.rglob("*") if file.is_file() and file.suffix in ENDINGS)
            if not found:
                raise DataError(f"{place} holds no .txt or .jsonl file.")
            return found
    raise DataError(f"{path} does not exist. Looked for {places[0].absolute()} and {places[1]}.")
