"""The real daemon with real vLLM on the CPU: one engine, loaded once, serves all of these tests."""
