"""From a client's prompt to the link's; what makes no sense is refused here, what a model can't take by its engine."""

from __future__ import annotations

from typing import Any

from vllmd.api.parse import struct_values
from vllmd.errors import InvalidRequest
from vllmd.v1 import generation_pb2
from vllmd.v1.engine_service_pb2 import GenerateRequest
from vllmd.worker.protocol import ChatPrompt, Prompt, TextPrompt, TokenPrompt

MOST_MESSAGES = 10_000
MOST_TOOLS = 1024
_MOST_CHARACTERS = 256
"""Of a role, a name or the id of a call."""
_MOST_STRUCT_BYTES = 256 << 10
"""Of tools and calls of tools together: to make values of 16 MiB of structs takes seconds."""
_TOOL_DEPTH = 24
"""JSON schemas of tools are deeper than other arguments; protobuf itself ends at some 30 levels."""


def prompt(source: GenerateRequest | generation_pb2.Prompt) -> Prompt:
    """Read a prompt.

    Raises:
        InvalidRequest: there is none, or it makes no sense.
    """
    match source.WhichOneof("prompt") if isinstance(source, GenerateRequest) else source.WhichOneof("content"):
        case "text" if source.text:
            return TextPrompt(source.text)
        case "tokens" if source.tokens.token_ids:
            return TokenPrompt(list(source.tokens.token_ids))
        case "chat" if source.chat.messages:
            return _chat(source.chat)
        case None:
            raise _invalid("prompt", "A prompt is required: text, tokens or chat.")
        case "text":
            raise _invalid("text", "The prompt is empty: text holds nothing.")
        case "tokens":
            raise _invalid("tokens.token_ids", "The prompt is empty: tokens holds none.")
        case _:
            raise _invalid("chat.messages", "The prompt is empty: chat holds no messages.")


def _chat(chat: generation_pb2.ChatPrompt) -> ChatPrompt:
    for field, count, most in (("messages", len(chat.messages), MOST_MESSAGES), ("tools", len(chat.tools), MOST_TOOLS)):
        if count > most:
            raise _invalid(f"chat.{field}", f"A conversation has at most {most} {field}; {count} were given.")
    structs = [*chat.tools, *(call for message in chat.messages for call in message.tool_calls)]
    if (size := sum(struct.ByteSize() for struct in structs)) > _MOST_STRUCT_BYTES:
        message = f"Tools and their calls take {size} bytes; at most {_MOST_STRUCT_BYTES} are possible."
        error = InvalidRequest("INVALID_FIELD", message, field="chat.tools", bytes=size, limit=_MOST_STRUCT_BYTES)
        raise error.naming(("chat.tools", message))
    messages = [_message(message, f"chat.messages[{index}]") for index, message in enumerate(chat.messages)]
    if chat.continue_final_message and not messages[-1]["content"]:
        field = f"chat.messages[{len(messages) - 1}].content"
        raise _invalid(field, "continue_final_message goes on with the last message, and that is empty.")
    return ChatPrompt(
        messages,
        struct_values(chat.template_args, "template_args"),
        chat.continue_final_message,
        [struct_values(tool, f"chat.tools[{index}]", _TOOL_DEPTH) for index, tool in enumerate(chat.tools)],
    )


def _message(message: generation_pb2.ChatMessage, field: str) -> dict[str, Any]:
    """Read a message as vLLM takes it: OpenAI's form, without what is empty."""
    if not message.role:
        raise _invalid(f"{field}.role", "Each message has a role, such as user.")
    for name in ("role", "name", "tool_call_id"):
        if len(getattr(message, name)) > _MOST_CHARACTERS:
            raise _invalid(f"{field}.{name}", f"{name} has at most {_MOST_CHARACTERS} characters.")
    if message.reasoning:
        raise InvalidRequest(
            "CONTENT_UNSUPPORTED",
            "reasoning is not supported: put it into content, in the model's own format.",
            field=f"{field}.reasoning",
        )
    if message.content and message.parts:
        raise _invalid(f"{field}.parts", "Give a message's content or its parts, not both.")
    found: dict[str, Any] = {"role": message.role, "content": message.content or _joined(message, field)}
    found |= {name: value for name in ("name", "tool_call_id") if (value := getattr(message, name))}
    if message.tool_calls:
        found["tool_calls"] = [
            struct_values(call, f"{field}.tool_calls[{index}]", _TOOL_DEPTH)
            for index, call in enumerate(message.tool_calls)
        ]
    return found


def _joined(message: generation_pb2.ChatMessage, field: str) -> str:
    for index, part in enumerate(message.parts):
        kind = part.WhichOneof("content")
        if kind is None:
            raise _invalid(f"{field}.parts[{index}]", "A part of a message is empty: give it a text.")
        if kind != "text":
            raise InvalidRequest(
                "CONTENT_UNSUPPORTED",
                f"{kind} is not supported: a message consists of text.",
                field=f"{field}.parts[{index}].{kind}",
            )
    return "".join(part.text for part in message.parts)


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest("INVALID_FIELD", message, field=field).naming((field, message))
