from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vllmd.configuration.lines import Statement, lines, statements

FILE = '''\
# comment = 1
a = 1
b.c = "x # no comment = 2" # comment
"d e" = """
f = 1 \\""" ""
g = 2""""
'h.i' . j = \'\'\'
k = \'\'\'

[ table ] # [not] this
l = [ # [
  1, "]", [2,
  3], # ]
]
m = { n = 1, o = "}" }
[table.'sub.table']
p = 1979-05-27T07:32:00Z
[[array]]
q = \'\\\'
[[array]]
q = """"two quotes: \\""""""
'''


def test_each_key_is_found_on_its_line() -> None:
    """Whatever looks like one in texts, lists and comments."""
    tomllib.loads(FILE)

    assert statements(FILE) == [
        Statement(2, ("a",)),
        Statement(3, ("b", "c")),
        Statement(4, ("d e",)),
        Statement(7, ("h.i", "j")),
        Statement(10, ("table",)),
        Statement(11, ("table", "l")),
        Statement(15, ("table", "m")),
        Statement(16, ("table", "sub.table")),
        Statement(17, ("table", "sub.table", "p")),
        Statement(18, ("array",)),
        Statement(19, ("array", "q")),
        Statement(20, ("array",)),
        Statement(21, ("array", "q")),
    ]


def test_what_stands_around_a_key_is_where_it_first_is() -> None:
    """A table that nobody opened is where the first of it is."""
    found = lines(FILE)

    assert (found[("b",)], found[("array",)], found[("table", "sub.table")]) == (3, 18, 16)


def test_carriage_returns_are_no_lines_of_their_own() -> None:
    """Files of editors on other systems have them before each newline."""
    assert lines("a = 1\r\n\r\nb = [\r\n1]\r\nc = 3\r\n") == {("a",): 1, ("b",): 3, ("c",): 5}


def test_what_is_not_closed_takes_all_that_follows() -> None:
    """So an error at the end is told with the key where it began."""
    assert [one.line for one in statements("a = 1\nb = [\n1,\nc = 2\n")] == [1, 2]
    assert [one.line for one in statements('a = 1\nb = """\n1,\nc = 2\n')] == [1, 2]


KEYS = st.text("abcXYZ019_-", min_size=1, max_size=4)
TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"], include_characters=" \"'\\#[]{}=,\t"))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


VALUES = st.one_of(
    st.integers().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    TEXTS.map(quoted),
    st.lists(TEXTS.map(quoted), max_size=3).map(lambda texts: "[\n# ] comment\n" + ",\n".join(texts) + "\n]"),
    TEXTS.map(lambda text: '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '\nx = 1"""'),
    TEXTS.filter(lambda text: "'" not in text).map(lambda text: f"'''\n{text}\n'''"),
)


@given(st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=3)), max_size=5), st.data())
def test_any_file_is_read_as_tomllib_reads_it(contents: dict[str, Any], data: st.DataObject) -> None:
    """The keys are the same, and on each line that is told the key stands first."""
    written = []
    for name, value in sorted(contents.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            written.append(f"[{name}] # {name}")
            written += [f"  {key} = {one}" for key, one in value.items()]
        else:
            written.append(f"{name}={value} # x = 1")
        written += [""] * data.draw(st.integers(0, 2))
    text = "\n".join(written)
    parsed = tomllib.loads(text)
    keys = {(name,) for name in parsed} | {
        (name, key) for name, value in parsed.items() if isinstance(value, dict) for key in value
    }
    found = lines(text)

    assert set(found) == keys
    assert all(text.split("\n")[line - 1].lstrip(" [").startswith(key[-1]) for key, line in found.items())


@given(st.text("ab=[]{}\"'.#\\\n \r1", max_size=40))
def test_no_text_stops_it(text: str) -> None:
    """What is no TOML is read as far as that goes, and in order."""
    found = [one.line for one in statements(text)]

    assert found == sorted(found)
