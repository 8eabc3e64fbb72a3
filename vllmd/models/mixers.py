"""How large a layer's mixer with a state is: mamba, its second form, and linear attention."""

from __future__ import annotations

import dataclasses

from vllmd.models.fields import Config, integer

_D_STATE = ("mamba_d_state", "ssm_state_size", "state_size")
_D_CONV = ("mamba_d_conv", "conv_kernel")
_HEADS = ("mamba_n_heads", "mamba_num_heads")
_DEFAULT_KERNEL = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """A mixer's sizes, in values, over all GPUs."""

    convolved: int
    """Channels that go through its convolution."""
    kernel: int
    """Over how many tokens it convolves."""
    state: int
    """What its state has for one sequence."""
    parameters: int
    """What it has for all: its matrices, and the convolution's weights."""

    def bytes_of_sequence(self, state_value: int) -> int:
        """Work out what it keeps of one sequence: the convolution's last inputs, at 2 bytes each, and its state."""
        return (self.kernel - 1) * self.convolved * 2 + self.state * state_value


def read(text: Config, hidden: int) -> Mixer:
    """Read the sizes of a model's mixers, which are all alike."""
    heads = integer(text, "linear_num_value_heads")
    return _mamba(text, hidden) if heads is None else _linear(text, hidden, heads)


def _linear(text: Config, hidden: int, value_heads: int) -> Mixer:
    """Read those of linear attention, as Qwen3-Next has it."""
    key_dim, value_dim = integer(text, "linear_key_head_dim") or 0, integer(text, "linear_value_head_dim") or 0
    key, value = (integer(text, "linear_num_key_heads") or 0) * key_dim, value_heads * value_dim
    kernel = integer(text, "linear_conv_kernel_dim") or _DEFAULT_KERNEL
    convolved = 2 * key + value
    return Mixer(
        convolved=convolved,
        kernel=kernel,
        state=value_heads * key_dim * value_dim,
        parameters=hidden * (2 * key + 2 * value + 2 * value_heads) + convolved * kernel + value * hidden,
    )


def _mamba(text: Config, hidden: int) -> Mixer:
    state, kernel = integer(text, *_D_STATE) or 16, integer(text, *_D_CONV) or _DEFAULT_KERNEL
    heads, size = integer(text, *_HEADS), _width(text, hidden)
    if heads:  # its second form
        convolved = size + 2 * (integer(text, "mamba_n_groups", "n_groups") or 1) * state
        parameters = hidden * (size + convolved + heads) + convolved * (kernel + 1) + size * hidden + size
    else:
        rank = integer(text, "mamba_dt_rank", "time_step_rank") or -(-hidden // 16)
        convolved, parameters = size, size * (3 * hidden + kernel + 1 + 2 * rank + 3 * state + 2)
    return Mixer(convolved=convolved, kernel=kernel, state=size * state, parameters=parameters)


def _width(text: Config, hidden: int) -> int:
    """Tell how wide mamba is inside."""
    heads, head = integer(text, *_HEADS), integer(text, "mamba_d_head", "mamba_head_dim")
    named = integer(text, "mamba_d_ssm") or (heads * head if heads and head else None)
    return named or (integer(text, "mamba_expand", "expand") or 2) * hidden
