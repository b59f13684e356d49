"""What people ask of a cluster by `signalcanary VERB` or `kubectl signalcanary VERB`.

options    the options by which a cluster is named                              pure
access     by which kubeconfig, context and namespace; errors as sentences   the network
standing   how an object stands, as a word and an exit code                  pure
"""
