"""Where harvested data is kept."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from signalcanary.api.names import (
    Size,
    rule,
)
from signalcanary.contract import (
    Model,
    PositiveDuration,
    string_schema,
)

_BUCKET_URL: Final = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=/-]*)?$"
_ENDPOINT: Final = r"^https?://[^ /]+$"


class Bucket(Model):
    """An S3 bucket for harvested data."""

    url: Annotated[
        str,
        StringConstraints(pattern=_BUCKET_URL, max_length=256),
        WithJsonSchema(string_schema(_BUCKET_URL, 256, "write s3://bucket or s3://bucket/prefix")),
    ] = Field(
        description="The bucket and a prefix in it. Data of this SignalCanary lies below it, under "
        "its namespace and name."
    )
    secret_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="A Secret in this namespace with the keys AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN and AWS_REGION if needed. Without it the "
        "pods use what the cluster gives them.",
    )
    endpoint: (
        Annotated[
            str,
            StringConstraints(pattern=_ENDPOINT, max_length=256),
            WithJsonSchema(
                string_schema(_ENDPOINT, 256, "write an address such as https://minio.example:9000")
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Address of the S3 service; Amazon's if not given. It must know conditional "
        "writes (If-None-Match).",
    )


class ReclaimPolicy(StrEnum):
    DELETE = "Delete"
    RETAIN = "Retain"


class Storage(Model):
    """Where harvested data is kept, and for how long."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.claimName) || !has(self.storageClassName)",
                    "claimName names a claim that exists: take storageClassName out",
                ),
                *(
                    rule(
                        f"!has(self.bucket) || !has(self.{name})",
                        f"bucket takes the place of a claim: take {name} out, or bucket",
                    )
                    for name in ("claimName", "storageClassName")
                ),
                *(
                    rule(
                        f"has(self.{name}) == has(oldSelf.{name}) && "
                        f"(!has(self.{name}) || self.{name} == oldSelf.{name})",
                        f"storage.{name} cannot be changed, as the data would stay behind: "
                        "make a new SignalCanary",
                    )
                    for name in ("claimName", "storageClassName", "accessMode", "bucket")
                ),
            ]
        }
    )

    claim_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="An existing PersistentVolumeClaim to use. It outlives the SignalCanary. "
        "Without it a claim is made, which is deleted with the SignalCanary.",
    )
    size: Size = Field(
        default="20Gi",
        description="Size of the claim that is made. Unit: bytes, as a Kubernetes quantity.",
    )
    storage_class_name: str | None = Field(
        default=None,
        max_length=253,
        description="StorageClass of the claim that is made; the cluster's default if not given.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="Access mode of the claim. With ReadWriteOnce all pods of the SignalCanary "
        "share one node.",
    )
    commit_interval: PositiveDuration = Field(
        default=timedelta(seconds=10),
        description="Longest time that a received row waits for its commit. Unit: wall clock.",
    )
    bucket: Bucket | None = Field(
        default=None,
        description="An S3 bucket in place of a claim. It outlives the SignalCanary.",
    )
    reclaim_policy: ReclaimPolicy = Field(
        default=ReclaimPolicy.DELETE,
        description="What becomes of the claim that is made when the SignalCanary is deleted: "
        "Delete, or Retain, to be deleted by hand.",
    )
    compaction_interval: PositiveDuration = Field(
        default=timedelta(hours=1),
        description="Stretch whose commits become one part a kind once it is over. Unit: event "
        "time.",
    )
    retention: PositiveDuration | None = Field(
        default=None,
        description="Age, against the newest, at which compacted data is deleted; without it all "
        "is kept. Unit: event time.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, given in (
            ("claimName", self.claim_name),
            ("storageClassName", self.storage_class_name),
        ):
            if self.bucket is not None and given is not None:
                raise ValueError(f"bucket takes the place of a claim: take {name} out, or bucket")
        return self
