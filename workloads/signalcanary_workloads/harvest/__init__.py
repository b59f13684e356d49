"""Harvest: the exchange's streams in, order-flow features and raw rows as Parquet out."""
