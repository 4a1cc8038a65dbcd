"""An HTTP service around a registered model, by MLflow's own protocol.

`protocol` says how arrays come and go, `batcher` has all cores answer those who wait, `model` holds
the model, takes the next one that the registry names and says how far an answer may be trusted,
`counts` keeps what was seen, and `app` puts a web application around them.
"""
