"""Telling people: transitions become messages to Slack, e-mail, webhooks and Alertmanager.

At least once, and never in the way of a decision. A decision hands over what it did and goes
on (`Notifier.note`, which cannot fail or wait); whatever is slow, ill or wrong in here stays in
here. See docs/designs/007-notifications.md.

    notification   what there is to tell, and how severe it is                    (pure)
    routing        routes, silences, severities of one's own                      (pure)
    endpoints      where receivers are, and the files of their credentials
    config         the administrator's file of these
    alerts         what fires at an Alertmanager, and what is resolved            (pure)
    outbox         what is to be sent to whom and when, and what was taken in     (pure)
    record         what of it is kept over a restart                              (pure)
    render         notifications as each receiver takes them                      (pure)
    receivers      one attempt at one receiver, with a deadline
    keeper         keeps the record
    notifier       the task that puts these together, beside the poller
    command        `signalcanary notify-test`
"""
