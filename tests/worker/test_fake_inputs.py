from __future__ import annotations

import array
import math
from typing import Any

import pytest

from vllmd.worker import fake_inputs
from vllmd.worker.backend import Impossible, InvalidRequest
from vllmd.worker.protocol import ChatPrompt, Detokenize, Embed, Prompt, TextPrompt, Tokenize, TokenPrompt

HI = TextPrompt("hello the fox")


def vector(prompt: Prompt = HI, matryoshka: bool = False, **more: Any) -> list[float]:
    """The numbers of one input."""
    return array.array("f", fake_inputs.embed(Embed(1, prompt, **more), matryoshka).values).tolist()


def test_a_vector_depends_on_the_words_alone() -> None:
    """Equal inputs have equal vectors, others have others; all have length 1."""
    assert vector() == vector(TextPrompt("  hello  the fox"))
    assert vector() != vector(TextPrompt("hello the ox"))
    assert math.hypot(*vector()) == pytest.approx(1, abs=1e-6)


def test_a_vector_may_keep_its_own_length() -> None:
    """Its direction is the same."""
    scaled, own = vector(), vector(normalize=False)

    assert math.hypot(*own) > 1.1
    assert [value / math.hypot(*own) for value in own] == pytest.approx(scaled, abs=1e-6)


def test_a_vector_is_shortened_where_the_model_allows_it() -> None:
    """To its first numbers, scaled anew; elsewhere that is refused for all inputs."""
    short = vector(matryoshka=True, dimensions=4)
    whole = vector(normalize=False)

    assert math.hypot(*short) == pytest.approx(1, abs=1e-6)
    assert short == pytest.approx([value / math.hypot(*whole[:4]) for value in whole[:4]], abs=1e-6)
    with pytest.raises(Impossible) as refused:
        vector(dimensions=4)
    assert refused.value.reason == "DIMENSIONS_UNSUPPORTED"


def test_an_input_is_cut_to_its_first_tokens() -> None:
    """What is left makes the vector, and is counted."""
    cut = fake_inputs.embed(Embed(1, HI, truncate_prompt_tokens=2), False)

    assert cut.prompt_tokens == 2
    assert cut.values == fake_inputs.embed(Embed(1, TextPrompt("hello the")), False).values


@pytest.mark.parametrize("prompt", [TextPrompt(" "), TokenPrompt([1000]), TokenPrompt([-1])])
def test_an_input_that_vllm_would_refuse_is_refused(prompt: Prompt) -> None:
    """Nothing, and what is outside the vocabulary."""
    with pytest.raises(InvalidRequest):
        vector(prompt)


def test_words_become_tokens_and_tokens_words() -> None:
    """The words that the engine itself makes have the tokens that it says they have."""
    made = fake_inputs.tokenize(Tokenize(1, TextPrompt("w7 w999 w0 hello"), texts=True))

    assert made.token_ids[:3] == [7, 999, 0]
    assert made.texts == ["w7", "w999", "w0", "hello"]
    assert fake_inputs.detokenize(Detokenize(2, [7, 999, 0])).text == "w7 w999 w0"
    assert fake_inputs.tokenize(Tokenize(1, TokenPrompt([5]))).token_ids == [5]
    assert fake_inputs.tokenize(Tokenize(1, TextPrompt("a b"))).texts == []


def test_conversations_are_their_words() -> None:
    """As for a generation."""
    chat = ChatPrompt([{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}], {})

    assert fake_inputs.words(chat) == ["a", "b", "c"]


def test_no_text_is_made_of_tokens_that_there_are_not() -> None:
    """The reason says so."""
    with pytest.raises(InvalidRequest) as refused:
        fake_inputs.detokenize(Detokenize(1, [3, 1000]))

    assert refused.value.reason == "TOKEN_OUT_OF_VOCABULARY"
