"""Personal data: made-up values in the formats people write, inside real reviews; and what only looks like them."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from edgeft.cleaning.money import iban_length
from edgeft.cleaning.personal import KINDS, anonymise, count, find

ROWS = 300
WORD = "abcdefghijklmnopqrstuvwxyz"
IBAN_LENGTHS = {"BE": 16, "CH": 21, "DE": 22, "FR": 27, "IE": 22, "LC": 32, "MT": 31, "NO": 15, "RU": 33, "SV": 28}


def name(generator: random.Random, low: int = 3, high: int = 9) -> str:
    return "".join(generator.choices(WORD, k=generator.randint(low, high)))


def digits(generator: random.Random, number: int) -> str:
    return "".join(generator.choices("0123456789", k=number))


def an_email(generator: random.Random) -> str:
    local = generator.choice(("{}", "{}.{}", "{}_{}", "{}+{}", "{}-{}7", "{}%{}", "o'{}{}"))
    host = generator.choice(("{}.com", "{}.co.uk", "mail.{}.org", "{}-{}.io", "m\u00fc{}.de", "x.{}.museum"))
    written = local.format(name(generator), name(generator)) + "@" + host.format(name(generator), name(generator))
    return generator.choice((written, written.upper(), written.title()))


def a_card(generator: random.Random) -> str:
    prefix, length = generator.choice(
        (
            ("4", 16),
            ("4", 13),
            ("51", 16),
            ("2221", 16),
            ("34", 15),
            ("6011", 16),
            ("3528", 16),
            ("62", 19),
            ("305", 14),
        )
    )
    body = prefix + digits(generator, length - len(prefix) - 1)
    card = next(body + last for last in "0123456789" if luhn.is_valid(body + last))
    return written_card(generator, card)


def written_card(generator: random.Random, card: str) -> str:
    sizes = {15: (4, 6, 5), 14: (4, 6, 4), 13: (4, 3, 3, 3)}.get(len(card), (4, 4, 4, 4, 3))
    places = [sum(sizes[:index]) for index in range(len(sizes))]
    groups = [card[place : place + size] for place, size in zip(places, sizes, strict=True) if card[place:]]
    return generator.choice(("", " ", "-")).join(groups)


def an_iban(generator: random.Random) -> str:
    country = generator.choice(sorted(IBAN_LENGTHS))
    body = digits(generator, IBAN_LENGTHS[country] - 4)
    checked = f"{country}{mod_97_10.calc_check_digits(body + country)}{body}"
    spaced = " ".join(checked[place : place + 4] for place in range(0, len(checked), 4))
    return generator.choice((checked, spaced, spaced.lower()))


def an_ip(generator: random.Random) -> str:
    if generator.random() < 0.5:
        return str(ipaddress.IPv4Address(generator.randint(1 << 28, (1 << 32) - 1)))
    address = ipaddress.IPv6Address((0x20010DB8 << 96) + generator.getrandbits(generator.choice((8, 64, 96))))
    return generator.choice((address.compressed, address.exploded, address.compressed.upper()))


def an_ssn(generator: random.Random) -> str:
    area = generator.choice((f"{generator.randint(1, 665):03}", f"{generator.randint(667, 899)}"))
    gap = generator.choice("- ")
    return f"{area}{gap}{generator.randint(1, 99):02}{gap}{generator.randint(1, 9999):04}"


def a_phone(generator: random.Random) -> str:
    phonenumbers = pytest.importorskip("phonenumbers")
    region = generator.choice(("US", "US", "GB", "DE", "FR", "IN", "BR", "JP", "AU"))
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    varied = phonenumbers.PhoneNumber(
        country_code=number.country_code, national_number=number.national_number + generator.randint(0, 999)
    )
    formats = phonenumbers.PhoneNumberFormat
    national = [formats.NATIONAL] if region == "US" else []
    form = generator.choice((formats.INTERNATIONAL, formats.E164, *national))
    written: str = phonenumbers.format_number(varied, form)
    return generator.choice((written, written.replace(" ", "-"), written.replace("-", ".")))


def a_secret(generator: random.Random) -> str:
    key = "".join(generator.choices(WORD + WORD.upper() + "0123456789", k=60)) + "7"
    return generator.choice(
        (
            "AKIA" + "".join(generator.choices(WORD.upper() + "234567", k=15)) + "2",
            f"ghp_{key[:36]}",
            f"github_pat_{key}",
            f"glpat-{key[:20]}",
            f"xoxb-{digits(generator, 12)}-{key[:24]}",
            f"AIza{key[:35]}",
            f"sk_live_{key[:24]}",
            f"sk-proj-{key[-40:]}",
            f"hf_{key[:34]}",
            f"eyJ{key[:20]}.eyJ{key[:40]}.{key[:43]}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n{key}\n-----END RSA PRIVATE KEY-----",
        )
    )


MAKERS: dict[str, tuple[Callable[[random.Random], str], float]] = {
    "email": (an_email, 1.0),
    "credit_card": (a_card, 1.0),
    "iban": (an_iban, 1.0),
    "ip_address": (an_ip, 1.0),
    "ssn": (an_ssn, 0.99),
    "phone": (a_phone, 0.9),
    "secret": (a_secret, 1.0),
}


@pytest.fixture(scope="module")
def sentences(movie_rows: list[tuple[str, str]]) -> list[str]:
    return [text for text, _ in movie_rows[:ROWS]]


@pytest.mark.parametrize("kind", MAKERS)
def test_made_up_values_in_real_reviews_are_found_whole(kind: str, sentences: list[str]) -> None:
    maker, wanted = MAKERS[kind]
    generator = random.Random(kind)
    missed = []
    for sentence in sentences:
        value, gap = maker(generator), sentence.find(" ", generator.randrange(len(sentence))) + 1
        before, after = sentence[:gap], sentence[gap:]
        tail = generator.choice((" ", ", ", ". ", ") ", "? ")) if value[-1] != "-" else " "
        found = find(f"{before}{value}{tail}{after}", KINDS)
        if (kind, gap, gap + len(value)) not in {(item.kind, item.start, item.end) for item in found}:
            missed.append(value)
    assert len(missed) <= (1 - wanted) * ROWS, missed[:10]


def test_real_reviews_have_no_false_alarm(movie_rows: list[tuple[str, str]]) -> None:
    assert len(movie_rows) > 8000
    assert [text for text, _ in movie_rows if find(text)] == []


HARMLESS = (
    "4111 1111 1111 1112 and 4111111111111112 fail the check, 1234567890123452 has no issuer",
    "0.4111111111111111 4111111111111111.5 a4111111111111111 411111111111111111111111",
    "GB82 WEST 1234 5698 7654 33, GB82 WEST, XX82 WEST 1234 5698 7654 32",
    "000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000 1123-45-6789 123-45-67890",
    "1 123 45 6789 and 123 45 6789 1",
    "version 10.20.30.40, v. 12.0.1.100, Section 10.20.30.40, 1.2.3.4, 1.2.3.4.5, 300.1.2.3, 0.12.1.10",
    "12:30:45 at 12::30, std::vector<int>, a::b, 00:1A:2B:3C:4D:5E, John 3:16, :: and ::: and x::1",
    "@handle me@home a@b joe@ @x.org 5 @ 3.50",
    "from 1999 to 2004-05-12, 1939-1945, 24/7, 3.14159265, 1,000,000 of 2,000,000 in 90210-1234",
    "the secret: everything; password: required, token=expired, password=[SECRET_1], api_key: your-api-key-here",
    "sk-learn-compatible-estimators-are-fine, ghp_short, AKIA is a prefix, eyJhbGci is too",
    "-----BEGIN PUBLIC KEY----- is public",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert anonymise(text) == text


SHOWN = {
    "a@x.org, b@x.org and A@X.ORG": "[EMAIL_1], [EMAIL_2] and [EMAIL_1]",
    "[EMAIL_1] knows c@x.org": "[EMAIL_1] knows [EMAIL_2]",
    "card 4111 1111 1111 1111 is 4111-1111-1111-1111": "card [CREDIT_CARD_1] is [CREDIT_CARD_1]",
    "order 12345 4111 1111 1111 1111 99": "order 12345 [CREDIT_CARD_1] 99",
    "pay de89 3704 0044 0532 0130 00 now": "pay [IBAN_1] now",
    "from 10.0.0.1:8080 to IP 8.8.8.8 and [2001:db8::1]:443, fe80::1%eth0": (
        "from [IP_ADDRESS_1]:8080 to IP [IP_ADDRESS_2] and [[IP_ADDRESS_3]]:443, [IP_ADDRESS_4]%eth0"
    ),
    "host:fe80::2.": "host:[IP_ADDRESS_1].",
    "password=hunter2hunter7! api_key: 'Zx81kq92LmP0'": "password=[SECRET_1]! api_key: '[SECRET_2]'",
    "Authorization: Bearer abcdef0123456789abcdef": "Authorization: Bearer [SECRET_1]",
    "call (415) 555-2671 or +44 20 7946 0958.": "call [PHONE_1] or [PHONE_2].",
    "ssn 123-45-6789": "ssn [SSN_1]",
    "\u898b\u3066joe@x.org\u3067\u3059": "\u898b\u3066[EMAIL_1]\u3067\u3059",
    "_joe@x.org_ <joe@x.org> mailto:joe@x.org.": "_[EMAIL_1]_ <[EMAIL_1]> mailto:[EMAIL_1].",
}


@pytest.mark.parametrize("text", SHOWN)
def test_placeholders_by_hand(text: str) -> None:
    assert anonymise(text) == SHOWN[text]


def test_a_secret_in_lower_case_is_still_one() -> None:
    assert anonymise("key akiaiosfodnn7example") == "key [SECRET_1]"


def test_only_the_kinds_asked_for() -> None:
    text = "a@x.org 4111111111111111"
    assert anonymise(text, ["email"]) == "[EMAIL_1] 4111111111111111"
    assert find(text, []) == []
    address = "postgres://joe:s3cr3t@db.example.com/x"
    assert anonymise(address, ["secret"]) == "postgres://joe:[SECRET_1]@db.example.com/x"
    assert anonymise(address) == "postgres://joe:[EMAIL_1]/x"  # the longer one wins; nothing of it is left
    assert count(find("a@x.org b@x.org 4111111111111111")) == {"email": 2, "credit_card": 1}


def test_the_region_decides_about_numbers_without_a_prefix() -> None:
    assert anonymise("ring 030 901820 today", ["phone"], "DE") == "ring [PHONE_1] today"
    assert anonymise("ring 030 901820 today", ["phone"], "US") == "ring 030 901820 today"


def test_check_digits_by_hand() -> None:
    """4111111111111111: of every second digit from the right, 1 is doubled to 2 and 4 to 8; 8 + 7 * 2 + 8 = 30."""
    assert count(find("4111111111111111", ["credit_card"])) == {"credit_card": 1}
    assert find("4111111111111112", ["credit_card"]) == []
    assert find("1411111111111111", ["credit_card"]) == []  # no issuer's
    assert count(find("GB82WEST12345698765432", ["iban"])) == {"iban": 1}
    assert find("GB83WEST12345698765432", ["iban"]) == []


def test_the_length_of_an_iban_is_its_country_s() -> None:
    assert {country: iban_length(country) for country in IBAN_LENGTHS} == IBAN_LENGTHS
    assert iban_length("US") is None


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("0123456789 -"), min_size=12, max_size=40))
def test_no_card_is_found_that_fails_the_check(text: str) -> None:
    for item in find(text, ["credit_card"]):
        plain = "".join(filter(str.isdigit, text[item.start : item.end]))
        assert 13 <= len(plain) <= 19
        total = sum(sum(divmod(2 * int(d), 10)) if i % 2 else int(d) for i, d in enumerate(reversed(plain)))
        assert total % 10 == 0


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(("a@x.org", "[EMAIL_3]", "4111111111111111", "+14155552671", "1.2.3.4", " ", "-", ":", "a"))
        | st.text(max_size=4)
    )
)
def test_found_places_are_in_order_and_apart(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = find(text)
    ends = [0, *(item.end for item in found)]
    assert all(end <= item.start < item.end <= len(text) for end, item in zip(ends, found, strict=False))
    assert find(anonymise(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "It failed at 2022-11-25 02:55 case 0",
        "from 2022-11-25T02:55:10 to 25/11/2022",
        "order 4155552607 is late",
        "released on 12.05.2019, 14:00",
    ],
)
def test_dates_and_order_numbers_are_no_phones(text: str) -> None:
    pytest.importorskip("phonenumbers")
    assert anonymise(text, ["phone"], "US") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on 2022-11-25 call 415-555-2607", "on 2022-11-25 call [PHONE_1]"),
        ("call me: 4155552607", "call me: [PHONE_1]"),
        ("+14155552607", "[PHONE_1]"),
        ("2022-11-25 (415) 555-2607", "2022-11-25 [PHONE_1]"),
    ],
)
def test_a_phone_beside_a_date_is_one(text: str, expected: str) -> None:
    pytest.importorskip("phonenumbers")
    assert anonymise(text, ["phone"], "US") == expected
