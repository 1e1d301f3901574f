"""Texts and tunes to be continued: corpora of documents, their tokens, and the forms that they are written in."""
