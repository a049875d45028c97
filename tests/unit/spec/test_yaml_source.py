"""What a YAML file may hold, and the message for each thing it may not (rows Y1 to Y28 of the faults)."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import SpecError
from finesweep.spec.yaml_source import MAX_BYTES, MAX_DEPTH, parse, parse_value, read
from growth import growth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("1.5e+3", 1500.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("None", "None"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("'8'", "8"),
        ('"1e-5"', "1e-5"),
        ("1e", "1e"),
        ("e5", "e5"),
        (".", "."),
        ("!!str 1", "1"),
        ("[linear, no]", ["linear", "no"]),
        ("${HOME}", "${HOME}"),
    ],
)
def test_a_scalar_is_read_as_people_mean_it(text: str, value: object) -> None:
    read_value = parse_value(text, "--set")
    assert (type(read_value), read_value) == (type(value), value)


@pytest.mark.parametrize("text", [".nan", ".NaN"])
def test_nan_is_a_number(text: str) -> None:
    assert math.isnan(parse_value(text, "--set"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_being_written(value: float) -> None:
    assert parse(f"a: {value!r}").values == {"a": value}


@given(st.integers(min_value=-(10**298), max_value=10**298))
def test_every_integer_survives_being_written(value: int) -> None:
    assert parse(f"a: {value}").values == {"a": value}


@given(st.text(max_size=40))
def test_any_text_gives_values_or_a_spec_error(text: str) -> None:
    try:
        values = parse(text, "f.yaml").values
    except SpecError as error:
        values = {"refused": error}
    assert isinstance(values, dict)
    assert str(values.get("refused", "f.yaml:")).startswith("f.yaml:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\nb:\n  x: 1\n  x: 2\n", r"f.yaml:4:3: `x` stands here twice; .* line 3", id="Y7-duplicate"),
        pytest.param("1: a\ntrue: c\n", "f.yaml:1:1: the key `1` is a number; keys are text", id="Y8-number-key"),
        pytest.param("true: c\n", "f.yaml:1:1: the key `true` is a boolean", id="Y8-boolean-key"),
        pytest.param("~: c\n", "f.yaml:1:1: the key `~` is nothing", id="Y8-null-key"),
        pytest.param("a:\n\tb: 1\n", "f.yaml:2:1: .*tab .*tabs are not allowed", id="Y11-tab"),
        pytest.param("a:\n  b: 1\n\tc: 2\n", "f.yaml:3:1: .*tab .*tabs are not allowed", id="Y11-tab-later"),
        pytest.param("", "f.yaml:1: the file is empty", id="Y16-empty"),
        pytest.param("# only a remark\n", "f.yaml:1: the file is empty", id="Y16-comments"),
        pytest.param("---\n", "f.yaml:1: the file is empty", id="Y16-empty-document"),
        pytest.param("- a\n", "f.yaml:1: expected `key: value` lines, found a list", id="Y17-list"),
        pytest.param("hello\n", "f.yaml:1: expected `key: value` lines, found text", id="Y17-scalar"),
        pytest.param("a: " + "9" * 5000, "f.yaml:1:4: a number of 5,000 characters is too long", id="Y19-digits"),
        pytest.param("[" * 5000, f"f.yaml:1:.*nested deeper than {MAX_DEPTH} levels", id="Y20-lists"),
        pytest.param("a: " + "{b: " * 5000, f"f.yaml:1:.*nested deeper than {MAX_DEPTH}", id="Y20-mappings"),
        pytest.param("a: &x 1\nb: *x\n", "f.yaml:1:4: anchors and aliases", id="Y22-alias"),
        pytest.param("a: &a [*a]", "f.yaml:1:4: anchors and aliases", id="Y22-recursive"),
        pytest.param("a: !!python/object/apply:os.system [x]", "f.yaml:1:4: the tag .*not allowed", id="Y25-python"),
        pytest.param("a: !foo 1", "f.yaml:1:4: the tag !foo is not allowed", id="Y25-foo"),
        pytest.param("!foo\na: 1", "f.yaml:1:1: the tag !foo is not allowed", id="Y25-top"),
        pytest.param("? [1, 2]\n: 3\n", "f.yaml:1:3: a key must be plain text", id="Y28-list-key"),
        pytest.param("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document", id="two-documents"),
        pytest.param("a: {b: 1\nc: 2\n", "f.yaml:2:2: not YAML", id="unclosed"),
        pytest.param("a: b: c\n", "f.yaml:1:5: not YAML", id="two-colons"),
        pytest.param("a: @x\n", "f.yaml:1:4: not YAML", id="reserved"),
        pytest.param("a: ä\nb: \x00\n", "f.yaml:2: the character 0x00 is not allowed", id="control"),
        pytest.param('a: "\\0"\n', "f.yaml:1:4: the character 0x00 is not allowed", id="escaped-null"),
        pytest.param("a: \udcff\n", "f.yaml: not UTF-8", id="surrogate"),
        pytest.param("#" * (MAX_BYTES + 1), r"f.yaml: the file has 1,000,001 characters", id="too-long"),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"^{message}"):
        parse(text, "f.yaml")


@pytest.mark.parametrize(
    "text",
    [lambda size: "[" * size, lambda size: "a: " + "x" * size, lambda size: "a: [" + "1, " * (size // 3) + "1]"],
    ids=["brackets", "word", "list"],
)
def test_hostile_text_costs_no_more_than_its_length(text: Callable[[int], str]) -> None:
    def read_it(size: int) -> None:
        with contextlib.suppress(SpecError):
            parse(text(size))

    assert growth(read_it, MAX_BYTES // 100, MAX_BYTES // 10) < 40, "100 would be quadratic"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_that_editors_write_are_read(tmp_path: Path, encoding: str, newline: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(f"a: 1{newline}b: äß{newline}".encode(encoding))
    source = read(file)
    assert source.values == {"a": 1, "b": "äß"}
    assert source.where("b") == f"{file}:2 b"


def test_latin_1_is_refused_with_line_and_byte(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(SpecError, match=r"f.yaml:2: not UTF-8 at byte 8 \(save the file as UTF-8\)"):
        read(file)


def test_a_missing_file_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "bert.yaml").write_text("a: 1\n")
    with pytest.raises(SpecError, match=r"bort.yaml: no such file \(did you mean bert.yaml\?\)"):
        read(tmp_path / "bort.yaml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="this is a folder"):
        read(tmp_path)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(SpecError, match="the name is too long"):
        read(Path("x" * 5000))


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "f.yaml").write_text("a: 1\n")
    assert read(Path("~/f.yaml")).values == {"a": 1}


def test_a_tilde_that_names_nobody_is_part_of_the_name() -> None:
    with pytest.raises(SpecError, match=r"~nobody-of-that-name/f\.yaml: no such file"):
        read(Path("~nobody-of-that-name/f.yaml"))


def test_every_key_and_entry_knows_its_line() -> None:
    source = parse("a: 1\nb:\n  c: [x,\n    y]\n", "f.yaml")
    assert source.where("b", "c", 1) == "f.yaml:4 b.c.1"
    assert source.where("b", "c", "lost") == "f.yaml:3 b.c.lost"
    assert source.where("lost") == "f.yaml:1 lost"
    assert source.where() == "f.yaml:1"


def test_a_place_is_safe_to_print() -> None:
    assert parse("a: 1", "f.yaml").where("\x1b[31m", "x" * 500).startswith("f.yaml:1 \\x1b[31m.xxx")
    assert len(parse("a: 1", "f.yaml").where("x" * 500)) < 100
