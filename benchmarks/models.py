"""Makes the models that the benchmarks fine-tune: random weights and a tokenizer trained on the texts, in a folder.

    python -m benchmarks.models SIZE TRAIN.csv FOLDER

For time, memory and bytes random weights are as good as trained ones, and every arm loads the same.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 512,
    },
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
    },
    "bert-base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
    },
}
"""The quickstart's BERT with room for longer texts, one of MiniLM's shape, and one of BERT-base's."""

VOCABULARY = {"small": 4_000, "minilm": 30_522, "bert-base": 30_522}
"""Rows of the embedding, whatever the tokenizer uses of them."""

SEED = 0


def make(size: str, texts: list[str], folder: Path) -> None:
    """Write config, tokenizer and seeded random weights.

    Args:
        size: One of ``SIZES``.
        texts: What the tokenizer is trained on.
        folder: Where the files go; made if it is missing.
    """
    import torch
    import transformers

    from finesweep.model.from_scratch import make_scratch
    from finesweep.spec.sections import ScratchModelSpec

    folder.mkdir(parents=True, exist_ok=True)
    make_scratch(ScratchModelSpec(config="bert", vocab_size=4_000, **SIZES[size]), texts, folder, pairs=True)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.vocab_size = VOCABULARY[size]
    torch.manual_seed(SEED)
    transformers.AutoModel.from_config(config).save_pretrained(folder)


def main() -> None:
    """Make one, as the command line says."""
    size, table, folder = sys.argv[1:]
    with Path(table).open(newline="", encoding="utf-8") as stream:
        make(size, [row["text"] for row in csv.DictReader(stream)], Path(folder))


if __name__ == "__main__":
    main()
