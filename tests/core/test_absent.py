"""What is absent: a code for code, words for people, and every code with words."""

import ast
import json
import re
from pathlib import Path
from string import Formatter

import pytest

import mno
from mno.core.absent import Absent, as_json
from mno.core.words import LANGUAGES, own_texts, texts_of

PACKAGE = "mno.core.words"
ROOT = Path(mno.__file__).parents[1]


def codes():
    files = [
        file for folder in ("mno", "pipelines", "flows") for file in ROOT.glob(f"{folder}/**/*.py")
    ]
    calls = (
        node
        for file in files
        if "Absent(" in (text := file.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args
        if node.func.id == "Absent"
    )
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def test_every_code_has_words_and_all_words_are_said():
    assert codes() == set(own_texts(PACKAGE, "en"))


def test_all_languages_have_the_same_words_with_the_same_values():
    english, *others = (own_texts(PACKAGE, language) for language in LANGUAGES)
    for texts in others:
        assert list(texts) == list(english)
        for key, text in texts.items():
            assert _placeholders(text) <= _placeholders(english[key]), key
            assert re.search(r"[ぁ-んァ-ヶ一-龠]", text) or "{error}" in text, key


def _placeholders(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_it_is_said_in_every_language_with_its_values():
    why = Absent("cost.no_curve", {"reason": Absent("solver.imported", {"scenario": "plant"})})
    assert str(why) == f"{why}" == "no curve over grids: no solver for imported data (plant)"
    assert "取り込みデータ" in why.text("ja")


def test_it_is_a_value():
    one, same, other = (Absent("grid.gaps", {"n": n}) for n in (1, 1, 2))
    assert one == same != other
    assert len({one, same, other}) == 2


def test_json_holds_the_english_words():
    assert json.dumps([Absent("grid.points")], default=as_json).startswith('["unordered points')
    with pytest.raises(TypeError, match="set"):
        json.dumps({1}, default=as_json)


def test_what_another_language_lacks_is_said_in_english_with_one_warning(tmp_path, monkeypatch):
    package = tmp_path / "half_translated"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "en.toml").write_text('a = "one"\n[t]\nb = "two"\n', encoding="utf-8")
    (package / "ja.toml").write_text('a = "一"\n', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match=r"ja.toml .* t\.b") as warned:
        found = [texts_of("half_translated", "ja") for _ in range(2)]
    assert len(warned) == 1
    assert found[0] == {"a": "一", "t.b": "two"}
    with pytest.raises(ValueError, match="'fr' is none of en, ja"):
        texts_of("half_translated", "fr")
