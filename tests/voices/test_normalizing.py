"""What is written otherwise than it is said, in sentences."""

# ruff: noqa: E501
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from max_voices.normalizing import normalize

TAGS = ("<laugh>", "<sigh>")
SENTENCES = (
    ("It costs $3.50 & 20% off.", "It costs three dollars and fifty cents and twenty percent off."),
    ("May 3rd, 1942, 10:05 a.m.", "May third, nineteen forty two, ten oh five A M."),
    ("On 2026-11-30 at 14:30 we met.", "On November thirtieth, twenty twenty six at fourteen thirty we met."),
    ("Meet me on 11/30/2026.", "Meet me on November thirtieth, twenty twenty six."),
    ("The meeting is Nov. 30, 2026.", "The meeting is November thirtieth, twenty twenty six."),
    ("Call +1 (555) 123-4567 now.", "Call plus one, five five five, one two three, four five six seven now."),
    ("Call 555-1234.", "Call five five five, one two three four."),
    (
        "Visit https://www.example.com/docs?id=5 today.",
        "Visit w w w dot example dot com slash docs question mark id equals five today.",
    ),
    ("Mail bob.smith@example.co.uk please.", "Mail bob dot smith at example dot co dot u k please."),
    (
        "It weighs 5kg and is 10 km away at 60 mph.",
        "It weighs five kilograms and is ten kilometers away at sixty miles per hour.",
    ),
    ("Dr. Smith lives on Elm St. near 5th Ave.", "Doctor Smith lives on Elm Street near fifth Avenue."),
    ("<laugh> That was 3 <sigh> times.", "<laugh> That was three <sigh> times."),
    ("The U.S.A. and NASA agree.", "The U S A and NASA agree."),
    ("£1.2bn and €3,000.", "one point two billion pounds and three thousand euros."),
    ("1/2 cup, 3/4 of it.", "one half cup, three quarters of it."),
    ("It's -5°C outside.", "It's minus five degrees Celsius outside."),
    ("Chapter IV, see Fig. 3.", "Chapter four, see Figure three."),
    ("No. 7 is open 9am-5pm.", "Number seven is open nine A M to five P M."),
    (
        "Version 2.0.1 has 1,234,567 users.",
        "Version two point zero point one has one million two hundred and thirty four thousand five hundred and sixty seven users.",
    ),
    ("He won 3-2 in the 90s.", "He won three to two in the nineties."),
    ('He is 5\'11" tall and has a 27" screen.', "He is five feet eleven tall and has a twenty seven inch screen."),
    ("Room 101, p. 33, pp. 4-9.", "Room one hundred and one, page thirty three, pages four to nine."),
    (
        "From 1990-1995 the rate was 3.5-4%.",
        "From nineteen ninety to nineteen ninety five the rate was three point five to four percent.",
    ),
    ("Mr Jones, Jr., etc. Then he left.", "Mister Jones, Junior, et cetera. Then he left."),
    ("I use e.g. tools, i.e. hammers.", "I use for example, tools, that is, hammers."),
    ("It's 24/7, 9/11, 50/50.", "It's twenty four seven, nine eleven, fifty fifty."),
    ("2½ cups and ¾ oz.", "two and one half cups and three quarters oz."),
    (
        "USD 20, 5€, $5k, US$1.5M, ¥300.",
        "twenty U S dollars, five euros, five thousand dollars, one point five million dollars, three hundred yen.",
    ),
    ("WW2 ended; B2B, MP3, H2O, 4K, 3D, A1.", "WW two ended; B two B, MP three, H two O, four K, three D, A one."),
    ("The 1st, 2nd, and 23rd. 1,000,000 people", "The first, second, and twenty third. one million people"),
    (
        "At 9:05:30, 00:00, 12:00, 23:00.",
        "At nine oh five and thirty seconds, zero hundred, twelve o'clock, twenty three hundred.",
    ),
    (
        "Born 4 July 1776; the 3rd of May 1999.",
        "Born fourth of July seventeen seventy six; the third of May nineteen ninety nine.",
    ),
    ("St. John's on Main St. He lives in St. Louis.", "Saint John's on Main Street. He lives in Saint Louis."),
    ("#1 fan, C# and #winning", "number one fan, C sharp and hashtag winning"),
    ("**Bold** and `code` and _it_ ~5 min.", "Bold and code and _it_ about five minutes."),
    (
        "IP 192.168.0.1 and v2.0.1",
        "IP one hundred and ninety two point one hundred and sixty eight point zero point one and v two point zero point one",
    ),
    (
        "It's 21.5 °C or 70°F, 5 m/s, 100 km/h, 3 GB, 2.4 GHz.",
        "It's twenty one point five degrees Celsius or seventy degrees Fahrenheit, five meters per second, one hundred kilometers per hour, three gigabytes, two point four gigahertz.",
    ),
    (
        "Call 1-800-555-1234 or +44 20 7946 0958 or 555.123.4567.",
        "Call one, eight zero zero, five five five, one two three four or plus four four, two zero, seven nine four six, zero nine five eight or five five five, one two three, four five six seven.",
    ),
    (
        "See www.python.org/downloads, docs at example.io!",
        "See w w w dot python dot org slash downloads, docs at example dot i o!",
    ),
    ("1 kg, 1 mile, 2 ft, 0.5 L", "one kilogram, one mile, two feet, zero point five liters"),
    ("TV, BBC, PhD, NASA, HTML, CD-ROM", "T V, B B C, PhD, NASA, H T M L, C D-ROM"),
    ("in 1066 and 2005, 2026.", "in one thousand and sixty six and two thousand and five, twenty twenty six."),
    ("May 3 and may 3 people come; Sept. 5th", "May third and may three people come; September fifth"),
    ("x = 3*4 + 2 - 1 < 9", "x equals three times four plus two - one < nine"),
    ("-5 and (-3) and a-5 and 3-2", "minus five and (minus three) and a-five and three to two"),
    ("3 1/2 and 7/8 and 1/100", "three and one half and seven eighths and one one hundredth"),
    ("٣ cats and １２ dogs", "three cats and twelve dogs"),
    ("The '90s, 80s, 1920s music.", "The nineties, eighties, nineteen twenties music."),
    ("Ph.D. U.S. troops. The U.S.", "Ph.D. U S troops. The U S."),
    (
        "You owe $1,234.56, or €0.99 or £2.02 or £1.",
        "You owe one thousand two hundred and thirty four dollars and fifty six cents, or ninety nine cents or two pounds and two pence or one pound.",
    ),
    ("flight AA123, gate B12, seat 14C", "flight AA one hundred and twenty three, gate B twelve, seat fourteen C"),
    (
        "12345678901234567890 and 0.000001",
        "one two three four five six seven eight nine zero one two three four five six seven eight nine zero and zero point zero zero zero zero zero one",
    ),
    ("emoji 😀 ok 👍🏽 end", "emoji ok end"),
    (
        "He paid $5 million and $3.5 billion to 5 million people.",
        "He paid five million dollars and three point five billion dollars to five million people.",
    ),
    ("a@b.co, foo_bar+x@mail.example.com.", "a at b dot co, foo underscore bar plus x at mail dot example dot com."),
    (
        "https://github.com/a/b-c?x=1&y=2#z.",
        "github dot com slash a slash b dash c question mark x equals one and y equals two hash z.",
    ),
    ("10% of 5%, 3.5 %", "ten percent of five percent, three point five percent"),
    (
        "5-year-old, 10-day trip, 1-2 days, 100m dash",
        "five-year-old, ten-day trip, one to two days, one hundred meters dash",
    ),
    ("Nov 30, Dec. 25 and Jan 2027", "November thirtieth, December twenty fifth and January twenty twenty seven"),
    (
        "2026/11/30 or 30/11/2026 or 30.11.2026",
        "November thirtieth, twenty twenty six or November thirtieth, twenty twenty six or November thirtieth, twenty twenty six",
    ),
    ('He said "I am 5" and left.', 'He said "I am five" and left.'),
    ('See "Room 101". "Mr 5"', 'See "Room one hundred and one". "Mr five"'),
    ('<laugh> "I <sigh> am 5" and 5" wide', '<laugh> "I <sigh> am five" and five inch wide'),
    ('A 27" and a 32" screen', "A twenty seven inch and a thirty two inch screen"),
    ("In St. Louis it rains.", "In Saint Louis it rains."),
    ("The St. Louis Cardinals. Visit St. Petersburg", "The Saint Louis Cardinals. Visit Saint Petersburg"),
    ("12 Main St. Main St. is closed.", "twelve Main Street Main Street is closed."),
    ("I live at 12 Main St. Then on Elm St.", "I live at twelve Main Street. Then on Elm Street."),
    ("12 Main St. Springfield", "twelve Main Street Springfield"),
    ("MS Word, MS-DOS, latency in ms, M&Ms, MR scan", "M S Word, M S-DOS, latency in ms, M and Ms, M R scan"),
    ("Dr Who met Mrs Jones.", "Doctor Who met Missus Jones."),
    ("I ate a fig. Then it was fig. 3 of vol. 2.", "I ate a fig. Then it was figure three of volume two."),
    ("Ask the dept. They read the vol. Gen. Lee", "Ask the department. They read the volume General Lee"),
    ("100s of people, 10s of thousands", "hundreds of people, tens of thousands"),
    ("iPhone 5s, two 747s, many 706s", "iPhone five s, two seven forty sevens, many seven hundred and sixes"),
    ("wait 30s, it took 20s, in the 30s", "wait thirty seconds, it took twenty seconds, in the thirties"),
    (
        "$5-10, $5–$10 million, €1,000-2,000",
        "five to ten dollars, five to ten million dollars, one thousand to two thousand euros",
    ),
    ("on 12/25, on 1/2 of it, on 2/30", "on December twenty fifth, on one half of it, on two thirtieths"),
    ("the 747-400 won 110-105", "the seven forty seven four hundred won one hundred and ten to one hundred and five"),
    ("In May 20 people came on May 20.", "In May twenty people came on May twentieth."),
    ("In May 20, 2020 it was", "In May twentieth, twenty twenty it was"),
    ("$0.50 or $0.00", "fifty cents or zero dollars"),
    ("x^2, 10^6, either|or, a*b, Great👍thanks", "x two, ten six, either or, a b, Great thanks"),
    ("C++, a==b, soft\u00adhyphen", "C plus plus, a equals b, softhyphen"),
    ("the .NET <laugh> . <sigh> .NET", "the .NET <laugh>. <sigh> .NET"),
    ("HMMM, SHHHH, MMMM", "HMMM, SHHHH, MMMM"),
)


