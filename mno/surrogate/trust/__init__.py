"""Trust in a single prediction: bounds on its error, its residual, and whether it is asked for.

A `Trust` belongs to one trained model. It is calibrated on the validation split
(`calibration.calibrate`), kept as JSON beside the model, and asked with each prediction
(`Trust.assess`).
"""
