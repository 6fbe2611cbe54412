"""The page of a run: whatever names it is given, it shows them as text and says what is missing."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from reportkit import HOSTILE, bare, contrast, full, quality, timing

from mipack.evaluate.changes import Change, Changes
from mipack.report.answers import answers
from mipack.report.compare import compare
from mipack.report.html import render, render_comparison, render_inspection
from mipack.report.record import Latency, Operators, OpTime, Quality, Report, Stage, Verdict
from mipack.report.verdict import verdict
from mipack.result import Check

VOID = {"meta", "br", "input", "img", "link", "hr", "line", "rect", "circle", "path"}


class Page(HTMLParser):
    """The elements of a page, whether they are closed in order, and all text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"{tag} closes {self.open[-3:]}"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def inspection(text: str) -> dict[str, object]:
    row = {
        "name": text,
        "kind": text,
        "size": 8,
        "state": "frozen",
        "reasons": (text,) * 9,
        "cause": text,
        "within": (text,),
        "macs": 5,
        "macs_share": 0.5,
        "weights": ((text, 0),) * 5,
        "removable": False,
    }
    frozen = {"reason": text, "cause": text, "groups": 1, "units": 8, "example": text, "node": text}
    return {
        "model": text,
        "macs": 10,
        "unread": 1,
        "params": 10,
        "bytes": 40,
        "sizes": {text: 3},
        "groups": (row, {**row, "state": "free"}),
        "frozen": (frozen,),
        "unknown_ops": {text: 1},
        "notes": (text,),
    }


def pages(text: str) -> list[str]:
    report = full(text)
    return [
        render(report),
        render_comparison(compare([(text, report), (f"{text}2", report)])),
        render_inspection(inspection(text)),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_text_whatever_they_hold(text: str) -> None:
    clean = [Page(page) for page in pages("layer")]
    for page, same in zip(pages(text), clean, strict=True):
        page.encode("utf-8")
        found = Page(page)
        assert [tag for tag, _ in found.tags] == [tag for tag, _ in same.tags]
        for _, attributes in found.tags:
            assert not any(name.startswith("on") for name in attributes)
            assert not (attributes.keys() & {"src", "srcset", "action", "formaction", "ping"})
        assert not set("\x00\x1b\x07\u202e").intersection(page)


def test_a_name_is_shown_as_it_is() -> None:
    assert HOSTILE[0] in Page(render(full(HOSTILE[0]))).text
    assert "名前 ∑ 🦊" in Page(render(full("名前 ∑ 🦊"))).text


def test_links_stay_on_the_page() -> None:
    found = Page(render(full()))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] or "" for tag, attributes in found.tags if tag == "a"]
    assert targets and all(target[0] == "#" and target[1:] in ids for target in targets)
    named = [a["aria-labelledby"] or "" for _, a in found.tags if "aria-labelledby" in a]
    assert all(name in ids for names in named for name in names.split())


def test_tables_and_pictures_have_words() -> None:
    found = Page(render(full()))
    assert found.count("caption") == found.count("table") > 8
    pictures = [attributes for tag, attributes in found.tags if tag == "svg"]
    assert all("aria-labelledby" in a or a.get("aria-hidden") == "true" for a in pictures)
    assert sum(a.get("role") == "img" for a in pictures) == found.count("desc") == 4
    assert all(a.get("scope") in ("col", "row") for tag, a in found.tags if tag == "th")


def test_a_report_without_anything_says_what_is_missing() -> None:
    text = Page(render(bare())).text
    for words in ("there was no calibration data", "--bench", "Made from Python", "No warnings"):
        assert words in text


def test_a_large_report_stays_small() -> None:
    many = tuple(full().groups[0] for _ in range(400))
    assert len(render(full("/encoder/layer.11/attention/output", groups=many)).encode()) < 400_000


# ---------------------------------------------------------------- the five answers


def lines(report: Report) -> dict[str, str]:
    return {answer.section: " ".join(answer.lines) for answer in answers(report)}


