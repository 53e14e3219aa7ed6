"""Names of files, columns and values, where they are shown."""

import os
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from digitrec.shown import fenced, in_markdown, printable, printable_lines

HOSTILE = [
    "a\x1b[31mred\x1b[0m.csv",
    "a\x9b31m.csv",
    "line\nfeed.csv",
    "carriage\rreturn",
    "\u202egnp.exe",
    "\u2066isolate\u2069",
    "next\u2028line",
    "zero\u200bwidth",
    "a\x00b",
    "a`b```c",
    "```\n![t](https://evil.example/p.png)",
    "![t](https://evil.example/p.png)",
    "[a](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<https://evil.example>",
    "https://evil.example/ www.evil.example a@evil.example",
    "a|b|c",
    "**bold** _it_ ~~gone~~ &amp; &#60; \\* $x$",
    "- a list",
    "1. a list",
    "# a title",
    "    indented",
    "> quoted",
    "--- ",
    "= ",
    "trailing\\",
    os.fsdecode(b"latin-\xe9.csv"),
]
TEXTS = st.text(alphabet=st.one_of(st.characters(), st.sampled_from(string.punctuation + " \n")), max_size=40)
MARKDOWN = MarkdownIt("gfm-like", {"html": True, "linkify": False})


def plain(html: str) -> str:
    """The text that a browser would show of HTML that holds nothing but references."""
    for reference, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        html = html.replace(reference, character)
    return html


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_but_visible_characters_and_blanks_is_printed(text: str) -> None:
    """Control characters, bidirectional marks, line ends and bytes that are no UTF-8 become escapes."""
    shown = printable(text)
    assert shown.isprintable()
    assert "\n" not in shown
    shown.encode()


def test_an_escape_says_which_character_it_was() -> None:
    """What is shown can be looked up, and a byte of a name is shown as that byte."""
    assert printable("a\x1b[31m\n\t\u202eß") == r"a\x1b[31m\n\t\u202eß"
    assert printable(os.fsdecode(b"\xe9\xff")) == r"\xe9\xff"
    assert printable("\U000e0001") == r"\U000e0001"


def test_what_is_harmless_stays_as_it_is() -> None:
    """Names in any alphabet are readable."""
    for name in ("train.csv", "Grüße aus Köln.csv", "手書き数字.csv", "C:\\digits\\1.csv"):
        assert printable(name) == name


@given(TEXTS, st.integers(1, 30))
def test_what_is_too_long_is_cut_between_characters(text: str, limit: int) -> None:
    """The limit holds, no escape is cut in two, and twice is the same as once."""
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert printable(shown) == shown
    whole = printable(text)
    if shown != whole:
        kept = shown.removesuffix("…")
        assert whole.startswith(kept)
        assert kept in {printable(text[:end]) for end in range(len(text) + 1)}


def test_only_our_own_line_ends_stay() -> None:
    """A trace keeps its lines, and nothing else passes."""
    assert printable_lines("one\r\ntwo\x1b") == "one\\r\ntwo\\x1b"


@given(TEXTS)
@example("![t](https://evil.example/p.png)")
@example("- - 1. x")
def test_markdown_shows_the_text_and_nothing_else(text: str) -> None:
    """In a paragraph and in a list, as a renderer with tables, HTML and links by sight sees it."""
    expected = re.sub(" +$", "", printable(text))
    for template, before, after in (
        ("- {}", "<ul>\n<li>", "</li>\n</ul>\n"),
        ("x {} y", "<p>x ", " y</p>\n"),
        ("{}", "<p>", "</p>\n"),
    ):
        if not expected.strip() and "x" not in template:
            continue
        html = MARKDOWN.render(template.format(in_markdown(text)))
        assert html.startswith(before)
        assert html.endswith(after)
        inner = html.removeprefix(before).removesuffix(after)
        assert "<" not in inner
        assert plain(inner).rstrip() == (printable(text) if "y" in template else expected).rstrip()


def test_no_address_becomes_a_link_by_its_looks() -> None:
    """GitHub's Markdown links whatever looks like an address (GFM 6.9); what it looks for is not there."""
    source = in_markdown("https://evil.example ftp://evil.example WWW.evil.example mailto:a@evil.example")
    assert not re.search(r"(?<!\\):|www\.|(?<!\\)@", source, re.IGNORECASE)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_of_a_table_stays_one_cell(text: str) -> None:
    """No name adds a column, a row, or anything but text."""
    html = MARKDOWN.render(f"| a | b |\n|---|---|\n| {in_markdown(text)} | 1 |\n")
    cells = re.findall("<td>(.*?)</td>", html, re.DOTALL)
    assert [plain(cell).strip() for cell in cells] == [printable(text).strip(), "1"]


@given(st.lists(TEXTS, max_size=5))
@example(["```", "![t](https://evil.example/p.png)", "````` ~~~~"])
def test_no_line_leaves_its_block(lines: list[str]) -> None:
    """Everything is inside one block of code, as it is."""
    html = MARKDOWN.render(fenced(lines))
    shown = "".join(f"{printable(line)}\n" for line in lines)
    assert html.count("<pre>") == 1
    assert html.endswith("</code></pre>\n")
    inner = html.removeprefix('<pre><code class="language-text">').removesuffix("</code></pre>\n")
    assert "<" not in inner
    assert plain(inner) == shown
