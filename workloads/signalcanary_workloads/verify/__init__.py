"""The look at a configuration's model files, before any pod of the canary starts."""
