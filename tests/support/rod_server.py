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

    def supports_apply_jacobian(self):
        return True

    def apply_jacobian(self, out_wrt, in_wrt, parameters, vec, config):
        conductivity, (power,) = np.array(parameters[0]), parameters[1]
        rise = self.solved(conductivity, power)
        if in_wrt == 1:
            moved = rise * vec[0] / power
        else:
            faces = 2.0 / np.convolve(1.0 / conductivity, [1.0, 1.0])
            by = faces**2 / 2 * np.convolve(np.array(vec) / conductivity**2, [1.0, 1.0])
            moved = -np.linalg.solve(self.matrix(faces), self.matrix(by) @ rise)
        return moved.tolist()[: 7 if config.get("answer") == "short rates" else 8] if (
            out_wrt == 0) else [float(moved[rise.argmax()])]  # fmt: skip

    def matrix(self, faces):
        return np.diag(faces[1:] + faces[:-1]) - np.diag(faces[1:-1], 1) - np.diag(faces[1:-1], -1)

    def solved(self, conductivity, power):
        faces = 2.0 / np.convolve(1.0 / conductivity, [1.0, 1.0])  # at the ends of half a piece
        return np.linalg.solve(self.matrix(faces), np.full(8, power / 64))

    def __call__(self, parameters, config):
        temperature = 293.0 + self.solved(np.array(parameters[0]), parameters[1][0])
        if config.get("answer") == "nan":
            temperature[3] = np.nan
        if config.get("answer") == "error":
            raise ValueError("the mesh is tangled")
        return [temperature.tolist()[: 7 if config.get("answer") == "short" else 8],
                [float(temperature.max())]]  # fmt: skip


if __name__ == "__main__":
    umbridge.um.web.run_app = partial(umbridge.um.web.run_app, host="127.0.0.1")
    umbridge.serve_models([Rod("rod")], int(sys.argv[1]))
