"""What the model's thread does with a batch: questions of one kind in, answers as JSON or exceptions out."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from marquee.inference import asking
from marquee.serving.refusals import Refusal
from marquee.serving.served import Served

REASONS = 3  # titles of a history that are named for an item
WORDS = 12  # words of a text that are named for its label
LEAST = 0.02  # of the share of the word that spoke most: others said nothing


def answer(served: Served, kind: str, questions: Sequence[dict[str, Any]]) -> list[Any]:
    """An answer, or the exception that says why there is none, for each question of a kind."""
    together = TOGETHER.get(kind)
    if together is not None and len(questions) > 1:
        try:
            return together(served, questions)
        except Exception:  # one of them is to blame, and the others shall have their answer
            return [_alone(served, kind, question) for question in questions]
    return [_alone(served, kind, question) for question in questions]


def _alone(served: Served, kind: str, question: dict[str, Any]) -> Any:
    try:
        if kind in TOGETHER:
            (found,) = TOGETHER[kind](served, [question])
            return found
        return ALONE[kind](served, question)
    except Exception as error:
        return error


# Recommend -----------------------------------------------------------------------------------------------------------


def recommend(served: Served, questions: Sequence[dict[str, Any]]) -> list[Any]:
    """All users and histories of all questions as one batch; a question that names what is unknown has its error."""
    found: list[Any] = [None] * len(questions)
    asked: list[asking.Asked] = []
    owners: list[int] = []
    for number, question in enumerate(questions):
        try:
            own = _resolved(served, question)
        except Exception as error:
            found[number] = error
            continue
        found[number] = []
        asked += own
        owners += [number] * len(own)
    rankings = asking.answer(served.predictor, asked)
    for number, one, ranking in zip(owners, asked, rankings, strict=True):
        found[number].append(_shown(served, one, ranking, questions[number]["explain"]))
    return found


def _resolved(served: Served, question: dict[str, Any]) -> list[asking.Asked]:
    """All who are asked for; what limits their lists is looked up once for all of them."""
    predictor, how, who = served.predictor, question["how"], question["who"]
    if not who:
        return []
    first = asking.resolve(predictor, **who[0], **how)
    rest = [asking.resolve(predictor, **one, k=how["k"], filter_seen=how["filter_seen"]) for one in who[1:]]
    return [first, *(replace(one, candidates=first.candidates, exclude=first.exclude) for one in rest)]


def _shown(served: Served, asked: asking.Asked, ranking: asking.Ranking, explain: bool) -> dict[str, Any]:
    known, predictor = served.predictor.known, served.predictor
    ids, titles = known.item_ids[ranking.items].tolist(), known.titles
    items = [
        {"rank": rank, "item_id": item, "title": titles[position], "score": score}
        for rank, (item, position, score) in enumerate(
            zip(ids, ranking.items.tolist(), ranking.scores.tolist(), strict=True), start=1
        )
    ]
    if explain:
        shares, history = asking.reasons(predictor, asked, ranking.items)
        for entry, row in zip(items, shares, strict=True):
            order = np.argsort(-row, kind="stable")[: np.count_nonzero(row > 0)]
            best = order[np.sort(np.unique(history[order], return_index=True)[1])[:REASONS]]  # each title once
            spoke = history[best]
            entry["because"] = [
                {"item_id": item, "title": titles[position], "share": share}
                for item, position, share in zip(
                    known.item_ids[spoke].tolist(), spoke.tolist(), row[best].tolist(), strict=True
                )
            ]
    user = None if asked.user is None else predictor.users[asked.user : asked.user + 1].tolist()[0]
    return {"user": user, "items": items}


def items(served: Served, question: dict[str, Any]) -> list[dict[str, Any]]:
    table = served.predictor.search(question["q"], question["n"])[["item_id", "title"]]
    return [
        {"item_id": item, "title": title}
        for item, title in zip(table["item_id"].tolist(), table["title"].tolist(), strict=True)
    ]


# Predict -------------------------------------------------------------------------------------------------------------


def predict(served: Served, questions: Sequence[dict[str, Any]]) -> list[Any]:
    """The inputs of all questions as one batch."""
    inputs = [one for question in questions for one in question["inputs"]]
    rows = _labelled(served.predictor.predict(inputs))
    found, start = [], 0
    for question in questions:
        own = rows[start : start + len(question["inputs"])]
        start += len(own)
        if question["explain"]:
            for entry, words in zip(own, words_of(served, question["inputs"], own), strict=True):
                entry["words"] = words
        found.append(own)
    return found


def _labelled(table: pd.DataFrame) -> list[dict[str, Any]]:
    chances = [name for name in table if name.startswith("p(")]
    labels = [name[2:-1] for name in chances]
    rows = table[chances].to_numpy(np.float64).tolist()
    found = []
    for label, row in zip(table["label"].tolist(), rows, strict=True):
        found.append({"label": label, "probabilities": dict(zip(labels, row, strict=True))})
    for name in ("slots", "ask"):
        if name in table:
            for entry, value in zip(found, table[name].tolist(), strict=True):
                entry[name] = value
    return found


def words_of(served: Served, texts: Sequence[str], told: Sequence[dict[str, Any]]) -> list[Any]:
    """The words that spoke most for or against each text's label; None where nothing can tell."""
    from marquee.data.text.tokenizer import encode
    from marquee.data.text.views import TextBatch
    from marquee.plots.attribution import of_tokens

    predictor = served.predictor
    if served.takes != "text" or not hasattr(predictor, "encoding"):
        return [None for _ in texts]
    view = predictor.model.view
    length, end = getattr(view, "max_length", 400), getattr(view, "truncate", "head")
    batch = predictor.batch(texts)
    if not isinstance(batch, TextBatch):
        if not predictor.model.adds_up:
            return [None for _ in texts]
        tokens, lengths = encode(texts, predictor.encoding, length, end)
        batch = TextBatch(tokens, lengths, *(batch.labels[:1].expand(len(texts)) * 0,) * 2)
    classes = [predictor.labels.index(entry["label"]) if entry["label"] in predictor.labels else 0 for entry in told]
    shares = of_tokens(predictor.model, batch, classes)
    if shares is None:
        return [None for _ in texts]
    vocabulary = predictor.content["vocabulary"]
    found = []
    for tokens, values in zip(batch.tokens.tolist(), shares.values, strict=True):
        total: dict[str, float] = {}
        for token, value in zip(tokens, values.tolist()):
            total[vocabulary[token]] = total.get(vocabulary[token], 0.0) + value
        best = sorted(total.items(), key=lambda pair: -abs(pair[1]))[:WORDS]
        least = LEAST * max((abs(share) for _, share in best), default=0.0)
        found.append([{"word": word, "share": share} for word, share in best if abs(share) > least])
    return found


