"""`make bench-workloads`: what harvest and analysis bear, beside what others need for it."""
