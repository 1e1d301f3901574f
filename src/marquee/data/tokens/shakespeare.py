"""Forty thousand lines of Shakespeare in one file, the usual first text of a language model.

Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural Networks"; the cut is that of nanoGPT.
"""

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_text
from marquee.data.sources import Archive, RawFile, find
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
RAW = RawFile(
    ("tinyshakespeare/input.txt", "tinyshakespeare/tinyshakespeare.txt"), (SHA256,),
    Archive("tinyshakespeare.txt", URL, sha256=SHA256),
)  # fmt: skip
TRAIN = 1_003_854  # characters, nine tenths


class TinyShakespeare(TokenData):
    """1,115,394 characters: the first 1,003,854 train (and validate), the last 111,540 test.

    The test part is what nanoGPT calls its validation set and chooses checkpoints on. Here those are chosen on the
    beginning of the first part, so that nothing is chosen on what is reported.
    """

    licence = "the plays are in the public domain"
    form_name = "script"

    def source(self, paths: Paths) -> TokenSource:
        path = find(RAW, paths, "tinyshakespeare")

        def read() -> Corpus:
            text = read_text(path, "utf-8")
            return Corpus([text[:TRAIN], text[TRAIN:]], ["the first nine tenths", "the last tenth"], [None, "test"])

        return TokenSource("tinyshakespeare", {"file": file_sha256(path)}, read, ends=False)
