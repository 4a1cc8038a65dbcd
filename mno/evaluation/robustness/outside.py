"""Problems outside those that the training data were drawn from."""

from __future__ import annotations

from mno.data.reading import Schema
from mno.evaluation.robustness.curve import Result, curve
from mno.evaluation.robustness.solved import solved_anew
from mno.evaluation.robustness.trial import Trial
from mno.evaluation.solving import solver_of

AS_TRAINED = "as trained"


def outside_training(trial: Trial, schema: Schema, count: int, seed: int) -> Result | str:
    """Return the errors on the problems that the scenario names as its neighbours, solved anew.

    The first level are new problems as the training data were drawn, from the same streams. A
    parameter that changes may be none of the model's inputs: then it cannot know of it.

    Returns:
        A curve whose levels are names, and for each name what was `changed`: by parameter, the
        value of the training data and that of the trial. Or why there is none.
    """
    scenario = solver_of(schema)
    if isinstance(scenario, str):
        return scenario
    changes = {AS_TRAINED: {}, **scenario.outside()}
    levels = {}
    for label, changed in changes.items():
        samples = solved_anew(schema, count, seed, changed=changed)
        if isinstance(samples, str):
            levels[label] = samples
            continue
        given = trial.description.given(samples.fields)
        levels[label] = trial.errors(given, trial.description.truth(samples.fields))
    was = schema.parameters
    return curve(
        levels,
        seed,
        changed={
            label: {name: [was.get(name), value] for name, value in changed.items()}
            for label, changed in changes.items()
        },
    )
