from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2

from vllmd.api import parse_prompt
from vllmd.errors import InvalidRequest
from vllmd.v1 import engine_service_pb2 as pb
from vllmd.v1 import generation_pb2
from vllmd.v1.generation_pb2 import ChatMessage, ContentPart
from vllmd.worker.protocol import ChatPrompt, TextPrompt, TokenPrompt


def struct(value: dict[str, Any]) -> struct_pb2.Struct:
    """A struct of JSON."""
    return json_format.Parse(json.dumps(value), struct_pb2.Struct())


def chat(*messages: ChatMessage, **more: Any) -> pb.GenerateRequest:
    """A request with a conversation."""
    return pb.GenerateRequest(chat=generation_pb2.ChatPrompt(messages=messages, **more))


def test_prompts() -> None:
    """Each of the three kinds becomes the link's own."""
    conversation = chat(ChatMessage(role="user", content="hi"), template_args=struct({"enable_thinking": False}))
    tokens = pb.GenerateRequest(tokens=generation_pb2.TokenPrompt(token_ids=[1, 2]))

    assert parse_prompt.prompt(pb.GenerateRequest(text="a")) == TextPrompt("a")
    assert parse_prompt.prompt(tokens) == TokenPrompt([1, 2])
    assert parse_prompt.prompt(conversation) == ChatPrompt(
        [{"role": "user", "content": "hi"}], {"enable_thinking": False}
    )


def test_a_prompt_of_its_own_is_read_as_that_of_a_generation() -> None:
    """Batches and embeddings have many, each a message."""
    assert parse_prompt.prompt(generation_pb2.Prompt(text="hi")) == TextPrompt("hi")
    with pytest.raises(InvalidRequest, match="A prompt is required"):
        parse_prompt.prompt(generation_pb2.Prompt())


def test_a_conversation_with_tools_keeps_all_that_it_has() -> None:
    """Parts are joined; calls and tools pass as they are; what is empty is left out."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"anyOf": [{"enum": [1, "x"]}]}}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    request = chat(
        ChatMessage(role="user", parts=[ContentPart(text="a"), ContentPart(text="b")], name="bob"),
        ChatMessage(role="assistant", tool_calls=[struct(call)]),
        ChatMessage(role="tool", content="7", name="f", tool_call_id="c1"),
        ChatMessage(role="assistant", content="So"),
        continue_final_message=True,
        tools=[struct(tool)],
    )

    assert parse_prompt.prompt(request) == ChatPrompt(
        [
            {"role": "user", "content": "ab", "name": "bob"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "7", "name": "f", "tool_call_id": "c1"},
            {"role": "assistant", "content": "So"},
        ],
        {},
        continue_final_message=True,
        tools=[tool],
    )


USER = ChatMessage(role="user", content="hi")


def test_tools_and_calls_are_bounded_together() -> None:
    """Each for itself may be large; of hundreds the values would take seconds to make."""
    tool = struct({"name": "x" * 60_000})
    few = chat(ChatMessage(role="user", content="a", tool_calls=[tool]), tools=[tool] * 3)
    many = chat(ChatMessage(role="user", content="a", tool_calls=[tool]), tools=[tool] * 4)
    parse_prompt.prompt(few)
    with pytest.raises(InvalidRequest, match="at most 262144") as refused:
        parse_prompt.prompt(many)

    assert refused.value.metadata["field"] == "chat.tools"


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.GenerateRequest(), "INVALID_FIELD", "prompt"),
        (pb.GenerateRequest(tokens=generation_pb2.TokenPrompt()), "INVALID_FIELD", "tokens.token_ids"),
        (chat(), "INVALID_FIELD", "chat.messages"),
        (chat(*[USER] * 10_001), "INVALID_FIELD", "chat.messages"),
        (chat(USER, tools=[struct({})] * 1025), "INVALID_FIELD", "chat.tools"),
        (chat(USER, ChatMessage(content="x")), "INVALID_FIELD", "chat.messages[1].role"),
        (chat(ChatMessage(role="r" * 257)), "INVALID_FIELD", "chat.messages[0].role"),
        (chat(ChatMessage(role="tool", tool_call_id="r" * 257)), "INVALID_FIELD", "chat.messages[0].tool_call_id"),
        (
            chat(ChatMessage(role="user", content="a", parts=[ContentPart(text="b")])),
            "INVALID_FIELD",
            "chat.messages[0].parts",
        ),
        (chat(ChatMessage(role="user", parts=[ContentPart()])), "INVALID_FIELD", "chat.messages[0].parts[0]"),
        (
            chat(USER, ChatMessage(role="assistant"), continue_final_message=True),
            "INVALID_FIELD",
            "chat.messages[1].content",
        ),
        (chat(ChatMessage(role="user", reasoning="hm")), "CONTENT_UNSUPPORTED", "chat.messages[0].reasoning"),
        (
            chat(ChatMessage(role="user", parts=[ContentPart(text="a"), ContentPart(image_url="data:,")])),
            "CONTENT_UNSUPPORTED",
            "chat.messages[0].parts[1].image_url",
        ),
        (
            chat(ChatMessage(role="user", parts=[ContentPart(audio_url="a")])),
            "CONTENT_UNSUPPORTED",
            "chat.messages[0].parts[0].audio_url",
        ),
        (
            chat(ChatMessage(role="user", parts=[ContentPart(video_url="a")])),
            "CONTENT_UNSUPPORTED",
            "chat.messages[0].parts[0].video_url",
        ),
        (chat(USER, tools=[struct({"x": "y" * 70_000})]), "INVALID_FIELD", "chat.tools[0]"),
    ],
)
def test_prompts_that_make_no_sense_are_refused_by_field(request_: pb.GenerateRequest, reason: str, field: str) -> None:
    """The field says where, down to the part of a message."""
    with pytest.raises(InvalidRequest) as refused:
        parse_prompt.prompt(request_)

    assert refused.value.reason == reason
    assert refused.value.metadata["field"] == field