# The others, one by one ----------------------------------------------------------------------------------------------


def generate(served: Served, question: dict[str, Any]) -> dict[str, Any]:
    predictor = served.predictor
    format = question["format"] or next(iter(predictor.formats))
    if format not in predictor.formats:
        raise Refusal(400, "invalid", f"format={format}\n  allowed: {', '.join(predictor.formats)}")
    made = predictor.generate(question["n"], question["seed"], **question["settings"])
    content = predictor.render(made, format)
    told: dict[str, Any] = {"format": format, "facts": [dict(one.facts) for one in made]}
    try:
        told["content"] = content.decode("utf-8")
    except UnicodeDecodeError:
        told["content_base64"] = base64.b64encode(content).decode("ascii")
    return told


def reply(served: Served, question: dict[str, Any]) -> list[dict[str, Any]]:
    table = served.predictor.respond(question["to"], question["candidates"]).head(question["k"])
    return table.to_dict("records")


def advise(served: Served, question: dict[str, Any]) -> list[dict[str, Any]]:
    table = served.predictor.advise(question["position"])
    return table.astype(object).where(table.notna(), None).to_dict("records")


def chat(served: Served, question: dict[str, Any]) -> dict[str, Any]:
    """The reply to the last message, of a guide that hears all of them: the service remembers nobody."""
    guide = served.guide()
    turns = [guide.answer(message) for message in question["messages"]]
    return turns[-1].to_json()


TOGETHER: dict[str, Callable[[Served, Sequence[dict[str, Any]]], list[Any]]] = {
    "recommend": recommend,
    "predict": predict,
}
ALONE: dict[str, Callable[[Served, dict[str, Any]], Any]] = {
    "items": items,
    "generate": generate,
    "reply": reply,
    "advise": advise,
    "chat": chat,
}
