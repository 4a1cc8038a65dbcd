"""Other mixers in a trained operator."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.mixers import MIXERS
from mno.nn.operator import Mixers, Operator

OPTIONS = tuple(dict.fromkeys(o for e in MIXERS.values() for o in e.options if o != "dims"))
"""Options of mixers among those of `ModelConfig`; a list's alone may differ from layer to layer."""


def replace_mixer(
    operator: Operator, layers: Sequence[int], mixer: str, **options: Any
) -> Operator:
    """Return an operator with other mixers in some layers, and all other weights kept.

    The new mixers have fresh weights, drawn from torch's global generator, so the operator predicts
    badly until they are trained: their weights alone at first, which `Operator.mixers` finds, then
    all. The operator that is given stays as it is.
    What is returned knows its configuration, `operator.config`, from which it can be built again;
    `Surrogate.with_operator` makes it one that can be saved.

    Args:
        operator: A trained operator, made by `build_operator`.
        layers: Numbers of the layers, from 0. All mixers of a layer are replaced.
        mixer: Name of a mixer, or `own` for the one that the backbone was published with.
        options: Of the new mixers, any of `OPTIONS`; those of the operator where not given. An
            option that a kept mixer depends on cannot be changed.

    Raises:
        ValueError: The backbone has no mixers, a layer does not exist, a name or option is not
            known or does not fit, or an option would change a mixer that is kept.
    """
    replaced = _mixers_of(operator, layers)
    if mixer not in ("own", *MIXERS):
        raise ValueError(f"mixer={mixer!r} is not known; choose one of own, {', '.join(MIXERS)}")
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise ValueError(f"{unknown} are not options of mixers; choose among {', '.join(OPTIONS)}")
    config = _changed(operator.config, set(layers), mixer, options)
    _check_kept(operator, config, set(layers))
    new = build_operator(config, **vars(operator.signature))
    for name in replaced:
        new.get_submodule(name).to(next(operator.get_submodule(name).parameters()))
    # Assigned rather than copied into place, so that device and type come along.
    inside = tuple(f"{name}." for name in replaced)
    state, fresh = operator.state_dict(), new.state_dict()
    kept = {key: value.clone() for key, value in state.items() if not key.startswith(inside)}
    new.load_state_dict(fresh | kept, assign=True)
    return new.train(operator.training)


def _mixers_of(operator: Operator, layers: Sequence[int]) -> list[str]:
    known = {layer for layer, _ in operator.mixers()}
    if not known:
        raise ValueError(f"backbone={operator.config.backbone!r} has no mixers to replace")
    wrong = sorted(set(layers) - known)
    if wrong or not layers:
        raise ValueError(
            f"layers={wrong or list(layers)}: this operator has mixers in layers "
            f"{', '.join(map(str, sorted(known)))}; name at least one, and only these"
        )
    return [name for layer, name in operator.mixers() if layer in layers]


def _changed(
    config: ModelConfig, layers: set[int], mixer: str, options: dict[str, Any]
) -> ModelConfig:
    values = config.model_dump() | options
    for key, name in {"mixer": mixer, "path": options.get("path")}.items():
        if name is None:
            continue
        before = getattr(config, key)
        names = [name if i in layers else before[i % len(before)] for i in range(config.layers)]
        values[key] = names[:1] if len(set(names)) == 1 else names
    try:
        return ModelConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(item["msg"] for item in error.errors())
        raise ValueError(f"mixer={mixer!r} with {options} does not fit: {problems}") from None


def _check_kept(operator: Operator, config: ModelConfig, layers: set[int]) -> None:
    """Refuse options that change a layer whose mixer, with its weights, is to stay."""
    before, after = (Mixers(c, operator.dims) for c in (operator.config, config))
    for layer in sorted({layer for layer, _ in operator.mixers()} - layers):
        (name, old), (_, new) = before.choice(layer), after.choice(layer)
        differ = [f"{key}={new[key]!r}" for key in new if new[key] != old[key]]
        if differ:
            raise ValueError(
                f"{', '.join(differ)} would change the {name} mixer of layer {layer}, too, which "
                "is kept; keep the operator's own value, or replace that layer as well"
            )
