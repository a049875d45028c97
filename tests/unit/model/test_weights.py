import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from finesweep.model.weights import INDEX, SINGLE, WeightsFault, not_finite, read_weights, tensors_in


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


def write_numbers(file, dtype, kind, numbers):
    numpy = pytest.importorskip("numpy")
    data = numpy.array(numbers, kind).tobytes()
    size = len(data) // len(numbers)
    entry = {"dtype": dtype, "shape": [len(data) // size], "data_offsets": [0, len(data)]}
    header = json.dumps({"x": entry}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return tensors_in(file)


@pytest.mark.parametrize(
    ("dtype", "kind", "broken", "largest"),
    [
        ("F64", "<u8", (0x7FF8 << 48, 0xFFF0 << 48), 0x7FEF_FFFF_FFFF_FFFF),
        ("F32", "<u4", (0x7FC0_0000, 0xFF80_0000), 0x7F7F_FFFF),
        ("F16", "<u2", (0x7E00, 0xFC00), 0x7BFF),
        ("BF16", "<u2", (0x7FC0, 0xFF80), 0x7F7F),
    ],
)
def test_nan_and_infinity_are_found_wherever_they_are(tmp_path, monkeypatch, dtype, kind, broken, largest):
    monkeypatch.setattr("finesweep.model.weights.CHUNK", 64)
    sound = [0, largest, 1] * 30
    assert list(not_finite(write_numbers(tmp_path / SINGLE, dtype, kind, sound))) == []
    for number, place in itertools.product(broken, (0, 40, 89)):
        numbers = [*sound[:place], number, *sound[place + 1 :]]
        assert list(not_finite(write_numbers(tmp_path / SINGLE, dtype, kind, numbers))) == ["x"]


def test_whole_numbers_hold_no_nan(tmp_path):
    assert list(not_finite(write_numbers(tmp_path / SINGLE, "I32", "<u4", [0x7FC0_0000]))) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [3]}, "x in model.safetensors has another size than its shape"),
        ({"dtype": "F64"}, "x in model.safetensors has another size than its shape"),
        ({"data_offsets": [-8, 8]}, "the header of model.safetensors cannot be read"),
        ({"data_offsets": [8, 0]}, "the header of model.safetensors cannot be read"),
        ({"data_offsets": [8]}, "the header of model.safetensors cannot be read"),
    ],
)
def test_a_header_that_contradicts_itself_is_damage(tmp_path, changes, message):
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}).encode()
    (tmp_path / SINGLE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(WeightsFault, match=message):
        read_weights(tmp_path)
