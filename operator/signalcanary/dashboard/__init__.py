"""A page on this machine that shows a cluster's rollouts live: `signalcanary dashboard`.

view      what is shown of the fleet and of one rollout             pure
steps     where a rollout is on its way, and how long it has yet    pure
curves    the values of late, of which a status has only the last   pure
guard     whose requests are answered                               pure
verbs     what a person may do, and what would come of it now
live      what the API server tells, by watches                     the network
past      values from before, from Prometheus                       the network
server    the page, its stream of changes, and the verbs            the network
command   the verb

It computes nothing that status, `explain` and `history` say: it shows them.
"""
