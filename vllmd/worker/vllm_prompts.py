"""Prompts as the token ids that vLLM takes, rendered by vLLM's own renderer, cut and counted here."""

from __future__ import annotations

import dataclasses
from typing import Any

from .backend import InvalidRequest
from .causes import text_of
from .protocol import ChatPrompt, Generate, Prompt, TextPrompt
from .vllm_arguments import CLIENT_ERRORS, client_text, is_a, refuse_foreign_tokens

_TEMPLATE_OURS = {
    *("chat_template", "tokenize", "conversation", "return_dict", "return_tensors", "return_assistant_tokens_mask"),
    *("padding", "truncation", "max_length", "tokenizer_kwargs", "continue_final_message"),
}
"""Arguments of `apply_chat_template` that are not variables of the template."""

_NO_TEMPLATE = (
    "the model has no chat template: send text in the model's own format or token ids, "
    "or load the instruction-tuned variant of the model"
)

_COUNTED_CONTEXTS = 8
"""A prompt of more contexts than that is too long, by however much: nobody needs to know, and counting takes a core."""


async def render(renderer: Any, request: Generate, max_model_len: int, vocab_size: int) -> Any:
    """Turn the prompt of *request* into what vLLM's `generate` takes; texts are tokenized in a thread of vLLM's.

    Raises:
        InvalidRequest: it is empty, too long, outside of the vocabulary, or the chat template refuses it.
    """
    keep = request.truncate_prompt_tokens
    rendered = await _render(renderer, request.prompt, max_model_len, keep)
    token_ids = rendered.get("prompt_token_ids") or ()
    refuse_foreign_tokens("prompt", token_ids, vocab_size)
    if keep is not None and len(token_ids) > keep:
        # A copy: what the renderer made may be kept by it.
        token_ids = token_ids[-keep:]
        rendered = {**rendered, "prompt_token_ids": token_ids}
    if not token_ids:
        raise InvalidRequest("the prompt is empty: it has no token", "INVALID_FIELD", field="prompt")
    if len(token_ids) >= max_model_len:
        raise too_long(len(token_ids), max_model_len)
    if request.cache_salt:
        rendered = {**rendered, "cache_salt": request.cache_salt}
    return rendered


async def plain(renderer: Any, prompt: Prompt, max_model_len: int, vocab_size: int) -> Any:
    """Turn a prompt into tokens, however many these are.

    Raises:
        InvalidRequest: it is outside of the vocabulary, or the chat template refuses it.
    """
    rendered = await _render(renderer, prompt, max_model_len, None)
    refuse_foreign_tokens("prompt", rendered.get("prompt_token_ids") or (), vocab_size)
    return rendered


def too_long(prompt_tokens: int, max_model_len: int, at_least: bool = False) -> InvalidRequest:
    """Say that there is no room for a prompt and a token after it; what is not counted is *at_least* so long."""
    text = (
        f"the prompt has {'at least ' if at_least else ''}{prompt_tokens} tokens, and the engine's max_model_len is "
        f"{max_model_len}, of which one is left for the completion: shorten it, or set truncate_prompt_tokens"
    )
    return InvalidRequest(text, "PROMPT_TOO_LONG", prompt_tokens=prompt_tokens, max_model_len=max_model_len)


async def _render(renderer: Any, prompt: Prompt, max_model_len: int, keep: int | None) -> Any:
    if isinstance(prompt, ChatPrompt):
        return await _render_chat(renderer, prompt, max_model_len, keep)
    if not isinstance(prompt, TextPrompt):
        from vllm.inputs import tokens_input

        return tokens_input(prompt.token_ids)
    text, most = prompt.text, _characters(renderer, max_model_len)
    if most is not None and len(text) > most:
        if keep is None:
            raise too_long(-(-len(text) * max_model_len // most), max_model_len, at_least=True)
        text = text[-most:]  # more than that do not fit, however they are divided
    limits = dataclasses.replace(renderer.default_cmpl_tok_params, max_total_tokens=None)
    (rendered,) = await renderer.render_cmpl_async([{"prompt": text}], limits)
    return rendered


def _characters(renderer: Any, max_model_len: int) -> int | None:
    """Say how many characters at most make `max_model_len` tokens; `None` if the tokenizer does not know."""
    longest = getattr(renderer.get_tokenizer(), "max_chars_per_token", None)
    return max_model_len * longest if longest else None


async def _render_chat(renderer: Any, prompt: ChatPrompt, max_model_len: int, keep: int | None) -> Any:
    from vllm.renderers import ChatParams

    if reserved := sorted(_TEMPLATE_OURS & prompt.template_args.keys()):
        message = f"template_args: not a variable of a chat template: {', '.join(reserved)}"
        raise InvalidRequest(message, "INVALID_FIELD", field="template_args")
    if any(message.keys() < {"role", "content"} for message in prompt.messages):
        raise InvalidRequest("messages: each has a role and a content", "INVALID_FIELD", field="messages")
    variables = {"add_generation_prompt": True} | prompt.template_args
    if prompt.continue_final_message:
        variables |= {"add_generation_prompt": False, "continue_final_message": True}
    if prompt.tools:
        variables["tools"] = prompt.tools
    most = None if keep is not None else max_model_len * _COUNTED_CONTEXTS
    limits = dataclasses.replace(renderer.default_chat_tok_params, max_total_tokens=most)
    try:
        params = ChatParams(chat_template_kwargs=variables)
        _, (rendered,) = await renderer.render_chat_async([prompt.messages], params, limits)
    except Exception as error:
        raise _chat_error(error, max_model_len) from error
    return rendered


def _chat_error(error: Exception, max_model_len: int) -> Exception:
    if is_a(error, {"ChatTemplateResolutionError"}):
        return InvalidRequest(_NO_TEMPLATE, "NO_CHAT_TEMPLATE")
    if getattr(error, "parameter", None) in ("input_text", "input_tokens"):
        return too_long(max_model_len * _COUNTED_CONTEXTS, max_model_len, at_least=True)
    if is_a(error, CLIENT_ERRORS):
        return InvalidRequest(f"the chat template refuses this: {client_text(error)}", "INVALID_TEMPLATE")
    if is_a(error, {"TemplateError"}):  # of jinja2, unwrapped by older vLLM
        return InvalidRequest(f"the chat template refuses this: {text_of(error)}", "INVALID_TEMPLATE")
    return error
