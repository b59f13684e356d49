"""A rollout without a cluster: the operator's decisions, with local processes as pods."""
