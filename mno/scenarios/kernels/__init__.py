"""What scenarios compute with: compiled inner loops of solvers, random fields, second statements.

| scenario | modules |
| --- | --- |
| `burgers` | `burgers`, `line_square`, `cole_hopf` |
| `darcy` | `multigrid`, `diffusion_plain`, `bumps` |
| `darcy_ring` | `ring`, `triangles`, `edges` |
| `diffusion_reaction` | `reaction_diffusion` |
| `furnace` | `furnace_plant`, `heat_conduction`, `direct_conduction` |
| `furnace_ring` | `round_furnace`, `ring_conduction`, `point_conduction`; `ring` and so on |
| `navier_stokes` | `vorticity`, `torus_square`, `plain_vorticity`, `torus_waves` |
| `shallow_water` | `dams`, `shallow_water`, `shallow_water_plain` |
| several | `random_field`, `periodic_field`, `heat_balance`, `exponential`, `transforms`, `rows` |

`caching` keeps compiled kernels between processes.
"""
