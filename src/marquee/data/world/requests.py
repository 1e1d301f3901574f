"""What customers say to a guide: sentences of a small grammar, their intents, and where the particulars stand."""

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from marquee.data.dataset import Paths
from marquee.data.text.dataset import Corpus, TextSource
from marquee.data.text.slots import SlotData
from marquee.data.world import catalogue
from marquee.seeding import numpy_generator

VERSION = 1  # raised when the same seed gives other sentences

# Words in braces are slots. What is wanted, and ways to say it; `oos` is what a guide to films or sights cannot do.
ENGLISH = {
    "recommend": (
        "recommend me something", "what should i watch tonight", "what do you recommend", "any suggestions",
        "i would like to watch a {kind}", "recommend a {kind} please", "show me a good {kind}",
        "i want to see a {kind}",
        "do you have a {kind} from the {decade}", "something from the {decade}", "a {kind} from the {decade} please",
        "i am in the mood for a {kind}", "find me a {kind} or a {kind}", "what is worth seeing", "pick one for me",
        "what {kind} would you suggest", "how about a {kind}", "{kind}", "another {kind} please", "surprise me",
    ),
    "like": (
        "i loved {title}", "i like {title}", "my favourite is {title}", "{title} is great", "i enjoyed {title} a lot",
        "i have always liked {title} and {title}", "yesterday i saw {title} and it was wonderful", "{title} was good",
        "i am a fan of {title}", "something like {title}", "more like {title} please", "anything similar to {title}",
    ),
    "reject": (
        "not that one", "no", "i have seen it", "already seen that", "another one please", "something else",
        "no thanks , what else", "i do not like that one", "next", "not {title}", "anything else", "try again",
    ),
    "lighter": (
        "something lighter", "that is too heavy", "less serious please", "something easier", "more fun please",
        "i would rather laugh", "too dark for me", "something more cheerful", "lighter please", "less gloomy",
    ),
    "heavier": (
        "something more serious", "that is too light", "something deeper", "more demanding please", "a bit darker",
        "something heavier", "less silly please", "i want something with more weight",
    ),
    "explain": (
        "why", "why this one", "why do you recommend that", "how did you choose it", "what makes you think so",
        "explain that please", "why should i watch it", "for what reason",
    ),
    "details": (
        "tell me more", "what is it about", "when was it made", "what kind is it", "more about it please",
        "what do you know about {title}", "tell me about {title}", "how old is it", "give me the details",
    ),
    "greet": ("hello", "hi", "good evening", "hi there", "hey", "good morning", "hello , can you help me"),
    "thanks": (
        "thanks", "thank you , that is all", "great , i will take it", "perfect", "bye", "good choice , goodbye",
        "i will watch that", "sounds good",
    ),
    "abuse": (
        "you are stupid", "this is useless", "you idiot", "what a dumb machine", "shut up", "i hate you",
        "you are the worst", "stupid bot", "go to hell", "you suck",
    ),
    "oos": (
        "what is the weather like tomorrow", "book a flight to {place}", "set an alarm for seven",
        "how tall is the tower",
        "transfer ten dollars to my brother", "what is the capital of {place}", "turn off the lights", "call my mother",
        "how do i cook rice", "what is twelve times nine", "translate this into {place}", "is my package late",
        "order a pizza", "who won the match", "what time is it", "open the door", "remind me to buy milk",
        "how much is a ticket to {place}", "play some music", "write an essay for me", "what are your opening hours",
        "how do i reset my password", "where is my phone", "convert five miles to kilometres", "tell me a secret",
    ),
}  # fmt: skip
CHINESE = {
    "recommend": (
        "推荐一个地方", "去哪里玩好", "有什么好玩的", "我想去{kind}",
        "有没有{kind}", "推荐一个{kind}", "附近有{kind}吗", "想看看{kind}",
        "给我推荐一下", "周末去哪儿", "有什么推荐", "{kind}",
    ),
    "like": ("我喜欢{title}", "{title}很好", "我去过{title}，很喜欢", "像{title}那样的",
             "和{title}差不多的", "{title}不错"),
    "reject": ("不要这个", "换一个", "去过了", "还有别的吗", "不喜欢", "不是这个", "再来一个", "不想去{title}"),
    "lighter": ("轻松一点的", "便宜一点的", "时间短一点的", "太累了", "太贵了", "不要那么久", "简单一点"),
    "heavier": ("玩久一点的", "内容多一点的", "可以玩一整天的", "丰富一点的", "不怕贵"),
    "explain": ("为什么", "为什么推荐这个", "理由是什么", "怎么选的", "为啥"),
    "details": ("介绍一下", "门票多少钱", "在哪里", "地址是什么", "怎么去", "评分多少", "说说{title}", "{title}在哪里"),
    "greet": ("你好", "您好", "早上好", "嗨", "在吗"),
    "thanks": ("谢谢", "好的，就去这里", "再见", "不错，谢谢", "就这个吧"),
    "abuse": ("你真笨", "没用的东西", "滚", "垃圾", "傻瓜"),
    "oos": (
        "明天天气怎么样", "帮我订机票", "现在几点", "帮我转账", "一加一等于几", "放一首歌",
        "打电话给妈妈", "怎么做米饭",
        "谁赢了比赛", "翻译成英文", "帮我写作文", "密码忘了怎么办",
    ),
}  # fmt: skip
PLACES = ("france", "japan", "spanish", "rome", "german", "boston", "peru", "berlin")
SIGHTS = (
    "故宫",
    "天坛",
    "颐和园",
    "长城",
    "北海公园",
    "香山",
    "鸟巢",
    "雍和宫",
    "圆明园",
    "什刹海",
    "景山公园",
    "恭王府",
    "动物园",
    "水立方",
)
SIGHT_KINDS = ("公园", "博物馆", "寺庙", "古迹", "胡同", "广场", "商场", "湖", "山", "动物园")
OPENINGS = ("", "", "", "please , ", "well , ", "ok , ", "hmm , ", "so , ")
POLITE = ("", "", "请问，", "那个，", "嗯，")


