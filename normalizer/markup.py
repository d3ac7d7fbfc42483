"""HTML from strangers: read as text in the order a person sees it, and made safe to show.

:func:`to_text` keeps blocks, lists, link targets and where pictures stand; what is hidden, styled
away or scripted is dropped. :func:`safe_html` keeps an allow-list of tags, and no remote picture:
those wait behind :data:`WITHHELD` until somebody asks for them.

The parsers below take time with the square of the depth of tags and of the number of attributes
of one tag. So both are counted first, and the rest of what is hostile is read as bare text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

import nh3
from selectolax.lexbor import LexborHTMLParser, LexborNode

from normalizer.media import safe_url
from normalizer.text import well_formed

OBJECT = "\ufffc"  # Unicode's own sign for "something that is not text stands here"
WITHHELD = "about:blank#"  # in front of the address of a remote picture: nothing is fetched

MAX_CHARS = 1_000_000
MAX_SAFE_CHARS = 300_000  # cleaning takes longer than reading
MAX_TAGS = 12_000
MAX_ATTRIBUTES = 200  # of one tag
MAX_LINKS = 500
MAX_CITES = 10  # quotations within quotations that are shown as such

# What a mail program writes around what is answered (contracts/email.md section 5).
_QUOTING_CLASSES = frozenset(
    {"gmail_quote", "ntes-mailmaster-quote", "yahoo_quoted", "moz-cite-prefix", "protonmail_quote"}
)
# In these an answer may stand as well: behind the first quotation and between the others.
_QUOTING_AND_ANSWERING = frozenset({"gmail_quote", "protonmail_quote"})
_QUOTING_TAGS = frozenset({"includetail"})
_QUOTED_FROM_HERE = frozenset({"divrplyfwdmsg", "appendonsend", "mail-editor-reference-message"})

_DROPPED = frozenset(
    {
        "script", "style", "head", "title", "noscript", "template", "svg", "math", "object",
        "iframe", "select", "option", "audio", "video", "canvas", "-comment", "-doctype",
    }
)  # fmt: skip
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "center", "dd", "div", "dl", "dt",
        "fieldset", "figure", "footer", "form", "header", "includetail", "li", "main", "nav",
        "ol", "section", "table", "tbody", "tfoot", "thead", "tr", "ul",
    }
)  # fmt: skip
_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "pre"})
_HIDDEN = re.compile(r"(?:display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden)", re.I)
_SPACE = re.compile(r"[ \t\r\n\f]+")


class HtmlText(NamedTuple):
    """``text`` has :data:`OBJECT` where a picture of the same mail stands; ``objects`` names them.

    ``quoted`` are the ranges of ``text`` that the markup itself calls a quotation.
    """

    text: str
    objects: tuple[str, ...] = ()
    quoted: tuple[tuple[int, int], ...] = ()
    whole: bool = True  # False: too large or too deep, the end was read as bare text


def to_text(markup: str) -> HtmlText:
    """Return what a person reads in ``markup``. Never raises; takes bounded time."""
    tame, rest = _tame(well_formed(markup))
    reader = _Reader()
    root = LexborHTMLParser(_plain_elements(tame)).root
    if root is not None:
        reader.read(root)
    if rest:
        reader.line_end(2)
        reader.say(bare_text(rest))
    text, quoted = reader.finish()
    return HtmlText(text, tuple(reader.objects), quoted, not rest)


def bare_text(markup: str) -> str:
    """Return ``markup`` without its tags, where it is not worth or not safe to parse it."""
    return html.unescape(re.sub(r"<[^<>]{0,2000}>", " ", markup)).replace(OBJECT, "")


_OPEN = re.compile(r"<[a-zA-Z][^\s>/]*")
_ATTRIBUTE = re.compile(
    r"""[\s/]*[^\s/>][^\s/>=]*(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s>"']?[^\s>]*))?"""
)


