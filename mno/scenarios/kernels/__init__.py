"""What scenarios compute with: compiled inner loops of solvers, random fields, second statements.

| scenario | modules |
| --- | --- |
| `burgers` | `burgers` |
| `darcy` | `multigrid` |
| `darcy_ring` | `ring_mesh` |
| `diffusion_reaction` | `reaction_diffusion` |
| `furnace` | `furnaces`, `heat_conduction`, `thermal_stress` |
| `furnace_ring` | `furnaces`, `ring_conduction`, `ring_mesh` |
| `navier_stokes` | `vorticity` |
| `shallow_water` | `shallow_water` |
| several | `random_fields`, `runge_kutta`, `transforms`, `vectors` |

`mno.core.compiled` keeps compiled kernels between processes.
"""