class WorldRequests(SlotData):
    """Requests to a guide, ten intents and `oos`, with the slots kind, decade and title.

    Texts of the three parts come from the same grammar, so a test measures the reading of films and sights that
    training did not name in that way, not that of other people's words.

    seed      of the sentences
    language  en, of films; zh, of sights, cut into characters
    texts     how many
    """

    licence = "made by Marquee, Apache-2.0"

    def __init__(
        self,
        *,
        seed: Annotated[int, Ge(0)] = 1,
        language: Literal["en", "zh"] = "en",
        texts: Annotated[int, Ge(200)] = 6000,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 1,
    ):
        tokenizer = "space" if language == "en" else "char"
        super().__init__(vocabulary_size=vocabulary_size, min_count=min_count, tokenizer=tokenizer)
        self.seed, self.language, self.texts = seed, language, texts

    def source(self, paths: Paths) -> TextSource:
        key = {
            "seed": self.seed,
            "language": self.language,
            "texts": self.texts,
            "version": [VERSION, catalogue.VERSION],
        }
        return TextSource("world_requests", key, lambda: write(self.seed, self.language, self.texts))


def write(seed: int, language: str, n: int) -> Corpus:
    """`n` requests, the same for the same seed."""
    rng = numpy_generator(seed, f"world/requests/{language}")
    grammar = ENGLISH if language == "en" else CHINESE
    titles = [title.rpartition(" (")[0] for title in catalogue.before_watching(seed).titles]
    titles += _made_up(titles, rng)
    fill = {
        "en": {"kind": catalogue.GENRES, "decade": [f"{year}s" for year in range(1950, 2020, 10)], "title": titles},
        "zh": {"kind": SIGHT_KINDS, "title": SIGHTS},
    }[language]
    intents = list(grammar)
    texts, labels, tags = [], [], []
    for number in rng.integers(len(intents), size=n):
        ways = grammar[intents[number]]
        way = ways[rng.integers(len(ways))]
        opening = (OPENINGS if language == "en" else POLITE)[rng.integers(8 if language == "en" else 5)]
        words, own = _fill(opening + way, fill, rng, " " if language == "en" else "")
        texts.append((" " if language == "en" else "").join(words))
        labels.append(intents[number])
        tags.append(" ".join(own))
    return Corpus(texts, labels, tags=tags)


def _made_up(titles: list[str], rng: np.random.Generator) -> list[str]:
    """As many other titles of the same words: a reader is to go by what stands around a title."""
    words = sorted({word for title in titles for word in title.split() if word.isalpha() and word != "The"})
    made = []
    for shape in rng.integers(5, size=len(titles)):
        first, second, third = (words[number] for number in rng.integers(len(words), size=3))
        made.append((first, f"{first} {second}", f"{first} of the {second}", f"{first} and {second}",
                     f"the {first} {second} of {third}")[shape])  # fmt: skip
    return made


def _fill(way: str, fill: dict, rng: np.random.Generator, between: str) -> tuple[list[str], list[str]]:
    """The words (or characters) of a sentence, and their tags."""
    words: list[str] = []
    tags: list[str] = []
    for part in way.replace("{", "\0{").replace("}", "}\0").split("\0"):
        slot = part.strip("{}")
        if part.startswith("{") and slot in fill:
            values = fill[slot]
            said = str(values[rng.integers(len(values))]).lower()
            said = said.split() if between else list(said)
            words += said
            tags += [f"B-{slot}", *[f"I-{slot}"] * (len(said) - 1)]
        elif part.startswith("{"):
            words.append(PLACES[rng.integers(len(PLACES))])
            tags.append("O")
        else:
            plain = part.split() if between else list(part)
            words += plain
            tags += ["O"] * len(plain)
    return words, tags