def test_the_first_page_answers_the_five_questions() -> None:
    text = Page(render(full())).text
    for question in (
        "May we ship this?",
        "What got slower?",
        "Which inputs changed their answer?",
        "How do I reproduce it?",
        "How do I roll back?",
    ):
        assert question in text
    found = lines(full())
    assert "0.500 of the original's time (0.490 to 0.510): faster" in found["latency"]
    assert "5 of 100 held-out answers" in found["changes"]
    assert "no caller changes" in found["rollback"]


def test_what_got_slower_is_named() -> None:
    latency = Latency(
        timings=(timing("original", "batch=1", 1.0), timing("pruned", "batch=1", 1.2)),
        contrasts=(contrast("batch=1", 1.2), contrast("batch=8", 1.01)),
    )
    ops = Operators(
        shape="batch=1",
        ops=(
            OpTime(op="Conv", before_nodes=1, before_ms=1.0, after_nodes=1, after_ms=1.3),
            OpTime(op="Relu", before_nodes=1, before_ms=0.001, after_nodes=1, after_ms=0.002),
        ),
        nodes=(),
    )
    told = lines(full(latency=latency, operators=ops))["latency"]
    assert "batch=1: 1.200 of the original's time (1.176 to 1.224): slower" in told
    assert "batch=8: 1.010 of the original's time (0.990 to 1.030): no difference" in told
    assert "Conv (1 to 1.3 ms)" in told and "Relu" not in told


def test_callers_of_a_changed_signature_are_warned() -> None:
    report = full(signature_changed=True)
    assert "the pruned model has others" in lines(report)["rollback"]
    assert "Callers must change with it" in Page(render(report)).text


def test_values_that_moved_are_listed_where_there_are_no_answers() -> None:
    moved = Changes(
        output="embedding",
        rows=20,
        count=0,
        flows=(),
        answers=(),
        listed=(Change(index=7, distance=0.25, name="a sentence"),),
    )
    report = full(quality=quality_with(moved))
    assert "moved most moved by 25.0 % of its length" in lines(report)["changes"]
    assert "a sentence" in Page(render(report)).text


def quality_with(changes: Changes) -> Quality:
    return replace(quality("y"), changes=changes)


# ---------------------------------------------------------------- the verdict


PASSED = (Check("proof", True, "fine"),)
HELD = {"drop": {"points": 0.5, "metric": "accuracy", "answers": 200}}
GOOD = quality("y", agreement=0.99, difference=-0.5)


def judged(**changes: object) -> Verdict:
    given = {"checks": PASSED, "quality": GOOD, "latency": None, "stages": (), "promises": HELD}
    return verdict(full(**{**given, **changes}))


def test_only_a_bound_that_held_is_a_yes() -> None:
    assert judged().answer == "yes"
    assert judged(promises={}).answer == "look"
    assert "nobody set a bound" in judged(promises={}).headline


def test_what_few_samples_leave_open_is_said() -> None:
    assert any("a loss of 2.5 points" in reason for reason in judged().reasons)
    unlabelled = replace(GOOD, score=None)
    told = judged(quality=unlabelled).reasons
    assert any("agreement of 94.0 % cannot be ruled out" in reason for reason in told)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"promises": {}, "quality": quality("y", agreement=0.9)}, "only 90.0 %"),
        (
            {"promises": {}, "quality": quality("y", agreement=0.99, difference=-3.0)},
            "accuracy is surely worse",
        ),
        ({"latency": Latency(timings=(), contrasts=(contrast("batch=1", 1.2),))}, "slower"),
        ({"stages": (Stage(name="int8", agreement=0.5),)}, "after int8 only 50.0 %"),
        ({"signature_changed": True}, "callers must change"),
    ],
)
def test_what_speaks_against_it_is_said(changes: dict[str, object], words: str) -> None:
    found = judged(**changes)
    assert found.answer == "look" and any(words in reason for reason in found.reasons)


def test_what_was_allowed_does_not_speak_against_it() -> None:
    assert judged(quality=quality("y", agreement=0.9, difference=-3.0)).answer == "yes"


def test_a_failed_check_is_a_no() -> None:
    found = judged(checks=(*PASSED, Check("finite", False, "NaN")), quality=None)
    assert found.answer == "no" and "failed: finite (NaN)" in found.reasons


def test_without_data_a_person_has_to_look() -> None:
    found = judged(quality=None, promises={})
    assert found.answer == "look" and "nothing was measured" in found.headline
