"""The text steps: what each does by hand-written examples, and what holds on any string."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeft.cleaning import STEPS, Cleaning, cleaner, parts
from edgeft.cleaning.personal import KINDS
from edgeft.errors import ArtifactError, MissingExtraError, RecipeError

EVERYTHING = Cleaning(steps=list(STEPS), anonymise=list(KINDS))
ALL_STEPS = cleaner(Cleaning(steps=list(STEPS)))
WHOLE = cleaner(EVERYTHING)

EXAMPLES = {
    "unicode": {
        "the performers\u00e2\u20ac\u2122 caf\u00c3\u00a9": "the performers\u2019 caf\u00e9",
        "\u00c3\u0192\u00c2\u00a9t\u00c3\u0192\u00c2\u00a9": "\u00e9t\u00e9",
        "cafe\u0301": "caf\u00e9",
        "\ufb01ne \uff26\uff29\uff2c\uff2d": "fine FILM",
        "\u201cquoted\u201d \u2018so\u2019": "\u201cquoted\u201d \u2018so\u2019",
        "&eacute; \x1b[31m": "&eacute; \x1b[31m",
        "\ud83d\ude00 \ud800": "\U0001f600 \ufffd",
        "na\u00efve \u4f60\u597d \u0928\u092e\u0938\u094d\u0924\u0947": (
            "na\u00efve \u4f60\u597d \u0928\u092e\u0938\u094d\u0924\u0947"
        ),
        "one\r\ntwo": "one\r\ntwo",
    },
    "html": {
        "good<br /><br />film": "good  film",
        "<p>One</p><p>two</p>": " One  two ",
        "un<b>believ</b>able, <i class='x'>so</i>": "unbelievable, so",
        'see <a href="x.html" title="a > b">this</a>': "see this",
        "fish &amp; chips &lt;3 &eacute;&#233;&#xE9;": "fish & chips <3 \u00e9\u00e9\u00e9",
        "&amp;amp;lt;b&amp;gt;bold&lt;/b&gt;": "bold",
        "a<!-- not\nshown -->b": "ab",
        "a<script>if (x < y) { z() }</script>b<STYLE>p {}</STYLE >c": "a b c",
        "<!DOCTYPE html><html><body>x</body></html>": "   x  ",
        "x <y and 3> 2, <3, a<b, <unk> <user@x.org> List<String>": (
            "x <y and 3> 2, <3, a<b, <unk> <user@x.org> List<String>"
        ),
        "AT&T, Q&A; R&amplifier &copy 2020 ?a=1&lt=2": "AT&T, Q&A; R&amplifier &copy 2020 ?a=1&lt=2",
        "<!-- never closed, <script>nor this": "<!-- never closed,  nor this",
        "line<o:p></o:p>end": "line  end",
        '<p title="never closed>x</p>': " x ",
        "&#0;&#xD800;&#99999999;": "\ufffd\ufffd\ufffd",
    },
    "urls": {
        "see http://x.org/a?b=c#d.": "see [URL].",
        "(https://en.wikipedia.org/wiki/Film_(medium))": "([URL])",
        "www.example.com, and [x](ftp://h/p)": "[URL], and [x]([URL])",
        "greatHTTP://t.co/x!": "great[URL]!",
        "\u898b\u3066http://t.co/abc\u3053\u308c": "\u898b\u3066[URL]\u3053\u308c",
        "http:// and www. and awww.no": "http:// and www. and awww.no",
        '<a href="http://x.org">': '<a href="[URL]">',
    },
    "control": {
        "a\x00b\x07\x7f\x9f c": "ab c",
        "soft\u00adly zero\u200bwidth \ufeffmark \u202eright\u202c": "softly zerowidth mark right",
        "\x1b[1;31mred\x1b[0m": "red",
        "a\x0bb\x85c\td\ne": "a b c\td\ne",
        "\ue000\uf8ff\U000f0000\ud800\ufffe\ufdd0\U0003ffff": "",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937": "\u0915\u094d\u200d\u0937",
        "x\u200dy z\u200c": "xy z",
        "\U0001f469\u200d\U0001f4bb": "\U0001f469\u200d\U0001f4bb",
        "\u2764\ufe0f\u200d\U0001f525": "\u2764\ufe0f\u200d\U0001f525",
        "\U0001f3f4\U000e0067\U000e0062\U000e007f x\U000e0067": "\U0001f3f4\U000e0067\U000e0062\U000e007f x",
        "\u0600\u0661": "\u0600\u0661",
        "\u0378": "\u0378",
    },
    "whitespace": {
        "  a\t\tb\r\n\r\nc\u00a0\u3000d\u2028": "a b c d",
        " \n ": "",
    },
    "lowercase": {
        "A \u00c9T\u00c9 \u0391\u03a3": "a \u00e9t\u00e9 \u03b1\u03c2",
        "SEE [URL] BY [EMAIL_1] AND [Email_1]": "see [URL] by [EMAIL_1] and [email_1]",
    },
}


@pytest.mark.parametrize(("step", "before"), [(step, before) for step, rows in EXAMPLES.items() for before in rows])
def test_examples_by_hand(step: str, before: str) -> None:
    assert STEPS[step](before) == EXAMPLES[step][before]


def test_plain_reviews_stay_as_they_are(movie_rows: list[tuple[str, str]]) -> None:
    texts = [text for text, _ in movie_rows if text.isascii()][:2000]
    for step in ("unicode", "html", "urls", "control"):
        assert [STEPS[step](text) for text in texts] == texts


# ----------------------------------------------------------------------------------------------------- on any string

AWKWARD = re.findall(
    r"\S+",
    "< & &amp; amp; lt; &# #38; <a > <b> </b> <br/> <!-- --> <script> </script> http:// www. https://x.y ) ( [URL] [ ] "
    "[EMAIL_1] @ joe joe@x.com .com 1 4111 1111 4111111111111111 +1 415 555 2671 192.168.10.20 1.2.3.4 : :: fe80::1 "
    "DE89370400440532013000 123-45-6789 - [0m \u00e9 \u00c3 \u00a9 \u00c3\u0192\u00c2 \u00e2\u20ac\u2122 \u0301 \u0130 "
    "\u03a3 \ufb01 \uff11 \ufffd password= Abc12345x sk- ghp_ AKIAIOSFODNN7EXAMPLE -----BEGIN eyJ &Lt; &NBSP; &nbsp; "
    "&#195; &#169; &#27; \u2764 \ufe0f \U0001f469 \u0646 \u0915 \U0001f3f4 \U000e0061",
)
AWKWARD += list(" \n\t\xa0\x00\x1b\x85\x91\u2028\u200b\u200c\u200d\u2060\ud83d\ude00")
ANY = st.text(st.characters(exclude_categories=()))  # surrogates too
STRINGS = ANY | st.lists(st.sampled_from(AWKWARD) | ANY, max_size=12).map("".join)


@pytest.mark.parametrize("step", STEPS)
@settings(deadline=None, max_examples=300)
@given(text=STRINGS)
@example(text="<" * 50)
@example(text="<<b>b>")
@example(text="&am&#x200b;p;")
def test_a_step_takes_any_string_and_twice_is_once(step: str, text: str) -> None:
    once = STEPS[step](text)
    assert STEPS[step](once) == once


@settings(deadline=None, max_examples=500)
@given(text=STRINGS)
@example(text="<\x00b>")
@example(text="&#195;&#169;")
@example(text="&NBSP;x")
@example(text="&am&am&am&#x200b;p;#x200b;p;#x200b;p;lt;b>")
@example(text="h\u200bttp://x.org joe@\u00adx.com")
def test_the_chain_takes_any_string_and_twice_is_once(text: str) -> None:
    for chain in (ALL_STEPS, WHOLE):
        once = chain(text)
        assert chain(once) == once
        assert "\n" not in once


@settings(deadline=None, max_examples=300)
@given(text=STRINGS)
def test_what_steps_promise(text: str) -> None:
    assert not any(char in STEPS["control"](text) for char in "\x00\x1b\u200b\ufeff\ud800")
    assert STEPS["whitespace"](text).split(" ") == (text.split() or [""])
    assert unicodedata.is_normalized("NFC", STEPS["unicode"](text))


def test_markup_without_end_settles_and_stays_settled() -> None:
    deep = "&" + "amp;" * 500 + "lt;b>"
    nested = "&am" * 300 + "&#x200b;" + "p;#x200b;" * 300
    for text in (deep, nested, "<" * 999 + "b>" * 999, "<<!---->!--" * 300):
        assert WHOLE(WHOLE(text)) == WHOLE(text)


HOSTILE: tuple[str, ...]
HOSTILE = ("<", "&", "&amp;", "amp;", "<a ", '<a "', "<!--", "<script>", "<b>", "http://", "www.", ")", "http://a)")
HOSTILE += ("\x1b[1", "\u200d", "\x00", "\ud83d", "\u00c3", "\u00c3\u0192\u00c2\u00a9", "\u0301", "[", "\u0130", " ")
HOSTILE += ("1", "1 ", "4111 ", "1.1.1.1 ", "a@", "a@b.", "(", "+", "::", "f:", "GB82 ", "sk-", "eyJa.", "password=")
HOSTILE += ("-----BEGIN PRIVATE KEY-----", "://a:b@", "token: ", "123-45-", "akia")


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    """40,000 characters at 50 us each at most: a quadratic search would take minutes."""
    text = unit * (40_000 // len(unit))
    started = time.perf_counter()
    WHOLE(text)
    assert time.perf_counter() - started < 2 + 40_000 * 50e-6


def test_a_megabyte_is_one_text() -> None:
    text = "A fine film, & caf\u00c3\u00a9 <b>too</b>.\n" * 30_000
    assert WHOLE(text).count("a fine film, & caf\u00e9 too.") == 30_000


# ------------------------------------------------------------------------------------------------------------ chains


def test_steps_run_in_the_fixed_order_and_lowercase_is_last() -> None:
    whole = Cleaning(steps=["lowercase", "whitespace", "html", "unicode"], anonymise=["email"])
    assert [name for name, _ in parts(whole)] == ["unicode", "html", "whitespace", "anonymise", "lowercase"]
    assert cleaner(whole)(" <p>WRITE to\nJoe@X.org </p>") == "write to [EMAIL_1]"


def test_no_cleaning_is_the_identity() -> None:
    text = "\x00 <b>\ud800"
    assert not Cleaning(region="DE")
    assert cleaner(Cleaning())(text) is text
    assert parts(Cleaning()) == []


def test_what_one_step_uncovers_the_next_round_cleans() -> None:
    assert ALL_STEPS("<\x00b>joe") == "joe"
    assert ALL_STEPS("&#195;&#169;") == "\u00e9"
    assert WHOLE("joe@\u00adx.org") == "[EMAIL_1]"


def test_unknown_names_are_one_line() -> None:
    with pytest.raises(ArtifactError, match=r"unknown step 'spelling'; this edgeft knows unicode, .*newer edgeft"):
        cleaner(Cleaning(steps=["html", "spelling"]))
    with pytest.raises(ArtifactError, match="unknown kind of personal data 'face'"):
        cleaner(Cleaning(anonymise=["face"]))
    with pytest.raises(RecipeError, match="unknown region 'Germany'"):
        cleaner(Cleaning(anonymise=["phone"], region="Germany"))
    cleaner(Cleaning(anonymise=["phone"], region="de"))


def test_a_missing_package_is_named_before_the_first_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ftfy", "phonenumbers", "presidio_analyzer", "spacy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"ftfy is not installed .*edgeft\[clean\]"):
        cleaner(Cleaning(steps=["unicode"]))
    with pytest.raises(MissingExtraError, match=r"phonenumbers is not installed .*edgeft\[clean\]"):
        cleaner(Cleaning(anonymise=["phone"]))
    with pytest.raises(MissingExtraError, match=r"is not installed .*edgeft\[names\]"):
        cleaner(Cleaning(names_model="en_core_web_sm"))
    assert cleaner(Cleaning(steps=["html"], anonymise=["email"]))("<p>joe@x.org") == " [EMAIL_1]"


def test_importing_the_package_loads_nothing_optional() -> None:
    code = (
        "import sys, edgeft.cleaning; early = 'edgeft.cleaning.steps' in sys.modules; edgeft.cleaning.cleaner; "
        "print(early, [m for m in ('ftfy', 'phonenumbers', 'presidio_analyzer', 'spacy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "[]"]
