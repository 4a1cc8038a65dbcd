"""Pages in Japanese whose sentences are English where they are found."""

import re
import tomllib
from pathlib import Path

from matplotlib.text import Text

import mno.report
from mno.report import style
from mno.report.translated import Phrases, write_pages
from tests.report.japanese import english_in, in_japanese

PHRASES = tomllib.loads((Path(mno.report.__path__[0]) / "phrases.ja.toml").read_text("utf-8"))
JA = Phrases.of("ja")


def places(text):
    return sorted(re.findall(r"\{(\w+)\}", text))


def test_phrases_say_what_varies_and_are_in_japanese():
    for english, said in PHRASES.items():
        assert set(places(said)) <= set(places(english)), english
        bare = re.sub(r"\{\w+\}|<[^>]*>|[A-Z][A-Za-z-]+", "", said)
        assert in_japanese(said) or not re.search("[a-z]", bare), english


def test_what_varies_is_looked_up_in_turn():
    verdict = "the lowest error is that of axial, 6.9% (5.6% to 8.1%), lower than that of every"
    said = "最小誤差は axial の 6.9%(5.6%〜8.1%) で、他の全てより小さい"
    assert JA(f"Verdict: {verdict} other.") == f"判定：{said}。"
    assert JA("Largest deviation") == JA("largest deviation") == "最大のずれ"
    assert JA("of my own making") == "of my own making"


def test_markup_stays_and_what_it_names_is_said_in_japanese(tmp_path):
    page = (
        '<html lang="en"><style>td { color: red }</style><div aria-label="Sensors">'
        '<p>✓ verified</p><td data-label="Seeds"><span class="light">✗ missing</span> '
        "<code>seal.json</code></td></div></html>"
    )
    write_pages(tmp_path / "a.html", lambda words: page)
    assert (tmp_path / "a.html").read_text() == page
    assert (tmp_path / "a.ja.html").read_text() == (
        '<html lang="ja"><style>td { color: red }</style><div aria-label="センサー">'
        '<p>✓ 確認済み</p><td data-label="シード数"><span class="light">✗ 欠落</span> '
        "<code>seal.json</code></td></div></html>"
    )
    assert english_in((tmp_path / "a.ja.html").read_text()) == []


def test_figures_are_drawn_in_the_language_of_their_page(tmp_path):
    drawn = []

    def page(words):
        def draw(ax):
            ax.set_xlabel("relative L2 error")
            drawn.append(ax.figure)

        style.curves(draw)
        return words.language

    write_pages(tmp_path / "a.html", page)
    texts = [{text.get_text() for text in figure.findobj(Text)} for figure in drawn]
    assert ["相対L2誤差" in found for found in texts] == [False, False, True, True]
