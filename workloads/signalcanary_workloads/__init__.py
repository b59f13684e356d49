"""The workloads that a rollout runs: harvest, analysis, and an exchange to try them on."""
