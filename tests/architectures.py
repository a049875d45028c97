"""Makes one tiny model of each architecture that transformers has for sequence classification, and tries it.

``python tests/architectures.py`` tries all of them, which takes some minutes, and writes docs/architectures.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tiny

TEXTS = [text for text, _ in tiny.review_rows(200, 0)]
_SIZES = {
    32: "hidden_size dim d_model n_embd embedding_size word_embed_proj_dim emb_dim entity_emb_size d_latents "
    "pronunciation_embed_dim shape_embed_dim gated_norm_rank embedding_dim "
    "linear_key_head_dim linear_value_head_dim true_hidden_size intra_bottleneck_size out_hidden_size",
    64: "intermediate_size hidden_dim n_inner d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim dff d_inner "
    "moe_intermediate_size shared_expert_intermediate_size feed_forward_size prediction_head_size image_size "
    "expert_dim index_topk",
    2: "num_hidden_layers num_layers n_layers n_layer encoder_layers decoder_layers num_decoder_layers depth "
    "num_experts_per_tok num_experts_per_token moe_topk topk_group n_group num_self_attends_per_block "
    "linear_num_key_heads linear_num_value_heads",
    4: "num_key_value_heads num_kv_heads "
    "num_attention_heads n_heads n_head num_heads encoder_attention_heads decoder_attention_heads "
    "num_self_attention_heads num_cross_attention_heads index_n_heads rotary_dim mamba_dt_rank "
    "num_experts num_local_experts n_routed_experts num_latents entity_vocab_size",
    8: "head_dim d_kv d_head kv_channels qk_rope_head_dim qk_nope_head_dim v_head_dim attention_head_size "
    "attention_head_dim mamba_d_state adapter_rank",
    16: "kv_lora_rank q_lora_rank index_head_dim patch_size audio_samples_per_frame sliding_window local_attention "
    "window_size output_num_channels chunk_size shape_vocab_size pronunciation_vocab_size",
    48: "max_position_embeddings n_positions n_ctx max_seq_len num_position_embeddings",
}
SIZES = {name: size for size, names in _SIZES.items() for name in names.split()} | {"vocab_size": 120}

_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
OWN: dict[str, dict[str, Any]] = {
    "axk1": {"mlp_layer_types": ["dense", "sparse"]},
    "axk2": {"mlp_layer_types": ["dense", "sparse"]},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "esm": {"mask_token_id": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "visual_embed": False},
    "lilt": {"hidden_size": 48},
    "ministral": {"head_dim": 8},
    "modernbert": {"pad_token_id": 0},
    "nemotron": {"num_key_value_heads": 4},
    "qwen3_5_text": {**_HYBRID, "pad_token_id": 0},
    "qwen3_next": _HYBRID,
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "xmod": {"default_language": "en_XX"},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "zamba": {
        "num_hidden_layers": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "zamba2": {"num_hidden_layers": 2, "layers_block_type": ["linear_attention", "hybrid"]},
}
"""What some architectures need beside small sizes, because their fields depend on each other."""


AS_FOLDER = ("gemma3", "modernvbert", "qwen3_5", "t5gemma", "t5gemma2", "ultravbert", "cohere_compass_text")
"""Types that are made of parts, which a YAML cannot say; they are tried as folders."""

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"

HEAD = """\
# Architectures

This page lists every model type that transformers 5.23 has for sequence classification, and what the dry run finds. The
dry run trains the model for a step, evaluates it, saves it, loads it and asks it. A tiny model of each type was tried:
from scratch, or as a folder if the type is made of parts, which a YAML cannot describe. `sweep validate` refuses the
same types with the same reason. A real model may have a tokenizer that needs more, as TAPAS needs tables; `sweep
validate` says so. A reason below is that of the tiny model; one of full size may work.

`.venv/bin/python tests/architectures.py` writes this page again.

| type | tried | result |
|---|---|---|
"""


def every_type() -> list[str]:
    """Return all model types for sequence classification of the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def tiny_fields(kind: str) -> dict[str, Any]:
    """Return the config's fields by which a model type becomes tiny, its parts (text, vision) included."""
    from transformers import CONFIG_MAPPING

    return _tiny_fields(CONFIG_MAPPING[kind], OWN.get(kind, {}))


def _tiny_fields(config: Any, own: dict[str, Any]) -> dict[str, Any]:
    default = config()
    fields = {name: size for name, size in SIZES.items() if type(getattr(default, name, None)) is int}
    fields = {name: size for name, size in fields.items() if name in config.__dataclass_fields__}
    for name in config.sub_configs:
        if getattr(default, name, None) is not None:
            fields[name] = _tiny_fields(type(getattr(default, name)), OWN.get(getattr(default, name).model_type, {}))
    return {**fields, **own}


