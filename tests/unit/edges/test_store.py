"""The picture of the cluster: whatever order news comes in, the newest is believed."""

from __future__ import annotations

from typing import Any

import pytest

from signalcanary.resources import LABEL_NAME
from signalcanary.store import MAX_GRAVES, Key, Kind, Store

DEMO = Key("default", "demo")


def item(name: str, version: int | None = None, owner: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "default", "name": name}
    if version is not None:
        metadata["resourceVersion"] = str(version)
    if owner is not None:
        metadata["labels"] = {LABEL_NAME: owner}
    return {"metadata": metadata}


@pytest.fixture
def store() -> Store:
    return Store()


def pods(store: Store, owner: str = "demo") -> list[str]:
    return [pod["metadata"]["name"] for pod in store.owned(Key("default", owner), Kind.POD)]


def test_an_object_wakes_its_owner_once(store: Store) -> None:
    store.put(Kind.POD, item("a", 1, "demo"))
    assert store.wakeup.is_set()
    assert store.take_changed() == {DEMO}
    assert not store.wakeup.is_set()
    assert store.take_changed() == set()
    store.put(Kind.POD, item("a", 1, "demo"))  # the same again, as a new watch begins with
    assert store.take_changed() == set()


@pytest.mark.parametrize("labels", [None, {}, {"other": "x"}], ids=repr)
def test_an_object_without_labels_is_nobodys(store: Store, labels: Any) -> None:
    pod = item("a", 1)
    pod["metadata"]["labels"] = labels
    store.put(Kind.POD, pod)
    store.remove(Kind.POD, pod)
    assert store.owned(Key("default", ""), Kind.POD) == []
    del pod["metadata"]["labels"]
    store.put(Kind.POD, pod)


def test_an_object_that_is_given_to_another_owner_leaves_the_first(store: Store) -> None:
    store.put(Kind.POD, item("a", 1, "demo"))
    store.put(Kind.POD, item("a", 2, "other"))
    assert (pods(store), pods(store, "other")) == ([], ["a"])
    assert store.take_changed() == {DEMO, Key("default", "other")}
    store.remove(Kind.POD, item("a", 3))  # an event without the labels that it was known by
    assert pods(store, "other") == []


def test_what_is_older_than_what_is_known_is_left_out(store: Store) -> None:
    store.put(Kind.SIGNAL_CANARY, item("demo", 10))
    store.take_changed()
    store.put(Kind.SIGNAL_CANARY, item("demo", 9))
    store.remove(Kind.SIGNAL_CANARY, item("demo", 8))
    assert store.canaries()[DEMO]["metadata"]["resourceVersion"] == "10"
    assert store.take_changed() == set()


def test_the_dead_do_not_rise_from_an_older_list_or_a_late_answer(store: Store) -> None:
    store.put(Kind.SIGNAL_CANARY, item("demo", 5))
    store.remove(Kind.SIGNAL_CANARY, item("demo", 7))
    store.put(Kind.SIGNAL_CANARY, item("demo", 6))
    store.replace(Kind.SIGNAL_CANARY, [item("demo", 5)], "6")
    assert store.canaries() == {}
    store.put(Kind.SIGNAL_CANARY, item("demo", 8))  # made anew
    assert DEMO in store.canaries()


def test_a_list_removes_what_it_lacks_but_not_what_is_newer(store: Store) -> None:
    for name, version in (("old", 1), ("kept", 2), ("newer", 9)):
        store.put(Kind.POD, item(name, version, "demo"))
    store.take_changed()
    store.replace(Kind.POD, [item("kept", 2, "demo")], "5")
    assert sorted(pods(store)) == ["kept", "newer"]
    assert store.take_changed() == {DEMO}
    store.replace(Kind.POD, [item("kept", 2, "demo"), item("newer", 9, "demo")], "9")
    assert store.take_changed() == set(), "nothing had changed"


def test_versions_that_are_no_numbers_are_taken_as_they_come(store: Store) -> None:
    first, second = item("demo"), item("demo")
    first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"] = "b", "a"
    store.put(Kind.SIGNAL_CANARY, first)
    store.put(Kind.SIGNAL_CANARY, second)
    assert store.canaries()[DEMO] is second
    store.replace(Kind.SIGNAL_CANARY, [], None)
    assert store.canaries() == {}


def test_snapshots_stand_still_while_events_come_in(store: Store) -> None:
    for n in range(3):
        store.put(Kind.SIGNAL_CANARY, item(f"c{n}", n))
        store.put(Kind.POD, item(f"p{n}", n, "demo"))
    for key in store.canaries():
        store.remove(Kind.SIGNAL_CANARY, item(key.name, 100))
    for pod in store.owned(DEMO, Kind.POD):
        store.put(Kind.POD, item(pod["metadata"]["name"] + "x", 101, "demo"))
    assert store.canaries() == {}
    assert len(pods(store)) == 6


def test_nothing_is_remembered_for_ever(store: Store) -> None:
    for n in range(MAX_GRAVES + 500):
        store.put(Kind.POD, item(f"p{n}", 2 * n, f"o{n}"))
        store.remove(Kind.POD, item(f"p{n}", 2 * n + 1, f"o{n}"))
    assert len(store._owned) == 0
    assert len(store._graves[Kind.POD]) == MAX_GRAVES
    store.replace(Kind.POD, [], str(3 * MAX_GRAVES))
    assert len(store._graves[Kind.POD]) == 0