@pytest.mark.parametrize(("text", "words"), SENTENCES)
def test_as_it_is_said(text: str, words: str) -> None:
    assert normalize(text, TAGS) == words


@pytest.mark.parametrize(
    "text",
    [
        "The train to the city leaves soon, and I am late.",
        'She said: "Well... I don\'t know" – and left; really?!',
        "Café, naïve, Zürich; 你好，世界。 مرحبا بالعالم",
        "I may march in May. He sat in the sun. No. I can't.",
        "It is a well-known, two-sided, state-of-the-art thing.",
    ],
)
def test_what_is_said_as_it_is_written_is_left_alone(text: str) -> None:
    assert normalize(text) == text


@pytest.mark.parametrize("text", ["2026-02-30", "02/30/2026", "30.02.2026"])
def test_a_day_that_no_month_has_is_no_date(text: str) -> None:
    assert "February" not in normalize(text)


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    words = normalize(text)
    assert not any("0" <= character <= "9" for character in words)
    assert all(character.isprintable() or character == "\n" for character in words)


@given(st.text(alphabet="0123456789.,:$€£%-/+°() apmkgstANoW'\"½", max_size=60))
def test_any_number_can_be_said(text: str) -> None:
    assert not any(character.isdecimal() for character in normalize(text))


@given(st.lists(st.sampled_from(["<laugh>", "<Sigh>", "3", "$5", "well", "<", "laugh"]), max_size=12))
def test_tags_stay_as_they_are_and_in_their_order(pieces: list[str]) -> None:
    text = " ".join(pieces)
    tags = [piece for piece in pieces if piece in ("<laugh>", "<Sigh>")]
    assert [word for word in normalize(text, TAGS).split() if word in tags] == tags


@pytest.mark.parametrize("text", ["", " ", "\x00\x07", "😀👍🏽", "\u202e\u200b", "***"])
def test_what_says_nothing_is_nothing(text: str) -> None:
    assert normalize(text) == ""


@pytest.mark.parametrize(
    "piece", ["1", "1,", "a.", "a@", "555-", "1/", "1 1/1", '5" ', "$1-", "St. ", "+", "*👍", "http://", "٣", "("]
)
def test_a_long_run_costs_no_more_than_its_length(piece: str) -> None:
    normalize(piece * (20_000 // len(piece)))  # seconds, if the cost were its square
