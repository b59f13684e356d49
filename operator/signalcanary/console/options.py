"""The options by which people name a cluster and a form of output. Needs nothing, as help must come
at once."""

from __future__ import annotations

import argparse


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
