"""The data layout (docs/designs/002): what both sides know, and how it is read.

Analysis and people read what harvest writes, at the same time, on one volume or in one bucket.
A reader follows the manifest (`ManifestReader`) and opens only parts that an entry names
(`read_part`). `schema` holds the columns, `manifest` the entries, `storage` the interface to
where the bytes are kept, `upkeep` what harvest does to old data.
"""

from .errors import (
    AlreadyThere,
    CorruptEntry,
    CorruptPart,
    MissingPart,
    NotFound,
    StorageError,
    StoreError,
    Taken,
)
from .manifest import (
    CompactedEntry,
    Entry,
    Gap,
    Listing,
    Member,
    Part,
    Range,
    entry_key,
    manifest_folder,
)
from .parts import read_part, to_parquet
from .reader import ManifestReader, has_entry
from .schema import HARVESTED, ID_COLUMN, SCHEMAS, Kind, Quality, Regime
from .storage import BUCKET_SCHEME, Lease, Storage, Stored, open_storage
from .upkeep import GRACE_SECONDS, Upkeep, UpkeepSettings

__all__ = [
    "BUCKET_SCHEME",
    "GRACE_SECONDS",
    "HARVESTED",
    "ID_COLUMN",
    "SCHEMAS",
    "AlreadyThere",
    "CompactedEntry",
    "CorruptEntry",
    "CorruptPart",
    "Entry",
    "Gap",
    "Kind",
    "Lease",
    "Listing",
    "ManifestReader",
    "Member",
    "MissingPart",
    "NotFound",
    "Part",
    "Quality",
    "Range",
    "Regime",
    "Storage",
    "StorageError",
    "StoreError",
    "Stored",
    "Taken",
    "Upkeep",
    "UpkeepSettings",
    "entry_key",
    "has_entry",
    "manifest_folder",
    "open_storage",
    "read_part",
    "to_parquet",
]