def _tame(markup: str, limit: int = MAX_CHARS) -> tuple[str, str]:
    """Return the start of ``markup`` that may be given to a parser, and the rest."""
    end = min(len(markup), limit)
    at = tags = 0
    while (found := _OPEN.search(markup, at, end)) is not None:
        tags += 1
        if tags > MAX_TAGS:
            return markup[: found.start()], markup[found.start() :]
        at = found.end()
        for _ in range(MAX_ATTRIBUTES):
            attribute = _ATTRIBUTE.match(markup, at, end)
            if attribute is None:
                break
            at = attribute.end()
        else:
            return markup[: found.start()], markup[found.start() :]
    return markup[:end], markup[end:]


# A parser repeats every formatting element that is open in each new paragraph, which makes a
# page grow with its square. Under names that it does not know they are elements like others.
_FORMATTING = re.compile(
    r"<(/?)(b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)(?=[\s/>])", re.IGNORECASE
)
_RENAMED = re.compile(r"<(/?)x-([a-z]{1,6})(?=[\s/>])")


def _plain_elements(markup: str) -> str:
    return _FORMATTING.sub(r"<\1x-\2", markup)


class _Reader:
    """Walks a parsed page once and writes lines; see :meth:`finish`."""

    def __init__(self) -> None:
        self.objects: list[str] = []
        self._lines: list[tuple[str, bool, int]] = []  # text, quoted by markup, cite depth
        self._line: list[str] = []
        self._quoted = 0
        self._line_quoted = False
        self._from_here = False
        self._cites = 0
        self._answering: list[tuple[int, bool]] = []  # depth of cites outside, nothing cited yet
        self._links = 0
        self._numbers: list[int] = []  # the next number of each list we are in, 0 for bullets
        self._pre = 0

    # --- walking -----------------------------------------------------------------------------

    def read(self, root: LexborNode) -> None:
        for node, enters in _steps(root):
            if enters:
                self._enter(node)
            else:
                self._leave(node)

    def _enter(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "-text":
            text = (node.text_content or "").replace(OBJECT, "")
            self.say(text) if self._pre else self.say(_SPACE.sub(" ", text))
        elif tag == "br":
            self.line_end(1, force=True)
        elif tag == "hr":
            self.line_end(1)
            self.say("---")
            self.line_end(1)
        elif tag == "img":
            self._image(node)
        elif tag in ("td", "th"):
            self.say(" ")
        elif tag in _PARAGRAPHS:
            self.line_end(2)
            self._pre += tag == "pre"
        elif tag in _BLOCKS:
            self._block(node, tag)
        if _marks_the_end(node):
            self.line_end(1)
            self._from_here = True

    def _block(self, node: LexborNode, tag: str) -> None:
        self.line_end(1)
        if _is_quotation(node):
            self._quoted += 1
        if _may_hold_answers(node):
            self._answering.append((self._cites, True))
        if tag == "blockquote":
            self._cites += _is_cite(node)
        elif tag in ("ol", "ul"):
            self._numbers.append(1 if tag == "ol" else 0)
        elif tag == "li" and self._numbers:
            number = self._numbers[-1]
            self.say(f"{number}. " if number else "- ")
            if number:
                self._numbers[-1] += 1

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag == "a":
            self._link(node)
        elif tag in _PARAGRAPHS:
            self.line_end(2)
            self._pre -= tag == "pre"
        elif tag in _BLOCKS:
            self.line_end(1)
            if _is_quotation(node):
                self._quoted -= 1
            if _may_hold_answers(node) and not self._answering.pop()[1]:
                self._quoted += 1  # it was left with its first quotation
            if tag == "blockquote" and _is_cite(node):
                self._cites -= 1
                if self._answering and self._answering[-1] == (self._cites, True):
                    self._answering[-1] = (self._cites, False)
                    self._quoted -= 1
            if tag in ("ol", "ul"):
                self._numbers.pop()

    def _image(self, node: LexborNode) -> None:
        source = (node.attributes.get("src") or "").strip()
        if source[:4].lower() == "cid:":
            self.objects.append(source[4:].strip("<> "))
            self.line_end(1)
            self.say(OBJECT)
            self.line_end(1)
            return
        alt = (node.attributes.get("alt") or "").strip()
        if alt and len(alt) <= 200:
            self.say(alt.replace(OBJECT, ""))

    def _link(self, node: LexborNode) -> None:
        url = safe_url(node.attributes.get("href") or "")
        said = "".join(self._line[-8:])
        if not url or url.lower().startswith(("mailto:", "tel:")) or self._links >= MAX_LINKS:
            return
        shown = re.sub(r"^https?://", "", url).rstrip("/")
        if shown not in said and len(url) <= 1000:
            self._links += 1
            self.say(f" <{url}>")

    # --- writing -----------------------------------------------------------------------------

    def say(self, text: str) -> None:
        if not text:
            return
        if not self._line:
            self._line_quoted = self._quoted > 0 or self._from_here
        if "\n" in text:
            first, *others = text.split("\n")
            self._line.append(first)
            for other in others:
                self.line_end(1, force=True)
                self._line.append(other)
                self._line_quoted = self._quoted > 0 or self._from_here
        else:
            self._line.append(text)

    def line_end(self, ends: int, *, force: bool = False) -> None:
        text = "".join(self._line)
        text = text.rstrip() if self._pre else " ".join(text.split(" ")).strip(" ")
        quoted = self._quoted > 0 or self._from_here
        if text:
            self._lines.append((text, self._line_quoted, self._cites))
        elif force:
            self._lines.append(("", quoted, self._cites))
        if ends > 1 and self._lines and self._lines[-1][0]:
            self._lines.append(("", quoted, self._cites))
        self._line = []

    def finish(self) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Return the text, at most two empty lines in a row, and its quoted ranges."""
        self.line_end(1)
        out: list[str] = []
        ranges: list[tuple[int, int]] = []
        at = empty = 0
        for text, quoted, cites in self._lines:
            empty = 0 if text else empty + 1
            if empty > 2 or (not out and not text):
                continue
            line = (
                ("> " * min(cites, MAX_CITES) + text) if cites and text != OBJECT else text
            ) + "\n"
            out.append(line)
            if quoted:
                if ranges and ranges[-1][1] == at:
                    ranges[-1] = (ranges[-1][0], at + len(line))
                else:
                    ranges.append((at, at + len(line)))
            at += len(line)
        whole = "".join(out).rstrip("\n")
        kept = [(start, min(end, len(whole))) for start, end in ranges if start < len(whole)]
        return whole, tuple(kept)


def _steps(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Yield each node when it is entered and when it is left; hidden ones not at all."""
    stack: list[tuple[LexborNode, bool]] = [(root, True)]
    while stack:
        node, enters = stack.pop()
        yield node, enters
        if not enters:
            continue
        stack.append((node, False))
        children: list[LexborNode] = []
        child = node.child
        while child is not None:
            if child.tag == "-text" or not _is_hidden(child):
                children.append(child)
            child = child.next
        stack.extend((each, True) for each in reversed(children))


def _is_hidden(node: LexborNode) -> bool:
    if node.tag in _DROPPED:
        return True
    attributes = node.attributes
    if not attributes:
        return False
    return "hidden" in attributes or bool(_HIDDEN.search(attributes.get("style") or ""))


def _is_cite(node: LexborNode) -> bool:
    return (node.attributes.get("type") or "").lower() == "cite" or "gmail_quote" in (
        node.attributes.get("class") or ""
    )


def _is_quotation(node: LexborNode) -> bool:
    attributes = node.attributes
    if node.tag in _QUOTING_TAGS:
        return True
    if not attributes:
        return False
    if node.tag == "blockquote" and _is_cite(node):
        return True
    if (attributes.get("id") or "").lower().startswith("isreplycontent"):
        return True
    return not _QUOTING_CLASSES.isdisjoint((attributes.get("class") or "").lower().split())


def _may_hold_answers(node: LexborNode) -> bool:
    if node.tag != "div":
        return False
    classes = (node.attributes.get("class") or "").lower().split()
    return not _QUOTING_AND_ANSWERING.isdisjoint(classes)


def _marks_the_end(node: LexborNode) -> bool:
    if node.tag not in ("div", "hr", "span", "a"):
        return False
    return (node.attributes.get("id") or "").lower() in _QUOTED_FROM_HERE


# --- showing ---------------------------------------------------------------------------------

_TAGS = {
    "a", "abbr", "address", "bdi", "blockquote", "br", "caption", "center", "cite", "col",
    "colgroup", "dd", "del", "div", "dl", "dt", "figcaption", "figure", "h1", "h2", "h3", "h4",
    "h5", "h6", "hr", "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "q", "samp", "span",
    "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "var", "wbr",
    "x-b", "x-big", "x-code", "x-em", "x-font", "x-i", "x-s", "x-small", "x-strike", "x-strong",
    "x-tt", "x-u",
}  # fmt: skip
_ATTRIBUTES = {
    "*": {"style", "dir", "align", "valign", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "x-font": {"color", "size", "face"},
    "table": {"width", "border", "cellpadding", "cellspacing", "bgcolor"},
    "td": {"width", "height", "colspan", "rowspan", "bgcolor"},
    "th": {"width", "height", "colspan", "rowspan", "bgcolor"},
    "col": {"width", "span"},
    "ol": {"start", "type"},
}
# Nothing that positions, overlays or loads.
_STYLES = {
    "background-color", "border", "border-bottom", "border-collapse", "border-left",
    "border-right", "border-spacing", "border-top", "color", "font-family", "font-size",
    "font-style", "font-weight", "line-height", "list-style-type", "margin", "margin-bottom",
    "margin-left", "margin-right", "margin-top", "max-width", "padding", "padding-bottom",
    "padding-left", "padding-right", "padding-top", "text-align", "text-decoration",
    "text-indent", "vertical-align", "white-space", "width", "word-break",
}  # fmt: skip
_LOADS = re.compile(r"url|image|expression|@import|\\", re.I)


class SafeHtml(NamedTuple):
    """``withheld`` counts the remote pictures that were not let through."""

    html: str
    withheld: int = 0


def safe_html(markup: str) -> SafeHtml:
    """Return ``markup`` as far as it may be shown in a sandboxed frame.

    No scripts, forms, frames, styles that load or overlay, and no remote pictures: the address
    of one stands behind :data:`WITHHELD`. ``cid:`` pictures stay, for the page to fill in.
    """
    withheld = 0

    def allowed(tag: str, name: str, value: str) -> str | None:
        nonlocal withheld
        if name == "style":
            return None if _LOADS.search(value) else value
        if tag == "img" and name == "src":
            if value[:4].lower() == "cid:":
                return value
            url = safe_url(value)
            if not url.lower().startswith(("http:", "https:")):
                return None
            withheld += 1
            return WITHHELD + url
        return value

    tame, rest = _tame(well_formed(markup), MAX_SAFE_CHARS)
    cleaned = nh3.clean(
        _plain_elements(tame),
        tags=_TAGS,
        clean_content_tags={"script", "style", "title", "template", "noscript"},
        attributes=_ATTRIBUTES,
        attribute_filter=allowed,
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        filter_style_properties=_STYLES,
        link_rel="noopener noreferrer nofollow",
    )
    cleaned = _RENAMED.sub(r"<\1\2", cleaned)
    if rest:
        cleaned += f"<pre>{html.escape(bare_text(rest[:MAX_CHARS]))}</pre>"
    return SafeHtml(cleaned, withheld)
