"""A real engine: vLLM's `AsyncLLM` behind the `Backend` protocol.

With `vllm_prompts` the only module that imports vllm, and inside functions, so that what needs none can be tested
without. It fits 0.22 to 0.32; where these differ it looks for fields and methods, never at the version.

Prompts are rendered before (`vllm_prompts`) and handed over as token ids: `AsyncLLM.generate` has deprecated raw
ones, and up to 0.25 it tokenizes those on the event loop, where the renderer uses a thread.

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

from . import measuring, vllm_prompts, vllm_structured
from .adapters import Adapters
from .backend import EngineDead, InvalidRequest, Output
from .causes import named, text_of
from .protocol import Answer, Generate, Prompt, Question
from .report import EngineInfo, Measured
from .spec import Spec
from .vllm_arguments import CLIENT_ERRORS, client_text, describe_exit, integral, is_a, refuse_priority, refuse_unknown
from .vllm_inputs import VllmInputs
from .vllm_sampling import Sampling, candidates


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
        self._adapters = Adapters()
        self._ids = itertools.count()
        self._inputs: VllmInputs | None = None
        self._sampling: Sampling | None = None

    def load(self, spec: Spec) -> EngineInfo:
        """Load the model; takes from ten seconds to minutes, and blocks.

        Raises:
            ValueError: vLLM has no engine argument of a given name, or refuses a value.
            Exception: whatever else vLLM raises; what went wrong inside EngineCore only its log tells.
        """
        import vllm
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.pooling_params import PoolingParams
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
        from vllm.v1.engine.async_llm import AsyncLLM

        hints = {field.name: field.type for field in dataclasses.fields(AsyncEngineArgs)}
        refuse_unknown(spec.engine_args, hints, f"engine argument of vLLM {vllm.__version__}")
        arguments = {"disable_log_stats": True} | integral(spec.engine_args, hints)
        if "worker_extension_cls" in hints and not arguments.get("worker_extension_cls"):
            arguments["worker_extension_cls"] = measuring.EXTENSION
            self._extended = True
        self._engine = engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model=spec.model, **arguments))

        self._adapters = Adapters(spec.lora, LoRARequest)
        # Kept because vLLM forgets them when they die, and their exit codes say why they did.
        manager = getattr(engine.engine_core.resources, "engine_manager", None)
        self._cores = tuple(getattr(manager, "processes", ()))
        model = engine.model_config
        self._inputs = VllmInputs(engine, self._render, self._ids, PoolingParams, self._adapters.request)
        self._sampling = Sampling(
            SamplingParams,
            StructuredOutputsParams,
            RequestOutputKind,
            model.get_diff_sampling_param(),
            model.get_vocab_size(),
            model.max_logprobs,
        )
        return EngineInfo(
            vllm_version=vllm.__version__,
            max_model_len=model.max_model_len,
            kv_cache_tokens=kv_cache_tokens(engine.vllm_config.cache_config),
            dtype=str(model.dtype).removeprefix("torch."),
            vocab_size=model.get_vocab_size(),
            runner_type=model.runner_type,
        )

    async def add_adapters(self) -> None:
        """Have vLLM load the adapters, so that one which it can't load is found out now."""
        await self._adapters.load(self._engine)

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
        prompt_logprobs = None
        try:
            assert self._sampling is not None
            params = self._sampling.params(request.sampling_params, request.whole)
            refuse_priority(request.priority, engine.vllm_config.scheduler_config.policy)
            scheduled = {"priority": request.priority} if request.priority else {}
            model = engine.model_config
            prompt = await vllm_prompts.render(engine.renderer, request, model.max_model_len, model.get_vocab_size())
            if params.structured_outputs is not None:
                await asyncio.to_thread(vllm_structured.verify, params, engine)
            lora = self._adapters.request(request.lora)
            stream = engine.generate(prompt, params, request_id, lora_request=lora, **scheduled)
            async for result in stream:
                if not started:
                    started = True
                    prompt_tokens = len(result.prompt_token_ids or ())
                    cached_tokens = result.num_cached_tokens or 0
                    prompt_logprobs = candidates(result.prompt_logprobs)
                left = len(result.outputs)
                for step in result.outputs:
                    if step.finish_reason == "error":
                        raise vllm_structured.given_up(params)
                    left -= 1
                    ids = step.token_ids
                    yield Output(
                        step.text,
                        ids if type(ids) is list else list(ids),
                        step.finish_reason,
                        step.stop_reason,
                        prompt_tokens,
                        cached_tokens,
                        step.index,
                        candidates(step.logprobs) if step.logprobs and ids else None,
                        prompt_logprobs,
                        result.finished and not left,
                    )
                    prompt_logprobs = None
        except (asyncio.CancelledError, GeneratorExit):
            if stream is not None and not started:
                # vLLM aborts what it has handed to EngineCore, but not what it is about to.
                await engine.abort(request_id)
            raise
        except InvalidRequest:
            raise
        except Exception as error:
            death = self.death()
            raise (EngineDead(death) if death else whose_fault(error, started, request.sampling_params)) from error
        finally:
            if stream is not None:
                await stream.aclose()  # leaving `async for` does not close a generator, and only that aborts

    async def _render(self, prompt: Prompt) -> Any:
        model = self._engine.model_config
        return await vllm_prompts.plain(self._engine.renderer, prompt, model.max_model_len, model.get_vocab_size())

    async def answer(self, question: Question) -> Answer:
        """Answer a question about an input; being cancelled aborts the request in the engine.

        Raises:
            InvalidRequest: it can't be answered.
            EngineDead: the engine has failed for good.
            RuntimeError: the engine failed at it.
        """
        assert self._inputs is not None
        try:
            return await self._inputs.answer(question)
        except InvalidRequest:
            raise
        except Exception as error:
            death = self.death()
            raise (EngineDead(death) if death else whose_fault(error, started=False)) from error

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


def kv_cache_tokens(cache: Any) -> int | None:
    """Say how many tokens the KV cache holds, from vLLM's `CacheConfig`; `None` for a model without one."""
    tokens = getattr(cache, "kv_cache_size_tokens", None)  # since 0.25; right for hybrid models too
    if tokens is None and cache.num_gpu_blocks:
        tokens = cache.num_gpu_blocks * cache.block_size
    return tokens or None


def whose_fault(error: Exception, started: bool, sampling_params: Collection[str] = ()) -> Exception:
    """Make of vLLM's *error* one of `Backend`'s, or a `RuntimeError`.

    Args:
        error: what it raised.
        started: whether tokens had come.
        sampling_params: the names of those that the client set.
    """
    if is_a(error, {"EngineDeadError"}):
        return EngineDead(text_of(error))
    # vLLM wraps what it does not expect in an EngineGenerateError without a text.
    cause = error.__cause__ if is_a(error, {"EngineGenerateError"}) and error.__cause__ else error
    if is_a(cause, CLIENT_ERRORS) and not started:
        parameter = getattr(cause, "parameter", None)  # since 0.22, of some
        if parameter in sampling_params:
            return InvalidRequest(client_text(cause), "INVALID_SAMPLING_PARAMS", field=parameter)
        return InvalidRequest(client_text(cause))
    return RuntimeError(named(cause))
