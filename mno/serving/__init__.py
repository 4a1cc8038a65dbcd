"""An HTTP service around a registered model, by MLflow's own protocol.

`protocol` says how arrays come and go, `batcher` has all cores answer those who wait,
`follower` holds the model and takes the next one that the registry names, `monitor` counts, and
`app` puts a web application around them.
"""
