"""What people ask of a cluster by `signalcanary VERB` or `kubectl signalcanary VERB`.

options    the options by which a cluster is named                              pure
access     by which kubeconfig, context and namespace; errors as sentences      the network
health     how an object stands, as a word and an exit code                     pure
explained  why it stands so, and why it was decided so                          pure
judgements what status says each condition was judged to be                       pure
history    what has happened to it                                              pure
text       all that for people                                                  pure
output     text, JSON or YAML
command    the verbs
hand       the verbs that change a rollout                                      the network
"""
