"""vllmd: one daemon per host that owns every vLLM engine on it."""

__version__ = "0.1.0"
