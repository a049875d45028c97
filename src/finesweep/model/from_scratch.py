"""Makes a model from scratch: trains a tokenizer on the training texts and writes a config; no weights."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from finesweep.model.folder_check import DEFAULT_TOKENS, position_offset
from finesweep.spec import ScratchModelSpec

PAD, UNKNOWN, START, SEPARATOR, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

MAX_TEXTS = 200_000
"""Maximum number of texts that a tokenizer is trained on; more have almost no effect."""


def make_scratch(spec: ScratchModelSpec, texts: Iterable[str], folder: Path, *, pairs: bool) -> None:
    """Write the tokenizer and the config of a model made from scratch.

    The same texts in the same order give the same files.

    Args:
        spec: Model type and settings, checked by ``config_check.setting_defaults``.
        texts: Training texts of the tokenizer; the first ``MAX_TEXTS`` are used.
        folder: Folder for the files; it must exist.
        pairs: Whether the model reads pairs of texts; otherwise it needs no token types.
    """
    import transformers

    tokenizer = train_tokenizer(list(itertools.islice(texts, MAX_TEXTS)), spec.vocab_size)
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
    config = transformers.AutoConfig.for_model(
        spec.config, **{**spec.settings, "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": ids[PAD]}
    )
    # Some heads look for these tokens in the input. The tokenizer's ids differ from the config's defaults.
    for name, token in (("bos_token_id", START), ("eos_token_id", SEPARATOR)):
        if getattr(config, name, None) is not None:
            setattr(config, name, ids[token])
    typed = pairs and (getattr(config, "type_vocab_size", 0) or 0) >= 2
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=_max_tokens(config),
        model_input_names=["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"],
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=START,
        sep_token=SEPARATOR,
        mask_token=MASK,
    )
    fast.save_pretrained(folder)
    config.save_pretrained(folder)


def _max_tokens(config: Any) -> int:
    rows = getattr(config, "max_position_embeddings", None) or DEFAULT_TOKENS
    return int(rows) - position_offset(config.model_type, config.pad_token_id)


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Any:
    """Train a lower-casing WordPiece tokenizer like BERT's, with ``[CLS] a [SEP] b [SEP]`` around the texts.

    Args:
        texts: Training texts.
        vocab_size: Maximum number of tokens.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    vocabulary = _vocabulary(texts, vocab_size, normalizer, splitter)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {SEPARATOR}",
        pair=f"{START} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(token, vocabulary[token]) for token in (START, SEPARATOR)],
    )
    return tokenizer


def _vocabulary(texts: Sequence[str], vocab_size: int, normalizer: Any, splitter: Any) -> dict[str, int]:
    from tokenizers import Tokenizer, models, trainers

    draft = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    draft.normalizer, draft.pre_tokenizer = normalizer, splitter
    alphabet = _alphabet(normalizer, texts, vocab_size // 4)
    # The trainer numbers single characters in the order of a hash table, which differs between processes, and breaks
    # ties by these numbers. With all characters given beforehand it has none to number.
    characters = [*alphabet, *(f"##{character}" for character in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *characters],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = draft.get_vocab()
    return vocabulary


def _alphabet(normalizer: Any, texts: Iterable[str], limit: int) -> list[str]:
    """Return the most frequent characters; ties are broken by their code."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    counts.pop(" ", None)
    return sorted(sorted(counts, key=lambda character: (-counts[character], character))[:limit])
