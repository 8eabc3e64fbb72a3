"""The real daemon with real engine processes, and real `kill -9`; no GPU and no vLLM."""
