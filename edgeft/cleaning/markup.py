"""The steps `html` and `urls`.

`html` decodes entities, then removes tags, both until nothing changes: `&lt;b&gt;` is a tag that was escaped once too
often, and what looks like a tag after the first pass would be removed by a second. Only elements of HTML (and those
that office programs write) are tags: `<3`, `x <y` and `<unk>` are text. Every pattern takes time linear in the text:
none searches past the next `<`, and comments and scripts are searched only if their end follows.
"""

from __future__ import annotations

import html
import re
from html.entities import html5

from edgeft.cleaning.placeholders import URL
from edgeft.cleaning.settle import settle

# ---------------------------------------------------------------------------------------------------------------- html


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Inline elements, whose tags don't end a word.
INLINE = _words(
    """
    a abbr acronym b basefont bdi bdo big blink cite code data del dfn em font i ins kbd label mark nobr q rp rt
    ruby s samp small span strike strong sub sup time tt u var wbr
    """
)
SEPARATING = _words(
    """
    address applet area article aside audio base blockquote body br button canvas caption center circle col
    colgroup datalist dd defs desc details dialog dir div dl dt ellipse embed fieldset figcaption figure footer
    form frame frameset g h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe image img input isindex legend li
    line lineargradient link main map marquee math menu meta meter nav noembed noframes noscript object ol
    optgroup option output p param path picture plaintext polygon polyline portal pre progress rect script search
    section select slot source stop style summary svg symbol table tbody td template textarea tfoot th thead title
    tr track ul use video xml xmp
    """
)

ENTITY = re.compile(r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,7}|[A-Za-z][A-Za-z0-9]{1,31});")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
HIDDEN = {
    name: (
        re.compile(rf"<{name}\b[^<>]*+>.*?</{name}\b[^<>]*+>", re.DOTALL | re.I),
        re.compile(rf"</{name}\b[^<>]*+>", re.I),
    )
    for name in ("script", "style")
}
# A quoted attribute may contain ">"; if its quote is never closed, the tag ends at the first ">".
TAG = re.compile(
    r"</?(?P<name>[A-Za-z][A-Za-z0-9]*+(?P<office>:[A-Za-z0-9]++)?)(?=[\s/>])"
    r"""(?:(?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+>|[^<>]*+>)"""
)
DECLARATION = re.compile(r"<(?:!doctype|!\[|\?xml)[^<>]*+>", re.I)
OFFICE = frozenset({"o", "v", "w", "m", "x", "st1"})


def strip_html(text: str) -> str:
    """Remove markup; every string is read as HTML, and plain text stays as it is."""
    if "<" not in text and "&" not in text:
        return text
    return settle(_once, text, without_openers)


def _once(text: str) -> str:
    if "&" in text:
        text = ENTITY.sub(_unescape, text)
    if "<" not in text:
        return text
    text = _cut(COMMENT, text, text.rfind("-->") + 3, "")
    for element, closing in HIDDEN.values():
        ends = [match.end() for match in closing.finditer(text)]
        text = _cut(element, text, ends[-1] if ends else 0, " ")
    return TAG.sub(_space_or_nothing, DECLARATION.sub(" ", text))


def without_openers(text: str) -> str:
    """Remove every character that can begin an entity or a tag."""
    return text.replace("<", "").replace("&", "")


def _unescape(match: re.Match[str]) -> str:
    written = match[0]
    return html.unescape(written) if written[1] == "#" or written[1:] in html5 else written


def _cut(pattern: re.Pattern[str], text: str, end: int, instead: str) -> str:
    """Replace up to the last known end, so that every opening has an end and nothing is scanned twice."""
    return pattern.sub(instead, text[:end]) + text[end:]


def _space_or_nothing(match: re.Match[str]) -> str:
    name = match["name"].lower()
    if match["office"]:
        return " " if name.split(":")[0] in OFFICE else match[0]
    if name in INLINE:
        return ""
    return " " if name in SEPARATING else match[0]


# ---------------------------------------------------------------------------------------------------------------- urls

# Letters of scripts without spaces end an address, as they can follow it directly.
ADDRESS = re.compile(
    r"(?:(?:https?|ftp)://|(?<![\w.])www\.)\w[^\s<>\"\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]*+", re.I
)
CLOSING = {")": "(", "]": "[", "}": "{"}


def replace_urls(text: str) -> str:
    """Replace web addresses (with a scheme or www.) by `[URL]`; the sentence's punctuation stays."""
    if "://" not in text and "www." not in text.lower():
        return text
    return ADDRESS.sub(lambda match: URL + match[0][_address_end(match[0]) :], text)


def _address_end(address: str) -> int:
    """Where the sentence's punctuation begins; a closing bracket belongs to it unless the address opened one."""
    surplus = {close: address.count(close) - address.count(open_) for close, open_ in CLOSING.items()}
    end = len(address)
    while address[end - 1] in ".,;:!?'\u2019\u201d\u2026*_" or surplus.get(address[end - 1], 0) > 0:
        end -= 1
        if address[end] in surplus:
            surplus[address[end]] -= 1
    return end
