"""A real engine: vLLM's `AsyncLLM` behind the `Backend` protocol.

The only module that imports vllm, and inside functions, so that what needs none can be tested without. It fits
0.22 to 0.32; where these differ it looks for fields and methods, never at the version.

Prompts are rendered here and handed over as token ids: `AsyncLLM.generate` has deprecated raw ones, and up to
0.25 it tokenizes those on the event loop, where the renderer uses a thread.

A request that EngineCore can't decode ends the thread that reads its requests and with that, silently, all
later ones. A token id outside the vocabulary is an index out of bounds on the device. So types and ids are
checked here, also where vLLM lets them pass.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import itertools
import pathlib
from collections.abc import AsyncIterator, Collection
from typing import Any

import msgspec

from . import measuring
from .backend import EngineDead, InvalidRequest, Output
from .causes import named, text_of
from .protocol import ChatPrompt, EngineInfo, Generate, Measured, Prompt, TextPrompt
from .spec import Spec
from .vllm_arguments import (
    client_text,
    describe_exit,
    integral,
    refuse_foreign_tokens,
    refuse_not_finite,
    refuse_unknown,
)

_OURS = {"output_kind", "skip_clone", "output_text_buffer_length"}
"""Fields of `SamplingParams` that are no client's business."""

_TEMPLATE_OURS = {
    *("chat_template", "tokenize", "conversation", "return_dict", "return_tensors", "return_assistant_tokens_mask"),
    *("padding", "truncation", "max_length", "tokenizer_kwargs"),
}
"""Arguments of `apply_chat_template` that are not variables of the template."""

_CLIENT_ERRORS = {"VLLMClientError", "ValueError", "TypeError", "ValidationError"}
"""What vLLM raises for a request that it refuses: the first since 0.27, the rest before and beside it."""

_NO_TEMPLATE = (
    "the model has no chat template: send text in the model's own format or token ids, "
    "or load the instruction-tuned variant of the model"
)


def import_vllm() -> None:
    """Import what an engine needs of vLLM: 10 to 30 seconds, mostly torch."""
    importlib.import_module("vllm.v1.engine.async_llm")
    importlib.import_module("vllm.engine.arg_utils")


