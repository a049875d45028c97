"""Builds the small things that tests train on: models, rows, data files, a filled Hub cache."""

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MODEL_ID = "google-bert/bert-base-uncased"
DATASET_ID = "stanfordnlp/sst2"
MODEL_COMMIT = hashlib.sha1(MODEL_ID.encode()).hexdigest()
DATASET_COMMIT = hashlib.sha1(DATASET_ID.encode()).hexdigest()

_GOOD = ["moving", "witty", "charming", "brilliant", "tender", "funny", "gripping", "warm", "clever", "delightful"]
_BAD = ["dull", "clumsy", "tedious", "stale", "lifeless", "awkward", "shallow", "noisy", "bland", "predictable"]
_PLAIN = ["long", "quiet", "new", "second", "early", "local", "small", "final", "whole", "simple"]
_THINGS = [
    "plot",
    "film",
    "cast",
    "script",
    "ending",
    "scene",
    "story",
    "director",
    "music",
    "dialogue",
    "camera",
    "pace",
]
_FRAMES = (
    "the {thing} is {mood} and the {other} is {second}",
    "a {mood} {thing} with a {plain} {other}",
    "for all its {plain} {other} this {thing} stays {mood}",
    "it is {second} , {mood} and full of {plain} {thing}",
    "the {plain} {thing} makes for a {mood} {other}",
)


