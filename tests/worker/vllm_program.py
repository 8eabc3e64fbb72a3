"""Loads one engine with `VllmBackend`, tries what the daemon can't see, and prints one JSON object about it.

Runs under vLLM's interpreter, with the copied package on the path. Argument: the model. Afterwards it stays,
with a request running, until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import pathlib
import sys
from typing import Any

PROMPTS = [[7 + stream] * (3 + stream) for stream in range(32)]
TOKENS = 48


class Trial:
    """The engine, and short ways to ask it."""

    def __init__(self, model: str) -> None:
        # The copy that the daemon makes: under this name it is known in the engine's environment alone.
        self.protocol = importlib.import_module("vllmd_worker.protocol")
        spec = importlib.import_module("vllmd_worker.spec")
        importlib.import_module("vllmd_worker.plugin").name_shared_memory(os.environ[spec.ENGINE_ID_VARIABLE])
        self.backend = importlib.import_module("vllmd_worker.vllm_backend").VllmBackend()
        self.spec = spec.Spec(
            engine_id=os.environ[spec.ENGINE_ID_VARIABLE],
            backend="vllm",
            model=model,
            engine_args={
                "max_model_len": 512.0,
                "dtype": "float32",
                "enforce_eager": True,
                "kv_cache_memory_bytes": 64 << 20,
            },
            cgroup=None,
            adoption_timeout=60,
            vllmd_version="0",
            boot_id="",
        )

    def generate(self, prompt: Any, **params: Any) -> Any:
        return self.backend.generate(self.protocol.Generate(0, prompt, params))

    async def tokens(self, prompt: Any, **params: Any) -> list[int]:
        """Give all tokens of one request."""
        ids: list[int] = []
        async with contextlib.aclosing(self.generate(prompt, **params)) as outputs:
            async for output in outputs:
                ids += output.token_ids
        return ids

    async def refusal(self, prompt: Any, **params: Any) -> str:
        """Give the error of one request that must have one."""
        try:
            await asyncio.wait_for(self.tokens(prompt, **params), 20)
        except Exception as error:  # noqa: BLE001 - which one it is, is what is asked
            return f"{type(error).__name__}: {error}"
        return "none"

    async def bare(self, token_ids: list[int]) -> list[int]:
        """Ask `AsyncLLM` itself."""
        vllm = importlib.import_module("vllm")
        params = vllm.SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True)
        rendered = importlib.import_module("vllm.inputs").tokens_input(token_ids)
        stream = self.backend._engine.generate(rendered, params, f"bare-{token_ids[0]}")
        results = [list(result.outputs[0].token_ids) async for result in stream]
        return results[-1]

    def running(self) -> int:
        """Count the requests that vLLM has."""
        count: int = self.backend._engine.output_processor.get_num_unfinished_requests()
        return count

    async def cancelled(self, delay: float) -> int:
        """Start eight streams, cancel them after *delay* seconds, and count what is left."""
        text = self.protocol.TextPrompt("x")
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(self.tokens(text, ignore_eos=True)) for _ in range(8)]
            await asyncio.sleep(delay)
            for stream in streams:
                stream.cancel()
        return self.running()


async def main(model: str) -> None:
    trial = Trial(model)
    info = trial.backend.load(trial.spec)
    text, tokens, chat = trial.protocol.TextPrompt, trial.protocol.TokenPrompt, trial.protocol.ChatPrompt
    hello = [{"role": "user", "content": "hello"}]
    tokenizer = trial.backend._engine.renderer.get_tokenizer()
    rendered = tokenizer.apply_chat_template(hello, add_generation_prompt=True, return_dict=False)
    greedy = {"max_tokens": float(TOKENS), "temperature": 0, "ignore_eos": True}
    facts: dict[str, Any] = {
        "max_model_len": info.max_model_len,
        "kv_cache_tokens": info.kv_cache_tokens,
        "dtype": info.dtype,
        "vocab_size": info.vocab_size,
        "measured": importlib.import_module("msgspec").to_builtins(await trial.backend.measure(pathlib.Path("log"))),
        "core": trial.backend._cores[0].pid,
        "shared_memory": sorted(os.listdir("/dev/shm")),
        "ours": await asyncio.gather(*(trial.tokens(tokens(ids), **greedy) for ids in PROMPTS)),
        "bare": await asyncio.gather(*(trial.bare(ids) for ids in PROMPTS)),
        "chat": await trial.tokens(chat(hello, {}), **greedy),
        "chat_by_hand": await trial.tokens(tokens(rendered), **greedy),
        "unlimited": len(await trial.tokens(tokens([5, 6]), temperature=0, ignore_eos=True)),
        "refusals": {
            "wrong type": await trial.refusal(text("x"), stop_token_ids=["a"]),
            "foreign stop token": await trial.refusal(text("x"), stop_token_ids=[512], min_tokens=4),
            "foreign token": await trial.refusal(tokens([1, 512])),
            "negative token": await trial.refusal(tokens([-1])),
            "too long": await trial.refusal(tokens([5] * 600)),
            "too long a text": await trial.refusal(text("hello " * 100_000)),
            "empty": await trial.refusal(text("")),
            "template's own": await trial.refusal(chat([{"role": "wizard", "content": "x"}], {})),
            "not a variable": await trial.refusal(chat(hello, {"tokenize": False})),
        },
    }
    facts["left_after_cancel"] = [await trial.cancelled(delay) for delay in (0, 0.0003, 0.001, 0.003, 0.1)]
    tokenizer.chat_template = None
    facts["refusals"]["no template"] = await trial.refusal(chat(hello, {}))
    facts["alive"] = trial.backend.death() is None and len(await trial.tokens(text("x"), max_tokens=3, ignore_eos=True))
    print(json.dumps(facts), flush=True)
    while True:
        await trial.tokens(text("x"), ignore_eos=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
