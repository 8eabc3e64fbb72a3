from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from vllmd.client.prompts import chat_prompt, conversation, to_prompt
from vllmd.v1.generation_pb2 import ChatMessage

HI = {"role": "user", "content": "hi"}


def as_dict(prompt: Any, **chat: Any) -> dict[str, Any]:
    """What a prompt is sent as."""
    result: dict[str, Any] = MessageToDict(to_prompt(prompt, chat or None), preserving_proto_field_name=True)  # type: ignore[arg-type]
    return result


class Integer:
    """An integer that is no `int`, as numpy's are."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", {"text": "hi"}),
        ("", {"text": ""}),
        ([1, Integer()], {"tokens": {"token_ids": [1, 7]}}),
        ((), {"tokens": {}}),
        ([HI], {"chat": {"messages": [HI]}}),
        ([ChatMessage(role="user", content="hi")], {"chat": {"messages": [HI]}}),
        (chat_prompt([HI]), {"chat": {"messages": [HI]}}),
    ],
)
def test_prompt_of_each_kind(prompt: Any, expected: Any) -> None:
    """Text, token ids and messages each go where the proto has them."""
    assert as_dict(prompt) == expected


@pytest.mark.parametrize("prompt", [[1, HI], [HI, 1], ["a"], 5, None, [None], b"a", HI])
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    """A prompt is of one kind."""
    with pytest.raises(TypeError, match="a prompt is text, token ids or messages, not"):
        to_prompt(prompt)


def test_message_in_openais_form() -> None:
    """Parts, names and tool calls are taken as programs have them already; what is null is left out."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "what is"}, {"type": "image_url", "image_url": "data:"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]

    assert as_dict(messages)["chat"]["messages"] == [
        {"role": "user", "parts": [{"text": "what is"}, {"image_url": "data:"}]},
        {"role": "user", "parts": [{"image_url": "data:"}], "name": "ann"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]


@pytest.mark.parametrize("part", [{"type": "smell", "smell": "rose"}, {"type": "text"}, {"type": "text", "text": 5}])
def test_part_of_no_known_kind_is_refused(part: Any) -> None:
    """With the kinds there are."""
    with pytest.raises(TypeError, match=r"`type` \(text, image_url, audio_url, video_url\)"):
        to_prompt([{"role": "user", "content": [part]}])


def test_misspelled_field_of_a_message_is_refused() -> None:
    """It is not dropped."""
    with pytest.raises(TypeError, match="a message has no contents: it can have role, content"):
        to_prompt([{"role": "user", "contents": "hi"}])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": 5, "content": "hi"}, "role takes text, not 5"),
        ({"role": "user", "content": 5}, "content of a message is text or a list of parts, not 5"),
        ({"role": "user", "content": ["hi"]}, "a part of a message has a `type`"),
        ({"role": "assistant", "tool_calls": [{"function": object()}]}, "a tool call: 'function' can't be"),
        ({"role": "assistant", "tool_calls": ["f"]}, "a tool call takes values by name, not 'f'"),
    ],
)
def test_part_of_a_message_that_is_of_another_type_is_named(message: Any, said: str) -> None:
    """By its field."""
    with pytest.raises(TypeError, match=f"^{said}"):
        to_prompt([message])


def test_what_is_said_of_a_conversation() -> None:
    """Variables for the template, tools, and whether to go on with its last message."""
    tool = {"type": "function", "function": {"name": "f"}}

    assert as_dict([HI], template_args={"a": True}, continue_final_message=True, tools=[tool])["chat"] == {
        "messages": [HI],
        "template_args": {"a": True},
        "continue_final_message": True,
        "tools": [tool],
    }


@pytest.mark.parametrize("prompt", ["hi", [1], chat_prompt([HI])])
def test_only_a_conversation_has_it(prompt: Any) -> None:
    """Variables for a chat template make no sense with plain text."""
    with pytest.raises(TypeError, match="template_args is for a conversation"):
        to_prompt(prompt, {"template_args": {"enable_thinking": False}})


def test_text_alone_is_what_a_user_says() -> None:
    """Messages stay as they are."""
    assert conversation("hi") == [HI]
    assert conversation([HI, HI]) == [HI, HI]
