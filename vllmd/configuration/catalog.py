"""In which order people are shown the settings, where their defaults come from, and what it takes to change each."""

from __future__ import annotations

from collections.abc import Mapping

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Where it is": ("socket", "runtime_dir", "state_dir", "cache_dir"),
    "Who may use it": (
        "socket_mode",
        "socket_group",
        "admin_group",
        "listen",
        "tls_certificate",
        "tls_key",
        "tls_client_ca",
        "token_file",
    ),
    "What engines are": (
        "engine_python",
        "backend",
        "simulate",
        "containment",
        "engine_memory_max",
        "pass_environment",
    ),
    "How long engines stay": ("idle_timeout", "lease_ttl", "adoption_timeout"),
    "What engines may take": ("load_timeout", "stop_grace", "reclaim_timeout", "drain_timeout"),
    "When engines fail": ("restart_limit", "restart_window", "stall_timeout"),
    "The watchdog": ("watchdog_interval", "foreign_orphans", "orphan_grace"),
    "Logs": ("log_level", "log_limit_bytes"),
    "How models are loaded": ("use_case", "model_roots", "allowed_engine_args", "engine_args"),
}
"""All settings in the order in which people are shown them."""

COMPUTED: Mapping[str, str] = {
    "socket": "vllmd.sock in runtime_dir",
    "socket_mode": "600, or 660 with socket_group",
    "runtime_dir": "$RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/vllmd, /run/vllmd for root, or /tmp/vllmd-UID",
    "state_dir": "$STATE_DIRECTORY, $XDG_STATE_HOME/vllmd, /var/lib/vllmd for root, or ~/.local/state/vllmd",
    "cache_dir": "$CACHE_DIRECTORY, $XDG_CACHE_HOME/vllmd, or ~/.cache/vllmd",
    "engine_python": "the daemon's own",
}
"""The defaults that depend on where the daemon runs."""

BY_UPGRADE = frozenset(
    {
        "socket",
        "socket_mode",
        "socket_group",
        "admin_group",
        "listen",
        "tls_certificate",
        "tls_key",
        "tls_client_ca",
        "token_file",
        "cache_dir",
        "engine_python",
        "engine_memory_max",
    }
)
"""Settings that an upgrade in place (SIGUSR2) changes, which keeps the engines: they are used up at the start."""

BY_RESTART = frozenset({"runtime_dir", "state_dir", "backend", "simulate", "containment"})
"""Settings that only a restart changes, which ends the engines: by them a daemon finds those of its predecessor."""
