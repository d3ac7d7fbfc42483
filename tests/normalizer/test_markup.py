# ruff: noqa: E501 - one page a line
"""HTML from strangers: what a person reads in it, and what may be shown of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normalizer.markup import OBJECT, WITHHELD, safe_html, to_text

READ = {
    "blocks": ("<div>a</div><div>b</div>", "a\nb"),
    "paragraphs": ("<p>a</p><p>b</p>", "a\n\nb"),
    "line breaks": ("a<br>b<br><br>c", "a\nb\n\nc"),
    "white space": ("<p>  a \n  b\t c </p>", "a b c"),
    "preformatted": ("<pre>a\n  b</pre>", "a\n  b"),
    "bullets": ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
    "numbers": ("<ol><li>a<li>b</ol>", "1. a\n2. b"),
    "lists in lists": ("<ol><li>a<ul><li>x</ul><li>b</ol>", "1. a\n- x\n2. b"),
    "tables": ("<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc"),
    "rules": ("a<hr>b", "a\n---\nb"),
    "entities": ("&lt;b&gt; &amp; &#20320;&nbsp;x", "<b> & 你\xa0x"),
    "links": ('<a href="https://x.cn/a">here</a>', "here <https://x.cn/a>"),
    "links that show where": ('<a href="https://x.cn/">https://x.cn</a>', "https://x.cn"),
    "links that only look so": (
        '<a href="https://evil.cn/">https://bank.cn</a>',
        "https://bank.cn <https://evil.cn/>",
    ),
    "links to mailboxes": ('<a href="mailto:a@b.cn">a@b.cn</a>', "a@b.cn"),
    "links that run": ('<a href="javascript:x()">x</a>', "x"),
    "emoji as pictures": ('ok<img src="https://x.cn/e.png" alt="😀">', "ok😀"),
    "head, style, script": ("<head><title>t</title></head><style>s</style><script>s</script>x", "x"),
    "comments": ("a<!-- b -->c<!--[if mso]>d<![endif]-->", "ac"),
    "hidden": ('<p style="DISPLAY : none">h</p><p hidden>h</p><p>x</p>', "x"),
    "size zero on a wrapper": ('<td style="font-size:0"><p style="font-size:14px">x</p></td>', "x"),
    "quotations": ("a<blockquote type=cite>b<blockquote type=cite>c</blockquote></blockquote>", "a\n> b\n> > c"),
    "indented by quoting": ("a<blockquote>b</blockquote>", "a\nb"),
    "formatting across blocks": ("<b>a<p>b</b>c</p>d", "a\n\nbc\n\nd"),
    "tags never closed": ("<div><b>a<i>b<div>c", "ab\nc"),
    "an object sign of theirs": (f"a{OBJECT}b", "ab"),
    "nothing": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_page_reads_as_it_is_seen(name: str) -> None:
    markup, text = READ[name]
    assert to_text(markup).text == text


def test_pictures_of_the_mail_have_their_places() -> None:
    found = to_text('a<img src="cid:one@x">b<img src="CID:two">')
    assert found.text == f"a\n{OBJECT}\nb\n{OBJECT}"
    assert found.objects == ("one@x", "two")


SAFE = {
    "scripts": ("<script>x</script><p onclick=x>a</p>", "<p>a</p>"),
    "script links": ('<a href="javascript:x()">a</a>', '<a rel="noopener noreferrer nofollow">a</a>'),
    "forms": ("<form action=x><input><button>b</button></form>", "b"),
    "frames": ("<iframe src=//x></iframe><object data=x></object>a", "a"),
    "svg": ("<svg><script>x</script></svg>a", "a"),
    "style sheets": ("<style>p{}</style><link rel=x href=y>a", "a"),
    "styles that load": ('<p style="background:url(https://x)">a</p>', "<p>a</p>"),
    "styles that overlay": ('<p style="position:fixed;color:red">a</p>', '<p style="color:red">a</p>'),
    "remote pictures": ('<img src="https://t.cn/x">', f'<img src="{WITHHELD}https://t.cn/x">'),
    "pictures of the mail": ('<img src="cid:a@b">', '<img src="cid:a@b">'),
    "pictures in the page": ('<img src="data:image/png;base64,AA">', "<img>"),
    "formatting": ('<font color="red"><b>a</b></font>', '<font color="red"><b>a</b></font>'),
    "sets of pictures": ('<img srcset="https://t.cn/x 2x">', "<img>"),
    "backgrounds": ('<table background="https://t.cn/x"></table>', "<table></table>"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAFE)
def test_a_page_is_safe_to_show(name: str) -> None:
    markup, safe = SAFE[name]
    assert safe_html(markup).html == safe


PIECES = st.sampled_from(
    [
        "<p>", "</p>", "<b>", "</b>", "<a href='https://x.cn/'>", "</a>", "<img src=cid:x>", "text",
        "<div style='display:none'>", "</div>", "<blockquote type=cite>", "</blockquote>", "<!--",
        "-->", "<script>", "</script>", "<table>", "<td>", "<li>", "&amp;", "<x-b>", "'", '"', "<",
        "<img src=https://t.cn/x onerror=x>", "<svg>", "<style>", "<br>", OBJECT, "\x00", "\ud800",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=200))
def test_any_page_is_read_and_nothing_in_it_acts(markup: str) -> None:
    found = to_text(markup)
    assert found.text.count(OBJECT) == len(found.objects)
    for start, end in found.quoted:
        assert 0 <= start <= end <= len(found.text)
    safe = safe_html(markup).html
    assert safe_html(safe).withheld == 0  # nothing remote is left
    assert "<script" not in safe
    assert '<img src="http' not in safe
