"""An HTTP service around a registered model, by MLflow's own protocol, and its pages."""