def review_rows(n: int, seed: int) -> list[tuple[str, int]]:
    """Return ``n`` rows of (sentence, label 0 or 1): the mood decides, except in about one row of twelve."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        label = rng.randrange(2)
        moods = _GOOD if label else _BAD
        words = {
            "mood": rng.choice(moods),
            "second": rng.choice(moods if rng.random() < 0.7 else _GOOD + _BAD),
            "plain": rng.choice(_PLAIN),
            "thing": rng.choice(_THINGS),
            "other": rng.choice(_THINGS),
        }
        noise = rng.random() < 0.08
        rows.append((rng.choice(_FRAMES).format(**words), 1 - label if noise else label))
    return rows


def write_csv(path: Path, rows: Iterable[Sequence[object]], columns: Sequence[str] = ("text", "label")) -> Path:
    """Write rows under a header line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def tiny_model(
    folder: Path,
    *,
    vocabulary_texts: Sequence[str] | None = None,
    hidden: int = 32,
    layers: int = 1,
    positions: int = 512,
    model_type: str = "bert",
) -> Path:
    """Save a tiny encoder with random weights and its tokenizer, like a pretrained model that was downloaded."""
    import torch
    import transformers

    from finesweep.model.from_scratch import make_scratch
    from finesweep.spec.sections import ScratchModelSpec

    texts = vocabulary_texts if vocabulary_texts is not None else [text for text, _ in review_rows(400, 0)]
    sizes = {"num_hidden_layers": layers, "num_attention_heads": 2, "max_position_embeddings": positions}
    inner = {"hidden_dim" if model_type == "distilbert" else "intermediate_size": 2 * hidden}
    folder.mkdir(parents=True, exist_ok=True)
    spec = ScratchModelSpec(config=model_type, vocab_size=500, hidden_size=hidden, **sizes, **inner)
    make_scratch(spec, texts, folder, pairs=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def tiny_classifier(folder: Path, labels: Sequence[str] | None = None, *, outputs: int = 2, **sizes: Any) -> Path:
    """Save a tiny model with random weights that is a classifier already.

    Args:
        folder: Where it goes.
        labels: Its labels in the order of its outputs; None for `LABEL_0`, `LABEL_1`, ...
        outputs: How many outputs it has, where it has no labels.
        sizes: As in ``tiny_model``.
    """
    import torch
    import transformers

    tiny_model(folder, **sizes)
    named = (
        {}
        if labels is None
        else {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    )
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=len(labels) if labels else outputs, **named)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        for parameter in model.parameters():  # texts and biases that are all alike would tell nothing of their order
            parameter.data = parameter.data * 10 + torch.randn_like(parameter) / 10
        model.save_pretrained(folder)
    return folder


def write_model_files(folder: Path, *, vocabulary: int = 20, hidden: int = 4, **config: object) -> Path:
    """Write a BERT of one layer whose weights are zeros, and its tokenizer; needs no torch."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": "bert", "vocab_size": vocabulary, "hidden_size": hidden, "max_position_embeddings": 64}
    values |= {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2 * hidden}
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    layers = int(str(config.get("num_hidden_layers", 1)))
    write_safetensors(folder / "model.safetensors", bert_shapes(vocabulary, hidden, layers))
    tokens = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **{f"t{n}": n for n in range(4, vocabulary)}}
    rules = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    words = {"type": "WordPiece", "vocab": tokens, **rules}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": words}))
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, "model_max_length": 64}))
    return folder


def bert_shapes(vocabulary: int, hidden: int, layers: int, positions: int = 64) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a BERT's tensors, without a head, as they are called in a file."""
    inner = 2 * hidden
    tables = {"word": vocabulary, "position": positions, "token_type": 2}
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, hidden) for name, rows in tables.items()
    }
    linear = {"pooler.dense": (hidden, hidden)}
    norms = ["embeddings.LayerNorm"]
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        linear |= {f"{layer}.attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")}
        linear |= {f"{layer}.attention.output.dense": (hidden, hidden)}
        linear |= {f"{layer}.intermediate.dense": (inner, hidden), f"{layer}.output.dense": (hidden, inner)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name, (rows, columns) in linear.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for name in norms:
        shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    return shapes


def write_safetensors(file: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Write float32 zeros of the given shapes in the safetensors format, by hand."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return file


def fill_hub_cache(
    cache: Path,
    model_id: str = MODEL_ID,
    dataset_id: str = DATASET_ID,
    *,
    rows: dict[str, int] | None = None,
    seed: int = 0,
) -> Path:
    """Build a Hub cache with a tiny model and a small data set in the shape of SST-2.

    Args:
        cache: What ``HF_HUB_CACHE`` will point at; with ``HF_HOME`` it is the folder ``hub`` in it.
        model_id: Id under which the model stands.
        dataset_id: Id under which the data set stands.
        rows: Rows by split; default 200 train, 60 validation, 40 test. Test labels are -1, as in SST-2.
        seed: Seed of the rows.

    Returns:
        The cache.
    """
    sizes = rows or {"train": 200, "validation": 60, "test": 40}
    model = _repository(cache, "models", model_id)
    tiny_model(model)
    data = _repository(cache, "datasets", dataset_id)
    for number, (split, count) in enumerate(sizes.items()):
        _write_parquet(data / "data" / f"{split}-00000-of-00001.parquet", review_rows(count, seed + number), split)
    (data / "README.md").write_text(_card(sizes))
    for folder in (model, data):
        _move_to_blobs(folder)
    return cache


def _repository(cache: Path, kind: str, repo_id: str) -> Path:
    commit = hashlib.sha1(repo_id.encode()).hexdigest()
    repository = cache / f"{kind}--{repo_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


def _move_to_blobs(folder: Path) -> None:
    blobs = folder.parents[1] / "blobs"
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        up = len(file.relative_to(folder).parts) + 1
        file.symlink_to(Path(*[".."] * up) / "blobs" / blob.name)


def _write_parquet(file: Path, rows: Sequence[tuple[str, int]], split: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    features = {
        "idx": {"dtype": "int32", "_type": "Value"},
        "sentence": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["negative", "positive"], "_type": "ClassLabel"},
    }
    labels = [label if split != "test" else -1 for _, label in rows]
    table = pa.table(
        {
            "idx": pa.array(range(len(rows)), pa.int32()),
            "sentence": [text for text, _ in rows],
            "label": pa.array(labels, pa.int64()),
        },
    )
    described = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": described}), file)


def _card(sizes: dict[str, int]) -> str:
    splits = "\n".join(f"  - name: {name}\n    num_examples: {count}" for name, count in sizes.items())
    files = "\n".join(f"  - split: {name}\n    path: data/{name}-*" for name in sizes)
    return f"""---
license: unknown
dataset_info:
  features:
  - name: idx
    dtype: int32
  - name: sentence
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': negative
          '1': positive
  splits:
{splits}
configs:
- config_name: default
  data_files:
{files}
---
# Reviews made up for tests
"""