class VllmBackend:
    """One vLLM engine, hosted by this process."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._cores: tuple[Any, ...] = ()
        self._extended = False
        """Whether vLLM's workers have `measuring.METHOD`."""
        self._ids = itertools.count()
        self._vocab_size: int = 0
        self._sampling_type: Any = None
        self._sampling_hints: dict[str, Any] = {}
        self._sampling_defaults: dict[str, Any] = {}

    def load(self, spec: Spec) -> EngineInfo:
        """Load the model; takes from ten seconds to minutes, and blocks.

        Raises:
            ValueError: vLLM has no engine argument of a given name, or refuses a value.
            Exception: whatever else vLLM raises; what went wrong inside EngineCore only its log tells.
        """
        import vllm
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.sampling_params import RequestOutputKind, SamplingParams
        from vllm.v1.engine.async_llm import AsyncLLM

        hints = {field.name: field.type for field in dataclasses.fields(AsyncEngineArgs)}
        refuse_unknown(spec.engine_args, hints, f"engine argument of vLLM {vllm.__version__}")
        arguments = {"disable_log_stats": True} | integral(spec.engine_args, hints)
        if "worker_extension_cls" in hints and not arguments.get("worker_extension_cls"):
            arguments["worker_extension_cls"] = measuring.EXTENSION
            self._extended = True
        self._engine = engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=spec.model, **arguments))

        # Kept because vLLM forgets them when they die, and their exit codes say why they did.
        manager = getattr(engine.engine_core.resources, "engine_manager", None)
        self._cores = tuple(getattr(manager, "processes", ()))
        model = engine.model_config
        self._vocab_size = model.get_vocab_size()
        self._sampling_type = SamplingParams
        self._sampling_hints = {
            field.name: field.type
            for field in msgspec.structs.fields(SamplingParams)
            if field.name not in _OURS and not field.name.startswith("_")
        }
        # vLLM's own default of 16 tokens surprises; `None` is as many as fit.
        self._sampling_defaults = {"max_tokens": None} | model.get_diff_sampling_param()
        self._sampling_defaults["output_kind"] = RequestOutputKind.DELTA.value
        return EngineInfo(
            vllm_version=vllm.__version__,
            max_model_len=model.max_model_len,
            kv_cache_tokens=kv_cache_tokens(engine.vllm_config.cache_config),
            dtype=str(model.dtype).removeprefix("torch."),
            vocab_size=self._vocab_size,
        )

    async def measure(self, log: pathlib.Path) -> Measured:
        """Ask vLLM's workers what they measured, and the log what the graphs took."""
        config = self._engine.vllm_config
        workers = await self._engine.collective_rpc(measuring.METHOD) if self._extended else ()
        graphs = measuring.graphs_bytes(measuring.read_log(log)) if measuring.captures(config) else 0
        found = measuring.fullest(workers) | measuring.of_config(config)
        return Measured(**found, graphs_bytes=graphs)

    def capabilities(self) -> tuple[str, ...]:
        """Name what this engine can do, as far as its methods and configuration tell."""
        engine = self._engine
        found = {
            "sleep": hasattr(engine, "sleep") and getattr(engine.model_config, "enable_sleep_mode", False),
            "pause": hasattr(engine, "pause_generation"),
            "reset_prefix_cache": hasattr(engine, "reset_prefix_cache"),
            "lora": engine.vllm_config.lora_config is not None,
        }
        return tuple(name for name, present in found.items() if present)

    async def generate(self, request: Generate) -> AsyncIterator[Output]:
        """Generate; closing the iterator, or cancelling it, aborts the request in the engine.

        Raises:
            InvalidRequest: the request can't be served.
            EngineDead: the engine has failed for good.
            RuntimeError: the engine failed at this request.
        """
        engine = self._engine
        request_id = str(next(self._ids))
        stream = None
        started = False
        prompt_tokens = cached_tokens = 0
        try:
            params = self._sampling_params(request.sampling_params)
            stream = engine.generate(await self._render(request.prompt), params, request_id)
            async for result in stream:
                if not started:
                    started = True
                    prompt_tokens = len(result.prompt_token_ids or ())
                    cached_tokens = result.num_cached_tokens or 0
                step = result.outputs[0]
                ids = step.token_ids
                yield Output(
                    step.text,
                    ids if type(ids) is list else list(ids),
                    step.finish_reason,
                    step.stop_reason,
                    prompt_tokens,
                    cached_tokens,
                )
        except (asyncio.CancelledError, GeneratorExit):
            if stream is not None and not started:
                # vLLM aborts what it has handed to EngineCore, but not what it is about to.
                await engine.abort(request_id)
            raise
        except InvalidRequest:
            raise
        except Exception as error:
            death = self.death()
            raise (EngineDead(death) if death else whose_fault(error, started)) from error
        finally:
            if stream is not None:
                await stream.aclose()  # leaving `async for` does not close a generator, and only that aborts

    async def ping(self) -> None:
        """Ask EngineCore something: `check_health` only looks at a flag of this process."""
        await self._engine.is_sleeping()

    def death(self) -> str | None:
        """Say why the engine is dead, or `None` while it lives."""
        if self._engine is None or not self._engine.errored:
            return None
        ends = [describe_exit(core.name, core.exitcode) for core in self._cores if core.exitcode is not None]
        return "; ".join(ends) or "vLLM reports a failure of the engine; the engine's log has the cause"

    def shutdown(self) -> None:
        """End the engine's processes: SIGTERM, then SIGKILL after 5 seconds."""
        if self._engine is not None:
            self._engine.shutdown()

    async def _render(self, prompt: Prompt) -> Any:
        """Turn *prompt* into the token ids that vLLM takes; texts are tokenized in a thread of vLLM's."""
        from vllm.inputs import tokens_input

        if isinstance(prompt, ChatPrompt):
            rendered = await self._render_chat(prompt)
        elif isinstance(prompt, TextPrompt):
            (rendered,) = await self._engine.renderer.render_cmpl_async([{"prompt": prompt.text}])
        else:
            rendered = tokens_input(prompt.token_ids)
        refuse_foreign_tokens("prompt", rendered.get("prompt_token_ids", ()), self._vocab_size)
        return rendered

    async def _render_chat(self, prompt: ChatPrompt) -> Any:
        from vllm.renderers import ChatParams

        if reserved := sorted(_TEMPLATE_OURS & prompt.template_args.keys()):
            raise InvalidRequest(f"not a variable of a chat template: {', '.join(reserved)}")
        if any(message.keys() < {"role", "content"} for message in prompt.messages):
            raise InvalidRequest("messages: each has a role and a content")
        params = ChatParams(chat_template_kwargs={"add_generation_prompt": True} | prompt.template_args)
        _, (rendered,) = await self._engine.renderer.render_chat_async([prompt.messages], params)
        return rendered

    def _sampling_params(self, given: dict[str, Any]) -> Any:
        """Build vLLM's `SamplingParams` of the client's values over those of the model's generation config."""
        refuse_unknown(given, self._sampling_hints, "sampling parameter of this vLLM")
        refuse_not_finite(given)
        if given.get("n", 1) != 1:
            raise InvalidRequest("n: a stream has one completion; send as many requests as you want completions")
        # Unlike the constructor this checks types, against the very hints that EngineCore decodes by.
        params = msgspec.convert(self._sampling_defaults | integral(given, self._sampling_hints), self._sampling_type)
        refuse_foreign_tokens("stop_token_ids", params.stop_token_ids or (), self._vocab_size)
        return params


def kv_cache_tokens(cache: Any) -> int | None:
    """Say how many tokens the KV cache holds, from vLLM's `CacheConfig`; `None` for a model without one."""
    tokens = getattr(cache, "kv_cache_size_tokens", None)  # since 0.25; right for hybrid models too
    if tokens is None and cache.num_gpu_blocks:
        tokens = cache.num_gpu_blocks * cache.block_size
    return tokens or None


def is_a(error: BaseException, names: Collection[str]) -> bool:
    """Tell whether a class of *error* has one of *names*: where vLLM keeps its classes differs by version."""
    return any(kind.__name__ in names for kind in type(error).__mro__)


def whose_fault(error: Exception, started: bool) -> Exception:
    """Make of vLLM's *error* one of `Backend`'s, or a `RuntimeError`; *started* says that tokens had come."""
    if is_a(error, {"EngineDeadError"}):
        return EngineDead(text_of(error))
    # vLLM wraps what it does not expect in an EngineGenerateError without a text.
    cause = error.__cause__ if is_a(error, {"EngineGenerateError"}) and error.__cause__ else error
    if is_a(cause, {"ChatTemplateResolutionError"}):
        return InvalidRequest(_NO_TEMPLATE)
    if is_a(cause, _CLIENT_ERRORS) and not started:
        return InvalidRequest(client_text(cause))
    return RuntimeError(named(cause))
