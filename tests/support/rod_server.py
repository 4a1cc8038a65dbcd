"""A solver behind a server, as a user may have one: `python rod_server.py PORT`.

What a question's config asks for it does wrongly: `{"answer": "nan"}`, `short` or `error`.
"""

import sys
from functools import partial

import numpy as np
import umbridge


class Rod(umbridge.Model):
    """Steady temperatures of a rod that is heated evenly, by its conductivity; both ends at 293 K.

    It has eight pieces; the second answer is the temperature of the hottest.
    """

    def get_input_sizes(self, config):
        return [8, 1]

    def get_output_sizes(self, config):
        return [8, 1]

    def supports_evaluate(self):
        return True

    def __call__(self, parameters, config):
        conductivity, (power,) = np.array(parameters[0]), parameters[1]
        resistance = 1.0 / conductivity
        faces = 2.0 / np.convolve(resistance, [1.0, 1.0])  # at the ends of half a piece
        matrix = (
            np.diag(faces[1:] + faces[:-1]) - np.diag(faces[1:-1], 1) - np.diag(faces[1:-1], -1)
        )
        temperature = 293.0 + np.linalg.solve(matrix, np.full(8, power / 64))
        if config.get("answer") == "nan":
            temperature[3] = np.nan
        if config.get("answer") == "error":
            raise ValueError("the mesh is tangled")
        return [temperature.tolist()[: 7 if config.get("answer") == "short" else 8],
                [float(temperature.max())]]  # fmt: skip


if __name__ == "__main__":
    umbridge.um.web.run_app = partial(umbridge.um.web.run_app, host="127.0.0.1")
    umbridge.serve_models([Rod("rod")], int(sys.argv[1]))
