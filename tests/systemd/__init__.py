"""The units under a real systemd: `make test-systemd`, or `python -m tests.systemd`, as root.

A Debian is made once by mmdebstrap, with what the daemon needs in a virtual environment. systemd-nspawn boots it as PID
1, with everything that is written going to a layer of its own, and the project is installed there from a wheel of this
checkout. `checks_*.py` run inside; pytest does not find them elsewhere. Then it is switched off without warning and
booted once more, for `checks_second_boot.py`.

With `VLLMD_SYSTEMD_ENGINE_PYTHON` naming an interpreter that has vLLM, `by_hand_real_vllm.py` runs in their place.

`rootfs` makes the system, `machine` boots it, `unit` is what the checks use.
"""
