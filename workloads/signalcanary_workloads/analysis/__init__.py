"""The analysis workload: harvested Parquet → as-of join → fusion → labels → Platt → /metrics.

It exists to say, while a signal configuration runs on live data, how well it predicts, in
numbers that a rollout may be decided on. Therefore nothing here may see the future: a row is
joined with what had arrived, scored with the calibration that existed, and labelled later.

`rows`, `join`, `fusion`, `labels`, `calibrate`, `flip`, `score` and `engine` are pure: event
time in, numbers out, no clock and no I/O. `runner` reads the store, `exporter` renders,
`cli` runs the process.
"""
