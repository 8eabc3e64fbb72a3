"""The engine worker: the root process of one engine, and the daemon's half of what both must agree on.

The worker runs under the engine's own interpreter (the one that has vLLM), from a directory that holds a
copy of this package under the name `vllmd_worker` and nothing else. So this package imports only the
standard library, msgspec (which vLLM always brings), in `vllm_backend` and `vllm_prompts` alone vllm, and in
`vllm_structured` alone xgrammar, which comes with that; everything inside it is imported relatively. The daemon
imports what both of them need (`cgroup`, `leftovers`, `plugin`, `processes`, `protocol`, `spec`, `tree`), and nothing
that loads vLLM.
"""