def tiny_folder(kind: str, folder: Path) -> Path:
    """Save a tiny model of a type with random weights, and a tokenizer as its kind has: a model that was downloaded."""
    import torch
    import transformers

    tokenizer = _tokenizer(kind)
    fields = {**_with_vocabulary(tiny_fields(kind), len(tokenizer)), **_special(kind, tokenizer)}
    config = transformers.AutoConfig.for_model(kind, **fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _with_vocabulary(fields: dict[str, Any], size: int) -> dict[str, Any]:
    parts = {name: _with_vocabulary(value, size) for name, value in fields.items() if isinstance(value, dict)}
    own = {"vocab_size": size} if "vocab_size" in fields else {}
    return {**fields, **parts, **own}


def _special(kind: str, tokenizer: Any) -> dict[str, Any]:
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    pad = {} if tokenizer.pad_token is None else {"pad_token_id": tokenizer.pad_token_id}
    start = {"decoder_start_token_id": tokenizer.pad_token_id} if kind == "t5" else {}
    return {**ids, **pad, **start}


def is_decoder(kind: str) -> bool:
    """Say whether a type only goes on with a text: its tokenizer ends a text with nothing and has no padding token."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    others = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in others and kind != "xlnet"


def _tokenizer(kind: str) -> Any:
    import transformers
    from tokenizers import processors

    from finesweep.model.from_scratch import train_tokenizer

    if kind == "canine":
        return transformers.CanineTokenizer(model_max_length=48)
    if kind == "perceiver":
        return transformers.PerceiverTokenizer(model_max_length=48)
    tokens = train_tokenizer(TEXTS, 120)
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]", "bos_token": "[CLS]"}
    if is_decoder(kind):
        del named["pad_token"]
        tokens.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    elif kind == "xlnet":
        ids = [(name, tokens.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokens.post_processor = processors.TemplateProcessing(
            single="$A [SEP] [CLS]:2", pair="$A [SEP] $B:1 [SEP]:1 [CLS]:2", special_tokens=ids
        )
    side = "left" if is_decoder(kind) or kind == "xlnet" else "right"
    typed = ["token_type_ids"] if kind in ("bert", "xlnet", "tapas", "funnel") else []
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        model_max_length=48,
        padding_side=side,
        model_input_names=["input_ids", *typed, "attention_mask"],
        **named,
    )


def outcome(kind: str, folder: Path) -> str:
    """Return ``works``, or why a tiny model of a type is refused.

    Args:
        kind: The model type.
        folder: An empty folder.
    """
    from finesweep.errors import SpecError
    from finesweep.spec import reader
    from finesweep.sweep import dry_run, preflight
    from finesweep.sweep.prepare import write_prepared

    for name, seed in (("train", 1), ("validation", 2)):
        tiny.write_csv(folder / f"{name}.csv", tiny.review_rows(40, seed))
    try:
        text = f"model: {json.dumps(_model(kind, folder))}\ndata: {{train: train.csv, validation: validation.csv}}\n"
        (folder / "spec.yaml").write_text(f"{text}space: {{learning_rate: {{low: 1e-4, high: 1e-3}}}}\n")
        problems = dry_run.problems(preflight.check(reader.draft(folder / "spec.yaml").finished()), write_prepared, 8.0)
    except SpecError as error:
        problems = error.problems
    except ImportError as error:
        return f"refused: {error}"
    return f"refused: {problems[0].message}" if problems else "works"


def _model(kind: str, folder: Path) -> Any:
    if kind in AS_FOLDER:
        return str(tiny_folder(kind, folder / "model"))
    fields = {name: value for name, value in tiny_fields(kind).items() if not isinstance(value, dict)}
    return {**fields, "config": kind, "vocab_size": 200}


def try_here(folder: Path, _: Any = None) -> Any:
    """Try a model in this process, in place of ``dry_run._carried_out``."""
    from finesweep.sweep import dry_run
    from finesweep.worker import dry_run_steps

    dry_run_steps.try_model(folder, dry_run.ASKED, dry_run.ANSWER)
    return dry_run._faults(folder)[1]


def page(outcomes: Mapping[str, str]) -> str:
    """Return the page of the documentation."""
    ways = {kind: "as a folder" if kind in AS_FOLDER else "from scratch" for kind in outcomes}
    return HEAD + "".join(f"| `{kind}` | {ways[kind]} | {_short(text)} |\n" for kind, text in sorted(outcomes.items()))


def _short(text: str) -> str:
    """Leave out the model's name, whole addresses and what follows the first sentence."""
    said = text.replace("|", "/").partition(" Check")[0]
    parts = [part for part in said.split(": ") if "(from scratch)" not in part and "/model" not in part]
    return ": ".join(parts)[:200].rstrip(". ")


def outcomes_of(kinds: list[str], new_folder: Callable[[], Path]) -> dict[str, str]:
    """Try types one after the other."""
    return {kind: outcome(kind, new_folder()) for kind in kinds}


if __name__ == "__main__":
    from finesweep.sweep import dry_run

    dry_run._carried_out = try_here
    with tempfile.TemporaryDirectory() as scratch:
        PAGE.write_text(page(outcomes_of(every_type(), lambda: Path(tempfile.mkdtemp(dir=scratch)))))
