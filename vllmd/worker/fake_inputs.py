"""What the fake engine makes of inputs: its tokens are words, and its vectors come out of their hashes."""

from __future__ import annotations

import array
import hashlib
import math
import re
import sys
import zlib
from collections.abc import Sequence

from .backend import Impossible, InvalidRequest
from .fake_text import VOCABULARY
from .protocol import ChatPrompt, Detokenize, Detokenized, Embed, Embedded, Prompt, TextPrompt, Tokenize, Tokenized
from .vllm_arguments import refuse_foreign_tokens

DIMENSIONS = 16

_WORD = re.compile(r"w(\d{1,3})")


def words(prompt: Prompt) -> list[str]:
    """Split a prompt into the words that are its tokens.

    Raises:
        InvalidRequest: a token id is outside the vocabulary.
    """
    match prompt:
        case TextPrompt(text=text):
            return text.split()
        case ChatPrompt(messages=messages):
            return [word for message in messages for word in message["content"].split()]
        case _:
            refuse_foreign_tokens("prompt", prompt.token_ids, VOCABULARY)
            return [f"w{token}" for token in prompt.token_ids]


def token_of(word: str) -> int:
    """Tell a word's token: the number of those that the engine itself makes (`w7`), a hash of any other."""
    own = _WORD.fullmatch(word)
    return int(own[1]) if own else zlib.crc32(word.encode()) % VOCABULARY


def tokenize(question: Tokenize) -> Tokenized:
    """Make tokens of words; there are no special ones to be added."""
    found = words(question.prompt)
    return Tokenized(question.stream, [token_of(word) for word in found], found if question.texts else [])


def detokenize(question: Detokenize) -> Detokenized:
    """Make words of tokens, of which none is special.

    Raises:
        InvalidRequest: a token id is outside the vocabulary.
    """
    refuse_foreign_tokens("token_ids", question.token_ids, VOCABULARY)
    return Detokenized(question.stream, " ".join(f"w{token}" for token in question.token_ids))


def embed(question: Embed, matryoshka: bool) -> Embedded:
    """Make the vector of an input: the same for the same words, of length 1 unless that is not wanted.

    Args:
        question: asks for it.
        matryoshka: whether it may be shortened.

    Raises:
        InvalidRequest: it can't be made.
    """
    dimensions = DIMENSIONS if question.dimensions is None else question.dimensions
    if dimensions != DIMENSIONS and not (matryoshka and 1 <= dimensions <= DIMENSIONS):
        numbers = {"dimensions": dimensions, "largest": DIMENSIONS}
        raise Impossible(f"dimensions: {DIMENSIONS} for this model", "DIMENSIONS_UNSUPPORTED", **numbers)
    found = words(question.prompt)[: question.truncate_prompt_tokens]
    if not found:
        raise InvalidRequest("the input has no tokens")
    values = vector_of(found)[:dimensions]
    if question.normalize is not False:
        length = math.hypot(*values) or 1.0
        values = [value / length for value in values]
    return Embedded(question.stream, as_bytes(values), len(found))


def vector_of(found: Sequence[str]) -> list[float]:
    """Hash words into numbers from -1 to 1."""
    digest = hashlib.shake_128(" ".join(found).encode()).digest(2 * DIMENSIONS)
    return [int.from_bytes(digest[2 * index : 2 * index + 2], "big") / 32768 - 1 for index in range(DIMENSIONS)]


def as_bytes(values: Sequence[float]) -> bytes:
    """Write numbers as the link has them: 32-bit floats, little-endian."""
    floats = array.array("f", values)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()
