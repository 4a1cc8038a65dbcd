"""The code that MLflow runs to load a registered model ("models from code").

This file is copied into every packaged model and must work alone: it imports the project where
that is installed, and otherwise the copy of what prediction needs that lies beside the weights.
"""

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SurrogateModel(PythonModel):
    """A surrogate that takes and returns arrays by field name, in physical units."""

    # No type hint that MLflow knows says "arrays by name"; without this it warns at every load.
    _skip_type_hint_validation = True

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights.

        Raises:
            MlflowException: A package is missing or the files cannot be read; says which.
        """
        if find_spec("mno") is None:
            # At the end: nothing that is installed may be shadowed.
            sys.path.append(context.artifacts["code"])
        try:
            from mno.surrogate.surrogate import Surrogate

            self._surrogate = Surrogate.load(context.artifacts["candidate"])
        except Exception as error:
            raise MlflowException(
                f"this model cannot be loaded: {type(error).__name__}: {error}"
            ) from error

    def predict(self, context, model_input, params=None):  # MLflow warns of hints it cannot use
        """Predict the output fields, float32, by name, as `mno.surrogate.Surrogate` does.

        The input are arrays or nested lists by field name; None, which is `null` in JSON, stands
        for a missing value like NaN. Of the `params`, `steps` says how many frames to roll out.

        Raises:
            MlflowException: The input does not fit; HTTP servers answer with status 400.
        """
        from mno.core.errors import InputError

        try:
            steps = (params or {}).get("steps")
            return self._surrogate.predict(_as_arrays(model_input), steps=steps)
        except (InputError, TypeError, ValueError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _as_arrays(given: Any) -> dict[str, np.ndarray]:
    if not isinstance(given, dict):
        raise TypeError(
            f"got {type(given).__name__}; expected arrays of shape (samples, *grid) by field name"
        )
    arrays = {name: np.asarray(array) for name, array in given.items()}
    # None becomes NaN.
    return {n: x.astype(np.float64) if x.dtype == object else x for n, x in arrays.items()}


set_model(SurrogateModel())
