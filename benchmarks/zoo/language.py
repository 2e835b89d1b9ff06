"""Language models from their configurations, without any download.

Pre-norm models: embeddings and all that writes into the stream, together. A head on top that is
tied to the embedding turns this into a rescaling, so that nothing remains. Values against output
projection, and the two linear layers of a gated unit, are gauges.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from zoo.network import Network, token_ids
from zoo.networks import PostNormEncoder
from zoo.truth import Truth

__all__ = ["NETWORKS"]

VOCABULARY, LENGTH, WIDTH = 64, 32, 48


def from_config(config: str, head: str = "AutoModel", **settings: Any) -> Callable[[], nn.Module]:
    """Build a transformers model, randomly initialised."""

    def build() -> nn.Module:
        import transformers

        made = getattr(transformers, config)(
            vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, **settings
        )
        return getattr(transformers, head).from_config(made).train()

    return build


GPT2 = {"n_layer": 3, "n_embd": WIDTH, "n_head": 3, "n_positions": LENGTH}
LLAMA = {
    "num_hidden_layers": 3,
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
QWEN3 = LLAMA | {"head_dim": 12}
BERT = {
    "num_hidden_layers": 3,
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
}
T5 = {"num_layers": 2, "d_model": WIDTH, "d_kv": 12, "d_ff": 96, "num_heads": 4}


def bert_inputs() -> dict[str, Any]:
    """Ids without 0, which BERT keeps for padding; both token types occur."""
    ids = token_ids(4, LENGTH, VOCABULARY, first=1)()
    return {"input_ids": ids, "token_type_ids": (ids % 2)}


def t5_inputs() -> dict[str, Any]:
    """Every id in the encoder, and some in the decoder; 0 is kept for padding."""
    source = token_ids(4, LENGTH, VOCABULARY, first=1)()
    return {"input_ids": source, "decoder_input_ids": source.flip(1)}


def gpt2_gauge(truth: Truth) -> None:
    """Conv1D keeps a transposed weight: outputs, so queries, keys and values, are columns."""
    values = f"{2 * WIDTH}:{3 * WIDTH}"
    for proj in truth.names("*h.*.attn.c_proj.weight"):
        block = proj.removesuffix(".attn.c_proj.weight")
        truth.rescaling(
            (f"{block}.attn.c_attn.weight[:, {values}]", f"{block}.attn.c_attn.bias[{values}]"),
            (proj,),
        )
        truth.rescaling((f"{block}.ln_1.*",), (f"{block}.attn.c_attn.weight",))
        truth.rescaling((f"{block}.ln_2.*",), (f"{block}.mlp.c_fc.weight",))
        truth.no_effect(f"{block}.attn.c_attn.bias[{WIDTH}:{2 * WIDTH}]")  # softmax: keys' bias


def derive_gpt2(truth: Truth) -> None:
    truth.cells.jointly("wte.weight", "wpe.weight", "h.*.attn.c_proj.*", "h.*.mlp.c_proj.*")
    gpt2_gauge(truth)


def derive_gpt2_tied(truth: Truth) -> None:
    """Logits are proportional to the embedding, which the stream would have to scale."""
    gpt2_gauge(truth)
    truth.rescaling(
        (
            "transformer.wte.weight",
            "transformer.wpe.weight",
            "transformer.h.*.attn.c_proj.*",
            "transformer.h.*.mlp.c_proj.*",
        ),
        ("transformer.ln_f.*",),
    )


def llama_gauge(truth: Truth) -> None:
    for proj in truth.names("layers.*.self_attn.o_proj.weight"):
        layer = proj.removesuffix(".self_attn.o_proj.weight")
        truth.rescaling((f"{layer}.self_attn.v_proj.weight",), (proj,))
        truth.rescaling((f"{layer}.mlp.up_proj.weight",), (f"{layer}.mlp.down_proj.weight",))
        truth.rescaling(
            (f"{layer}.post_attention_layernorm.weight",),
            (f"{layer}.mlp.gate_proj.weight", f"{layer}.mlp.up_proj.weight"),
        )


def derive_llama(truth: Truth) -> None:
    truth.cells.jointly(
        "embed_tokens.weight",
        "layers.*.self_attn.o_proj.weight",
        "layers.*.mlp.down_proj.weight",
    )
    llama_gauge(truth)


def derive_qwen3(truth: Truth) -> None:
    """As Llama; RMS norm on each head's queries and keys makes each head's rows a cell."""
    derive_llama(truth)
    for kind in ("q_proj", "k_proj"):
        for weight in truth.names(f"layers.*.self_attn.{kind}.weight"):
            truth.cells.blocks(12, weight)
    for gain in truth.names("layers.*.input_layernorm.weight"):  # queries and keys are normalised
        value = gain.replace("input_layernorm", "self_attn.v_proj")
        truth.rescaling((gain,), (value,))


def derive_bert(truth: Truth) -> None:
    """The three embeddings meet in a norm. Post-norm with GELU has nothing further."""
    truth.cells.jointly("embeddings.*_embeddings.weight")
    truth.not_touched("embeddings.word_embeddings.weight[0:1]")
    truth.no_effect("encoder.layer.*.attention.self.key.bias")


def derive_t5(truth: Truth) -> None:
    """One embedding feeds encoder and decoder: both streams are one cell.

    Feed-forward layers are linear, ReLU, linear without biases, behind an RMS norm's gain.
    """
    truth.cells.jointly(
        "shared.weight",
        "*coder.block.*.SelfAttention.o.weight",
        "decoder.block.*.EncDecAttention.o.weight",
        "*coder.block.*.DenseReluDense.wo.weight",
    )
    truth.not_touched("shared.weight[0:1]")
    for wo in truth.names("*.DenseReluDense.wo.weight"):
        wi = wo.replace("wo", "wi")
        truth.rescaling((wi,), (wo,))
        gain = wo.replace("DenseReluDense.wo", "layer_norm")
        truth.rescaling((gain,), (wi,))
    for out in truth.names("*Attention.o.weight"):
        truth.rescaling((out.replace(".o.", ".v."),), (out,))
    cross = ("decoder.block.*.EncDecAttention.k.weight", "decoder.block.*.EncDecAttention.v.weight")
    truth.rescaling(("encoder.final_layer_norm.weight",), cross)


def derive_post_norm(truth: Truth) -> None:
    """Post-norm with ReLU: norm1's gain and shift with the feed-forward biases.

    They scale the sum of the stream and the feed-forward branch, which norm2 reads. The attention
    branch is no such thing: scaling its input scales the logits twice, and only opposite powers of
    queries or keys would undo that. So the embeddings are in no cell either.
    """
    for layer in range(3):
        at = f"layers.{layer}"
        truth.cells.jointly(f"{at}.norm1.*", f"{at}.linear1.bias", f"{at}.linear2.bias")
        truth.rescaling((f"{at}.linear1.weight", f"{at}.linear1.bias"), (f"{at}.linear2.weight",))
        values = f"[{2 * WIDTH}:{3 * WIDTH}]"
        truth.rescaling(
            (f"{at}.self_attn.in_proj_weight{values}", f"{at}.self_attn.in_proj_bias{values}"),
            (f"{at}.self_attn.out_proj.weight",),
        )
        truth.no_effect(f"{at}.self_attn.in_proj_bias[{WIDTH}:{2 * WIDTH}]")


SMALL = f"{WIDTH} channels, vocabulary {VOCABULARY}; 4 × {LENGTH} tokens"
ids = functools.partial(token_ids, 4, LENGTH, VOCABULARY)

NETWORKS = (
    Network(
        "Encoder, post-LN",
        PostNormEncoder,
        ids(),
        derive_post_norm,
        f"nn.TransformerEncoderLayer × 3, dropout on, {SMALL}",
        fast=True,
    ),
    Network("GPT-2", from_config("GPT2Config", **GPT2), ids(), derive_gpt2, f"3 layers, {SMALL}"),
    Network(
        "GPT-2, tied head",
        from_config("GPT2Config", "AutoModelForCausalLM", **GPT2),
        ids(),
        derive_gpt2_tied,
        f"the same with its language-model head, {SMALL}",
    ),
    Network(
        "Llama", from_config("LlamaConfig", **LLAMA), ids(), derive_llama, f"3 layers, {SMALL}"
    ),
    Network(
        "Qwen3, QK-norm",
        from_config("Qwen3Config", **QWEN3),
        ids(),
        derive_qwen3,
        f"3 layers, {SMALL}",
    ),
    Network(
        "BERT", from_config("BertConfig", **BERT), bert_inputs, derive_bert, f"3 layers, {SMALL}"
    ),
    Network(
        "T5, tied embedding",
        from_config("T5Config", **T5),
        t5_inputs,
        derive_t5,
        f"2 + 2 layers, {SMALL}",
    ),
)
