"""The steps `unicode`, `control`, `whitespace` and `lowercase`, which change characters and spacing."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from edgeft.cleaning.placeholders import PLACEHOLDER
from edgeft.cleaning.settle import settle
from edgeft.errors import require

# ------------------------------------------------------------------------------------------------------------- unicode

REPAIR = "to repair texts (cleaning step unicode)"
# Turned off in ftfy: what other steps do, and what changes a writer's style rather than an encoding error.
NOT_OURS = {
    "unescape_html": False,
    "uncurl_quotes": False,
    "remove_control_chars": False,
    "remove_terminal_escapes": False,
    "fix_line_breaks": False,
}


def repair_unicode(text: str) -> str:
    """Repair mojibake, replace ligatures and full-width letters by ordinary ones, compose characters (NFC)."""
    if text.isascii():
        return text
    ftfy: Any = require("ftfy", REPAIR)
    config = ftfy.TextFixerConfig(explain=False, **NOT_OURS)
    plain = unicodedata.normalize("NFC", text)

    def repair(text: str) -> str:
        return str(ftfy.fix_text(text, config))

    return settle(repair, plain, lambda _: plain)


# ------------------------------------------------------------------------------------------------------------- control

TERMINAL = re.compile("\x1b\\[[0-?]*+[ -/]*+[@-~]")
SEPARATORS = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
# Arabic to Mongolian, scripts in which a joiner or non-joiner changes how a word is written.
_JOINING = "\u0600-\u061b\u061d-\u109f\u1780-\u180d\u180f-\u18af\u1b00-\u1bff\ua800-\uabff\ufb50-\ufdcf\ufe70-\ufefc"
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
_TAGS = "\U000e0020-\U000e007f"
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ud800-\uf8ff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U0001fffe\U0001ffff\U0002fffe\U0002ffff\U0003fffe\U0003ffff"
    "\U00040000-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U0010ffff]"
    f"|(?<![{_JOINING}])\u200c"
    f"|(?<![{_JOINING}])(?!(?<=[{_EMOJI}\ufe0f])\u200d[{_EMOJI}])\u200d"
    f"|(?<![\U0001f3f4{_TAGS}])[{_TAGS}]+"
)


def remove_control(text: str) -> str:
    """Remove invisible characters; white space stays, as a space if it is a control character.

    Removed are control and format characters (zero-width, direction marks, soft hyphen, byte order mark), terminal
    colours, private use, surrogates, noncharacters and the planes where nothing is assigned. Kept are joiners after a
    letter of a script that needs them and inside an emoji, the tags of a flag, and the visible marks of Arabic.
    An unassigned code point in a plane in use stays: the next Unicode may assign it, and the Pythons of training and of
    the device may know different versions of Unicode.
    """
    if text.isprintable():
        return text
    if "\x1b" in text:
        text = TERMINAL.sub("", text)
    return UNSEEN.sub("", SEPARATORS.sub(" ", text))


# -------------------------------------------------------------------------------------------- whitespace and lowercase


def join_whitespace(text: str) -> str:
    """Collapse every run of white space, line ends included, to one space, and strip the text."""
    return " ".join(text.split())


def lowercase(text: str) -> str:
    """Lower case, except for placeholders."""
    if "[" not in text:
        return text.lower()
    pieces, end = [], 0
    for match in PLACEHOLDER.finditer(text):
        pieces += [text[end : match.start()].lower(), match[0]]
        end = match.end()
    return "".join([*pieces, text[end:].lower()])
