"""The options by which people name a cluster and a form of output. Needs nothing, as help must come
at once."""

from __future__ import annotations

import argparse
from typing import Final


def add_cluster_options(parser: argparse.ArgumentParser, *, all_namespaces: bool = False) -> None:
    """The options by kubectl's names and meanings."""
    group = parser.add_argument_group("the cluster, as kubectl has it")
    group.add_argument(
        "-n",
        "--namespace",
        metavar="NS",
        help="namespace of the object (default: the context's)",
    )
    if all_namespaces:
        group.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    group.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="(default: $KUBECONFIG, else ~/.kube/config; in a pod, its service account)",
    )
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig (default: its current)")


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """The form of the output."""
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "yaml"),
        default="text",
        help="text for people (default), or the same for programs",
    )


HAND_VERBS: Final = {
    "pause": "freeze a rollout: no stage begins or ends, nothing is promoted; guards stay armed",
    "resume": "let a paused rollout go on where it was",
    "approve": "let a stage end that needs a person's approval",
    "skip": "end the present stage now, if nothing is breached",
    "promote": "promote now: without the stages left and without waiting for evidence, if "
    "nothing is breached",
    "abort": "take the canary back",
    "retry": "try the revision again that was rolled back",
    "rollback": "make a revision stable again that was stable before",
}


def add_hand_options(parser: argparse.ArgumentParser, verb: str) -> None:
    """The options of a verb by which a person takes a rollout in hand."""
    parser.add_argument("name", metavar="NAME", help="of the SignalCanary")
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept and told")
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="to wait for the operator's answer (default: 30)",
    )
    parser.set_defaults(stage=None, to=None)
    if verb == "approve":
        parser.add_argument("--stage", metavar="STAGE", help="(default: the present one)")
    if verb == "rollback":
        parser.add_argument(
            "--to", required=True, metavar="VERSION", help="or the name of its revision"
        )
    add_cluster_options(parser)
