import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from finesweep.weights_file import INDEX, SINGLE, WeightsFault, read_weights, tensors_in


def shapes(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


SHAPES = {"a.weight": (3, 4), "b": (5,), "c": ()}


def test_shapes_of_a_whole_file(tmp_path):
    file = tiny.write_safetensors(tmp_path / SINGLE, SHAPES)
    assert shapes(tensors_in(file)) == SHAPES
    assert read_weights(tmp_path).files == (file,)


def test_a_file_that_the_library_wrote(tmp_path):
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    save_file({"x": numpy.zeros((2, 3), "float32")}, tmp_path / SINGLE, metadata={"format": "pt"})
    assert shapes(tensors_in(tmp_path / SINGLE)) == {"x": (2, 3)}


@given(data=st.data())
def test_any_other_length_is_damage(data, tmp_path_factory):
    file = tiny.write_safetensors(tmp_path_factory.mktemp("weights") / SINGLE, SHAPES)
    content = file.read_bytes()
    length = data.draw(st.integers(0, len(content) + 50).filter(lambda n: n != len(content)))
    file.write_bytes((content + bytes(50))[:length])
    with pytest.raises(WeightsFault, match=rf"weights file damaged: model.safetensors has {length} bytes, expected"):
        tensors_in(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes, expected 8 or more"),
        ((2**62).to_bytes(8, "little") + b"{}", r"has 10 bytes, expected 4,611,686,018,427,387,912 or more"),
        ((100).to_bytes(8, "little") + b"{}", "has 10 bytes, expected 108 or more"),
        ((2).to_bytes(8, "little") + b"[]", "header of model.safetensors cannot be read"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "header of model.safetensors cannot be read"),
        ((9).to_bytes(8, "little") + b'{"a": {}}', "header of model.safetensors cannot be read"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "header of model.safetensors cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, message):
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(WeightsFault, match=message):
        read_weights(tmp_path)


def shard(folder, **weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_shards_are_read_together(tmp_path):
    tiny.write_safetensors(tmp_path / "model-1.safetensors", {"a": (2,)})
    tiny.write_safetensors(tmp_path / "model-2.safetensors", {"b": (3,)})
    shard(tmp_path, a="model-1.safetensors", b="model-2.safetensors")
    weights = read_weights(tmp_path)
    assert shapes(weights.tensors) == {"a": (2,), "b": (3,)}
    assert [file.name for file in weights.files] == [INDEX, "model-1.safetensors", "model-2.safetensors"]


def test_a_missing_shard_is_named(tmp_path):
    tiny.write_safetensors(tmp_path / "model-1.safetensors", {"a": (2,)})
    shard(tmp_path, a="model-1.safetensors", b="model-2.safetensors")
    with pytest.raises(WeightsFault, match=r"1 of 2 weights files are missing: model-2.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/tmp/outside.safetensors",
        "sub/inside.safetensors",
        "..\\outside.safetensors",
        "\\\\server\\share\\x.safetensors",
        "C:outside.safetensors",
        "file:outside.safetensors",
        "~/x.safetensors",
        "model.bin",
        ".safetensors",
        "x.safetensors\n",
        "x.safetensors\0",
        "",
        7,
        None,
    ],
)
def test_shards_outside_the_folder_are_refused(tmp_path, name):
    outside = tmp_path / "outside.safetensors"
    tiny.write_safetensors(outside, {"a": (2,)})
    folder = tmp_path / "model"
    folder.mkdir()
    shard(folder, a=name)
    with pytest.raises(WeightsFault, match="only files of the folder itself are read"):
        read_weights(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": []}}', "[" * 200_000])
def test_an_index_that_is_none(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(WeightsFault, match=r"index.json cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ("pytorch_model.bin", "the weights are in pytorch_model.bin, which can hold code", "save_pretrained"),
        ("pytorch_model-00001-of-00002.bin", "which can hold code", "save_pretrained"),
        ("model.gguf", "a GGUF file cannot be trained", "original model"),
        ("notes.txt", "no weights in the folder; expected model.safetensors", ""),
    ],
)
def test_folders_without_safetensors(tmp_path, file, message, hint):
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(WeightsFault, match=message) as caught:
        read_weights(tmp_path)
    assert hint in caught.value.hint
