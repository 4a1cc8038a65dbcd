"""The words of the report: the same texts in every language, and none that nobody says."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import mno.report
from mno.core.config import Config
from mno.core.words import LANGUAGES, own_texts
from mno.nn.config import ModelConfig
from mno.report.document import SECTIONS
from mno.report.language import Words
from mno.scenarios.base import make_scenario
from mno.scenarios.kernels.thermal_stress import EQUILIBRIUM
from mno.training.config import TrainConfig

FOLDER = Path(mno.report.__file__).parent
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for pattern in ("*.py", "*.j2")
    for path in FOLDER.rglob(pattern)
)

OURS = ("burgers", "darcy", "darcy_ring", "diffusion_reaction", "furnace", "furnace_ring")
OURS += ("navier_stokes", "shallow_water")  # what others add need not be in Japanese

OUR_TERMS = ("relative_l2", "rmse", "nrmse", "max_error", "boundary_rmse", "conserved_rmse")
OUR_TERMS += ("fourier_low_rmse", "fourier_middle_rmse", "fourier_high_rmse", "relative_h1")
OUR_TERMS += ("mean_field", "kept_frame")


def texts(language: str) -> dict[str, str]:
    found = own_texts("mno.report", language)
    return {key: text for key, text in found.items() if not key.startswith("names.")}


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_all_languages_have_the_same_texts_with_the_same_placeholders() -> None:
    english, *others = map(texts, LANGUAGES)
    assert set(SECTIONS) < {key.partition(".")[0] for key in english}
    for other in others:
        assert list(other) == [key for key in english if key in other or not _of_others(key)]
        for key, text in other.items():
            assert placeholders(text) <= placeholders(english[key]), key


def _of_others(key: str) -> bool:
    """Say whether a text is of a metric that somebody has added, who need not know Japanese."""
    _, kind, name = (*key.split("."), "", "")[:3]
    return kind in ("term", "meaning") and name not in OUR_TERMS


def test_every_text_is_said_somewhere() -> None:
    literals = set(re.findall(r"""["']([a-z0-9_.]+)["']""", SOURCES))
    literals |= {f"why.{code}" for code in own_texts("mno.core.words", "en")}
    starts = set(re.findall(r"""["']([a-z0-9_.]+\.)(?:\{|["'] ~)""", SOURCES))  # f"term.{name}"
    figures = {f"{key}.{part}" for key in literals for part in ("title", "caption", "alt")}
    for text in texts("en"):
        section, _, own = text.partition(".")
        key = own if section in SECTIONS else text
        assert key in literals | figures or any(key.startswith(start) for start in starts), text


def test_japanese_texts_are_in_japanese() -> None:
    for key, text in texts("ja").items():
        said = re.sub(r"\{.*?\}|\b(n?RMSE)\b", "", text)  # what is the same in all languages
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", said) or not re.search(r"[A-Za-z]", said), key


def test_a_text_that_is_missing_is_named() -> None:
    words = Words.of("en", "accuracy")
    with pytest.raises(KeyError, match="no text 'nothing' in en.toml"):
        words("nothing")
    with pytest.raises(KeyError, match="field"):
        words("errors_in")
    with pytest.raises(ValueError, match="'fr' is none of en, ja"):
        Words.of("fr", "accuracy")


def test_a_check_without_words_is_said_in_english_with_one_warning() -> None:
    words = Words.of("ja")
    with pytest.warns(UserWarning, match="ja.toml") as warned:
        assert words.check("of_mine", "largest gap") == "largest gap"
        assert words.check("of_others", "a share") == "a share"
    assert len(warned) == 1


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "非数(NaN)"), (0.031, "3.1 %")])
def test_numbers_are_said_in_the_language(value: float, text: str) -> None:
    assert Words.of("ja").percent(value).replace("\u202f", " ") == text


@pytest.mark.parametrize("scenario", OURS)
def test_every_physics_check_is_named_in_japanese(scenario: str) -> None:
    checks = {check.name: check.description for check in make_scenario(scenario, 24, {}).checks}
    checks |= {EQUILIBRIUM.name: EQUILIBRIUM.description}
    for name, description in checks.items():
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", Words.of("ja").check(name, description)), name


@pytest.mark.parametrize("scenario", OURS)
def test_every_parameter_that_is_changed_is_named_in_japanese(scenario: str) -> None:
    changed = make_scenario(scenario, 24, {}).outside().values()
    for name in {name for parameters in changed for name in parameters}:
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", Words.of("ja").name(name)), name


@pytest.mark.parametrize("config", [ModelConfig, TrainConfig])
def test_every_setting_is_named_in_japanese(config: type[Config]) -> None:
    for name in config.model_fields:
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", Words.of("ja").name(name.replace("_", " "))), name
