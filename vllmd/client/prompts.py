"""From text, token ids and messages to the prompts of the protos. Pure."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex, TypedDict, cast

from vllmd.client.values import made, struct
from vllmd.v1 import generation_pb2

Message = Mapping[str, Any] | generation_pb2.ChatMessage
"""A message in OpenAI's form: `role` and `content`, which is text or a list of parts; `name`, `tool_calls`,
`tool_call_id` and `reasoning` where they apply."""

Prompt = str | Sequence[int] | Sequence[Message] | generation_pb2.Prompt
"""Text, token ids, or a conversation; `chat_prompt` makes one with variables for its template."""

_FIELDS = frozenset(field.name for field in generation_pb2.ChatMessage.DESCRIPTOR.fields) - {"parts"}


class ChatOptions(TypedDict, total=False):
    """What is said of a conversation beside its messages; a `TypeError` with any other prompt."""

    template_args: Mapping[str, Any]
    """Variables for the chat template, such as `{"enable_thinking": False}`."""
    continue_final_message: bool
    """Go on with the last message instead of beginning an answer."""
    tools: Sequence[Mapping[str, Any]]
    """Tools that the model may call, each in OpenAI's form; calls come as text, in the model's own format."""


def chat_prompt(
    messages: Sequence[Message],
    *,
    template_args: Mapping[str, Any] | None = None,
    continue_final_message: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
) -> generation_pb2.Prompt:
    """Make a prompt of a conversation, for calls that take many prompts; see `ChatOptions` for the arguments."""
    chat = made(
        generation_pb2.ChatPrompt,
        messages=[_chat_message(message) for message in messages],
        template_args=struct(template_args, "template_args") if template_args else None,
        continue_final_message=continue_final_message,
        tools=[struct(tool, "a tool") for tool in tools],
    )
    return generation_pb2.Prompt(chat=chat)


def conversation(messages: str | Sequence[Message]) -> Sequence[Message]:
    """Take a text alone for what a user says."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def to_prompt(prompt: Prompt, chat: ChatOptions | None = None) -> generation_pb2.Prompt:
    """Make a message of a prompt.

    Raises:
        TypeError: it is of several kinds, or of none, or *chat* is said of what is no conversation.
    """
    said = {name: value for name, value in (chat or {}).items() if value}
    # Bytes would do for token ids, and one message has a length; numpy's arrays are no `Sequence`.
    if isinstance(prompt, (bytes, bytearray, Mapping)) or not (
        isinstance(prompt, generation_pb2.Prompt) or hasattr(prompt, "__len__")
    ):
        raise TypeError(f"a prompt is text, token ids or messages, not {type(prompt).__name__}")
    if not isinstance(prompt, (str, generation_pb2.Prompt)) and len(prompt) and _is_message(prompt[0]):
        return chat_prompt(cast("Sequence[Message]", prompt), **cast("ChatOptions", said))
    if said:
        raise TypeError(f"{', '.join(said)} is for a conversation, given as messages, and this prompt is none")
    if isinstance(prompt, generation_pb2.Prompt):
        return prompt
    if isinstance(prompt, str):
        return made(generation_pb2.Prompt, text=prompt)
    return generation_pb2.Prompt(tokens=generation_pb2.TokenPrompt(token_ids=[_token_id(token) for token in prompt]))


def _is_message(value: object) -> bool:
    return isinstance(value, (Mapping, generation_pb2.ChatMessage))


def _token_id(token: object) -> int:
    # Not only `int`: numpy's integers are token ids as well.
    if not isinstance(token, SupportsIndex):
        raise TypeError("a prompt is text, token ids or messages, not a mixture")
    return token.__index__()


def _chat_message(message: object) -> generation_pb2.ChatMessage:
    if isinstance(message, generation_pb2.ChatMessage):
        return message
    if not isinstance(message, Mapping):
        raise TypeError("a prompt is text, token ids or messages, not a mixture")
    if unknown := message.keys() - _FIELDS:
        raise TypeError(f"a message has no {', '.join(sorted(map(str, unknown)))}: it can have {_listed()}")
    fields: dict[str, Any] = {name: value for name, value in message.items() if value is not None}
    content = fields.pop("content", "")
    calls = [struct(call, "a tool call") for call in fields.pop("tool_calls", ())]
    if isinstance(content, str):
        return made(generation_pb2.ChatMessage, content=content, tool_calls=calls, **fields)
    if not isinstance(content, Sequence):
        raise TypeError(f"content of a message is text or a list of parts, not {reprlib.repr(content)}")
    return made(generation_pb2.ChatMessage, parts=[_part(part) for part in content], tool_calls=calls, **fields)


def _part(part: object) -> generation_pb2.ContentPart:
    """Take `{"type": "text", "text": …}` or `{"type": "image_url", "image_url": {"url": …}}`."""
    part = part if isinstance(part, Mapping) else {}
    kind = part.get("type", "text")
    value = part.get(kind)
    if isinstance(value, Mapping):
        value = value.get("url")
    if kind not in generation_pb2.ContentPart.DESCRIPTOR.fields_by_name or not isinstance(value, str):
        kinds = ", ".join(generation_pb2.ContentPart.DESCRIPTOR.fields_by_name)
        raise TypeError(f"a part of a message has a `type` ({kinds}) and a value under that name")
    return generation_pb2.ContentPart(**{kind: value})


def _listed() -> str:
    return ", ".join(field.name for field in generation_pb2.ChatMessage.DESCRIPTOR.fields if field.name in _FIELDS)
