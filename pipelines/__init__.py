"""How each stage of `dvc.yaml` reads and writes: one module per stage, run by DVC."""
