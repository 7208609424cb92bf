"""The language of `select`, such as `mask:cup.png@003.png and not (floaters or opacity < .1)`.

    expression := expression "or" expression | expression "and" expression | "not" expression
                | "grow:LENGTH" expression | "shrink:LENGTH" expression | "(" expression ")"
                | FIELD ("<" | "<=" | ">" | ">=") NUMBER | WORD | WORD ":" ARGUMENT

`or` binds weakest, then `and`; `not`, `grow` and `shrink` bind strongest. An argument ends at a space or a
bracket; one with spaces or brackets in it stands in quotes. docs/edit.md lists words and fields.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.errors import InputError

Mask = Bool[Tensor, " N"]
TOKEN = re.compile(
    r"\s*(?:(?P<bracket>[()])|(?P<compare><=|>=|<|>)"
    r"|(?P<word>(?:[a-zA-Z]+:)?(?:\"[^\"]*\"|'[^']*'|[^\s()<>\"'])+))"
)
DEEPEST = 100  # brackets within brackets


@dataclass(frozen=True)
class Vocabulary:
    """What the words of an expression mean for a scene.

    Args:
        words: name -> function of the argument (empty where there is none) that gives a mask.
        fields: name -> function that gives a number for each splat.
        number: reads what a field is compared with: (field, text) -> number.
        around: name -> function of a mask and an argument, as `grow` and `shrink`.
    """

    words: dict[str, Callable[[str], Mask]]
    fields: dict[str, Callable[[], Float[Tensor, " N"]]]
    number: Callable[[str, str], float]
    around: dict[str, Callable[[Mask, str], Mask]]


def select_by(text: str, vocabulary: Vocabulary) -> Mask:
    """The splats that an expression means.

    Raises:
        InputError: it is none, or a part of it does not fit the scene.
    """
    parser = _Parser(text, vocabulary)
    mask = parser.either()
    if parser.word is not None:
        raise parser.error(f"{parser.word!r} is one word too many (is an `and` missing?)")
    return mask


class _Parser:
    """Reads and evaluates at once, from left to right."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary, self.depth = text, vocabulary, 0
        self.tokens = list(self._tokens())
        self.place = 0

    def _tokens(self):
        start = 0
        text = self.text.rstrip()
        while start < len(text):
            match = TOKEN.match(text, start)
            if match is None:
                raise self.error(f"a quote is not closed after {text[start:].strip()[:30]!r}")
            yield match[match.lastgroup or 0]
            start = match.end()

    @property
    def word(self) -> str | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self) -> str:
        word = self.word
        if word is None:
            raise self.error("something is missing at its end")
        self.place += 1
        return word

    def error(self, problem: str) -> InputError:
        return InputError(
            f"`select` {self.text!r:.80} cannot be read: {problem}. An example: "
            "'mask:cup.png@003.png and not floaters'."
        )

    def either(self) -> Mask:
        mask = self.both()
        while self.word == "or":
            self.take()
            mask = mask | self.both()
        return mask

    def both(self) -> Mask:
        mask = self.single()
        while self.word == "and":
            self.take()
            mask = mask & self.single()
        return mask

    def single(self) -> Mask:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error("it is nested too deeply")
        word = self.take()
        name, colon, argument = word.partition(":")
        if word == "(":
            mask = self.either()
            if self.take() != ")":
                raise self.error("a bracket is not closed")
        elif word == "not":
            mask = ~self.single()
        elif name in self.vocabulary.around and colon:
            mask = self.vocabulary.around[name](self.single(), _unquoted(argument))
        elif word in self.vocabulary.fields:
            mask = self.compared(word)
        elif name in self.vocabulary.words:
            mask = self.vocabulary.words[name](_unquoted(argument))
        else:
            known = ", ".join([*self.vocabulary.words, *self.vocabulary.around, *self.vocabulary.fields])
            raise self.error(f"{name!r} is no word for splats; those are {known}")
        self.depth -= 1
        return mask

    def compared(self, field: str) -> Mask:
        sign = self.take()
        if sign not in ("<", "<=", ">", ">="):
            raise self.error(f"{field} must be followed by <, <=, > or >=")
        number = self.vocabulary.number(field, self.take())
        values = self.vocabulary.fields[field]()
        compare = {"<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge}[sign]
        return compare(values, number).cpu()


def _unquoted(text: str) -> str:
    return re.sub(r"\"([^\"]*)\"|'([^']*)'", lambda match: match[1] or match[2] or "", text)
