from __future__ import annotations

import pytest

from mno.core.errors import InputError
from mno.imports.mapping import check_unit, conversion


@pytest.mark.parametrize(
    ("given", "wanted", "value", "expected"),
    [
        ("degC", "K", 25.0, 298.15),
        ("bar", "Pa", 2.0, 2e5),
        ("degF", "degC", 212.0, 100.0),
        ("mm", "m", 5.0, 5e-3),
        ("1", "1", 3.0, 3.0),
        ("kW/m^2", "W/m^2", 1.5, 1500.0),
        ("percent", "1", 50.0, 0.5),
        ("kg*m/s**2", "N", 2.0, 2.0),
        ("W m^-2 K^-1", "W/(m^2*K)", 2.0, 2.0),
        # As plants and conventions write them.
        ("bar", "Pa", 0.0, 0.0),
        ("degC", "K", 0.0, 273.15),
        ("m3/h", "m^3/s", 3600.0, 1.0),
        ("W m-2 K-1", "kW/m^2/K", 1000.0, 1.0),
        ("kg m2", "kg*m^2", 1.0, 1.0),
        ("%", "1", 1.0, 0.01),
    ],
)
def test_values_are_converted(given: str, wanted: str, value: float, expected: float) -> None:
    factor, offset = conversion(given, wanted, "temperature")
    assert factor * value + offset == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ("bar", "K", "temperature is given in bar .* cannot be converted to K"),
        ("blorb", "K", "'blorb' is no unit"),
        ("K", "__import__('os')", "is no unit"),
        ("9**9**9", "K", "is no unit"),
        ("9^9^9", "K", "is no unit"),
        ("(9**99)**99", "K", "is no unit"),
        ("9**9999999999", "K", "is no unit"),
        ("m" * 1000, "K", "is no unit"),
        *(
            (unit, "m", "is no unit that is known here")
            for unit in ("9**9**9**9", "9^9^9*m", "(9)**9**9", "m**(9**9)", "9⁹⁹⁹", "m999")
        ),
        ("m*" * 30 + "m", "m", "is no unit that is known here"),
    ],
)
def test_what_does_not_fit_is_one_line(given: str, wanted: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        conversion(given, wanted, "temperature")
    assert "\n" not in str(caught.value)


def test_what_is_no_unit_is_refused() -> None:
    check_unit("W/m^2", "power")
    with pytest.raises(InputError, match="power: 'foo.' is no unit"):
        check_unit("foo(", "power")
