"""Read the sizes of a model from its config.json."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class ExpertSizes:
    """The experts of a layer.

    Attributes:
        count: how many, without the shared one.
        width: neurons of each.
        chosen: how many a token is sent to.
        shared: neurons that every token passes.
        has_biases: whether their projections have biases.
    """

    count: int
    width: int
    chosen: int
    shared: int = 0
    has_biases: bool = False

    @property
    def neurons(self) -> int:
        """All experts' neurons."""
        return self.count * self.width + self.shared

    @property
    def active(self) -> int:
        """The neurons that a token passes."""
        return self.chosen * self.width + self.shared


@dataclass(frozen=True)
class Scan:
    """The values of a token in a scan that goes through tokens in chunks (Mamba2).

    Attributes:
        heads: how many.
        values: of all heads.
        shared: of the groups of heads, to write to the state and to read it.
        repeated: one of these two, for each head.
    """

    heads: int
    values: int
    shared: int
    repeated: int


@dataclass(frozen=True)
class Recurrent:
    """Layers with a recurrent state in place of a KV cache.

    Attributes:
        layers: how many.
        state: values of a row's state, which is float32.
        inner: values of a token in its projections.
        before: values of earlier tokens that a row's convolution keeps.
        scan: of Mamba2; None for others.
    """

    layers: int
    state: int
    inner: int
    before: int
    scan: Scan | None = None


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that decide what it needs besides its weights.

    Attributes:
        layers, hidden, d_ff, heads, kv_heads, head_dim: as in config.json; d_ff is of
            the widest layer, all its experts' neurons included.
        context: its longest prompt and answer in tokens; 0 if unknown.
        value_bytes: of a value in computation: 2 in bf16 and fp16, 4 in float32.
        experts: of its widest layer; None if it is dense.
        neurons: of all layers; None if all have d_ff.
        kv_values: that the KV cache holds of a token; None if all layers have one
            of kv_heads and head_dim.
        recurrent: its recurrent layers; None if all have attention.
        blocks: what each layer is, of a model whose layers are one block each: ``M``
            for a recurrent one, ``*`` for attention, ``-`` for an MLP, ``E`` for
            experts; empty for others.
    """

    layers: int
    hidden: int
    d_ff: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int = 0
    value_bytes: int = 2
    experts: ExpertSizes | None = None
    neurons: int | None = None
    kv_values: int | None = None
    recurrent: Recurrent | None = None
    blocks: str = ""

    @classmethod
    def of_config(
        cls, config: dict[str, Any], value_bytes: int | None = None
    ) -> "Shape":
        """The shape from config.json or its ``text_config``; 0 for what it lacks."""
        inner = config.get("text_config")
        config = {**config, **(inner if isinstance(inner, dict) else {})}
        number = _numbers(config)
        blocks, heads = _blocks(config), number("num_attention_heads") or 1
        layers = len(blocks) or number("num_hidden_layers")
        head_dim = number("head_dim") or number("hidden_size") // heads
        dtype = config.get("dtype") or config.get("torch_dtype")
        size = value_bytes or (4 if dtype == "float32" else 2)
        experts, widths = _experts(config), _widths(config, layers)
        recurrent = _recurrent(config, layers)
        cached = layers - (recurrent.layers if recurrent else 0)
        cached = blocks.count("*") if blocks else cached
        return cls(
            layers,
            number("hidden_size"),
            max(widths, default=0),
            heads,
            number("num_key_value_heads") or heads,
            max(head_dim, number("global_head_dim")),
            number("max_position_embeddings"),
            size,
            experts,
            sum(widths) if len(set(widths)) > 1 else None,
            _kv_values(config, cached, head_dim),
            recurrent,
            blocks,
        )

    def of_rank(self, count: int) -> "Shape":
        """The shape of what one of several ranks holds besides all neurons' values."""
        values = self.kv_values
        return replace(
            self,
            heads=max(1, self.heads // count),
            kv_heads=max(1, self.kv_heads // count),
            kv_values=None if values is None else values // count,
        )

    @property
    def all_neurons(self) -> int:
        """How many neurons all layers have."""
        return self.layers * self.d_ff if self.neurons is None else self.neurons

    @property
    def active(self) -> int:
        """The neurons of a layer that a token passes."""
        return self.experts.active if self.experts else self.d_ff

    @property
    def state_bytes(self) -> int:
        """Bytes of the recurrent layers' states for an arm."""
        if (own := self.recurrent) is None:
            return 0
        return own.layers * (4 * own.state + self.value_bytes * own.before)

    @property
    def kv_per_token(self) -> int:
        """Bytes of the KV cache for a token of one arm."""
        every = 2 * self.layers * self.kv_heads * self.head_dim
        return self.value_bytes * (every if self.kv_values is None else self.kv_values)

    @property
    def layer_weights(self) -> int:
        """The number of weights in one layer's projections."""
        return self._weights(self.d_ff)

    @property
    def active_weights(self) -> int:
        """The number of weights in one layer's projections that a token is sent to."""
        return self._weights(self.active)

    def _weights(self, width: int) -> int:
        attention = 2 * self.head_dim * (self.heads + self.kv_heads)
        if not self.blocks:
            return self.hidden * (attention + 3 * width)
        own = {"*": attention, "M": self.recurrent.inner if self.recurrent else 0}
        total = sum(own.get(block, 2 * width) for block in self.blocks)
        return self.hidden * total // len(self.blocks)


_Number = Callable[..., int]
# More than any model has: a damaged config.json may say anything.
_MOST_LAYERS = 10_000


def _numbers(config: dict[str, Any]) -> _Number:
    """The first of some keys that is a number above 0, else 0."""

    def number(*keys: str) -> int:
        values = (config.get(key) for key in keys)
        return next((v for v in values if type(v) is int and v > 0), 0)

    return number


# The kinds of Nemotron-H's layers, as transformers 5 and earlier files name them.
_KINDS = {
    "linear_attention": "M",
    "mamba": "M",
    "conv": "M",
    "full_attention": "*",
    "attention": "*",
    "mlp": "-",
    "moe": "E",
}


def _blocks(config: dict[str, Any]) -> str:
    """What each layer is, of a model whose layers are one block each; else empty."""
    if config.get("model_type") != "nemotron_h":
        return ""
    found = config.get("hybrid_override_pattern")
    if not found:
        found = _list(config, "layers_block_type") or _list(config, "layer_types")
    whole = found if isinstance(found, str | list | tuple) else ()
    return "".join(_KINDS.get(str(one), str(one)[:1]) for one in whole[:_MOST_LAYERS])


def _experts(config: dict[str, Any]) -> ExpertSizes | None:
    """The experts of a mixture, by the names that its families use."""
    number = _numbers(config)
    count = number("num_experts", "num_local_experts", "n_routed_experts")
    if not count or "E" not in (_blocks(config) or "E"):
        return None
    width = number("moe_intermediate_size", "intermediate_size")
    shared = number(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"
    )
    shared = shared or number("n_shared_experts") * width
    chosen = number("num_experts_per_tok", "experts_per_token") or 1
    has_biases = config.get("model_type") == "gpt_oss"
    return ExpertSizes(count, width, min(chosen, count), shared, has_biases)


def _widths(config: dict[str, Any], layers: int) -> list[int]:
    """The neurons of each layer."""
    number = _numbers(config)
    own, experts = number("intermediate_size"), _experts(config)
    if blocks := _blocks(config):
        of_kinds = {"-": own, "E": experts.neurons if experts else 0}
        return [of_kinds.get(block, 0) for block in blocks]
    if experts is not None:
        first, step = number("first_k_dense_replace"), number("decoder_sparse_step")
        without = _list(config, "mlp_only_layers")
        return [
            experts.neurons
            if i >= first and i not in without and (i + 1) % (step or 1) == 0
            else own
            for i in range(min(layers, _MOST_LAYERS))
        ]
    is_wide = config.get("use_double_wide_mlp")
    single = layers - (number("num_kv_shared_layers") if is_wide else 0)
    return [
        own * (2 if i >= single > 0 else 1) for i in range(min(layers, _MOST_LAYERS))
    ]


def _recurrent(config: dict[str, Any], layers: int) -> Recurrent | None:
    """The recurrent layers, between those with attention."""
    number = _numbers(config)
    if blocks := _blocks(config):
        heads, size = number("mamba_num_heads"), number("ssm_state_size")
        values = heads * number("mamba_head_dim")
        shared = 2 * number("n_groups") * size
        before = max(0, number("conv_kernel") - 1) * (values + shared)
        inner = 3 * values + shared + heads
        scan = Scan(heads, values, shared, heads * size)
        return Recurrent(blocks.count("M"), values * size, inner, before, scan)
    every, heads = number("full_attention_interval"), number("linear_num_value_heads")
    if not (every and heads):
        return None
    keys = number("linear_key_head_dim")
    values = heads * number("linear_value_head_dim")
    both = 2 * number("linear_num_key_heads") * keys
    before = max(0, number("linear_conv_kernel_dim") - 1) * (both + values)
    return Recurrent(layers - layers // every, values * keys, both + 2 * values, before)


def _kv_values(config: dict[str, Any], cached: int, head_dim: int) -> int | None:
    """Values of all layers' keys and values for a token; None if all are alike."""
    number = _numbers(config)
    heads = number("num_key_value_heads", "num_attention_heads") or 1
    own = heads * head_dim
    kinds = _list(config, "layer_types")
    if wide := number("global_head_dim"):
        cached = max(0, cached - number("num_kv_shared_layers"))
        equal = config.get("attention_k_eq_v") and number("num_global_key_value_heads")
        wide *= equal or heads
        full = sum(kind == "full_attention" for kind in kinds[:cached])
        return 2 * (full * wide + (cached - full) * own)
    return 2 * cached * own if cached != number("num_hidden_layers") else None


def _list(config: dict[str, Any], key: str) -> Sequence[Any]:
    found = config.get(key)
    return found if isinstance(found, list | tuple) else ()
