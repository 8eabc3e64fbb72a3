"""Which variables of the daemon's environment its children get: those that mean something to them, and no others.

Whoever starts the daemon may have secrets there that are for other programs, and every process of an engine could read
them, code of a model included. So the list says what is passed on, not what is not. Pure.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

_OF_A_PROGRAM = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_*", "TCMALLOC_*", "JEMALLOC_*"),
    # Not PYTHONPATH: it is the daemon's own, and for another interpreter than the engines'.
    *("PYTHONNOUSERSITE", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONFAULTHANDLER"),
    *("PYTHONUTF8", "DO_NOT_TRACK", "MAX_JOBS"),
)
_OF_A_COMPILER = ("CC", "CXX", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "CUDAHOSTCXX", "NVCC_*")
_OF_THE_NETWORK = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_OF_VLLM = (
    *("VLLM_*", "HF_*", "HUGGINGFACE_*", "HUGGING_FACE_*", "TRANSFORMERS_*", "TOKENIZERS_*", "SAFETENSORS_*"),
    *("TIKTOKEN_*", "FASTSAFETENSORS_*", "RUNAI_*", "LMCACHE_*", "NIXL_*", "MOONCAKE_*"),
    *("MODELSCOPE_*", "TORCH_*", "TORCHINDUCTOR_*", "PYTORCH_*", "TRITON_*", "FLASHINFER_*", "DG_*", "TVM_*"),
    *("TORCHDYNAMO_*", "NUMBA_*", "TILELANG_*", "CUTE_DSL_*"),
    *("CUDA_*", "CUDNN_*", "CUBLAS_*", "NVIDIA_*", "NCCL_*", "NVSHMEM_*", "UCX_*", "GLOO_*"),
    *("OMP_*", "KMP_*", "GOMP_*", "MKL_*", "OPENBLAS_*", "NUMEXPR_*"),
)
PASSED_ON = (*_OF_A_PROGRAM, *_OF_A_COMPILER, *_OF_THE_NETWORK, *_OF_VLLM)
"""Names and patterns of what children get without being told to."""

_NEVER = (
    # What configures the daemon, where it serves and by which tokens, is none of theirs.
    "VLLMD_*",
    # By these systemd speaks to the daemon: a child that heeded them would speak in its name, or find what is not its.
    *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE"),
    *("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"),
    *("INVOCATION_ID", "SYSTEMD_EXEC_PID", "MANAGERPID", "MANAGERPIDFDID", "MAINPID", "JOURNAL_STREAM"),
    *("MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "CREDENTIALS_DIRECTORY", "CONFIGURATION_DIRECTORY"),
    *("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY"),
    # The key of vLLM's own server, which we do not run.
    "VLLM_API_KEY",
)


def passed_on(inherited: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Choose what a child gets.

    Args:
        inherited: the daemon's environment.
        more: names, and patterns in the manner of a shell, of what it is to get besides; what is for the daemon alone
            stays so.
    """
    wanted = (*PASSED_ON, *more)
    return {name: value for name, value in inherited.items() if _any(name, wanted) and not _any(name, _NEVER)}


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
