//! Results as JSON, in the form that the command prints: keys in camel case and in this order,
//! and a key is there even if it has nothing to tell.

use serde::ser::{Serialize, SerializeMap, Serializer};
use uuid::Uuid;

use crate::convert::flatten::{FlattenSummary, LayerSummary};
use crate::disk::{BlockInfo, DiskInfo, ParentInfo, PartInfo, VhdInfo, VhdxInfo};
use crate::inspect::{Checks, FileSystem, Inspection, Tally};
use crate::summary::{
    Blob, Compression, Digest, DiskSummary, EntryCounts, Summary, VeritySummary, Warning,
    escape_bytes as escape,
};
use crate::timings::StageTiming;
use crate::verify::{Examined, Finding, Verification};
use crate::verity::{BadBlock, BlockKind, VerityCheck};
use crate::virtual_disk::DiskReport;

/// Adds the keys and values of an object to one that is being written.
trait Entries {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// Makes objects of results. All fields are named where a type has no private ones, so that a new
/// one is not forgotten; what stands behind `..` gives its entries first.
macro_rules! objects {
    ($($results:ident as $it:ident $fields:tt, $(.. $before:expr,)? {
        $($key:literal: $value:expr),+ $(,)?
    })+) => {$(
        impl Entries for $results {
            fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                let $it @ Self $fields = self;
                let _ = $it;
                $($before.entries(map)?;)?
                $(map.serialize_entry($key, &$value)?;)+
                Ok(())
            }
        }

        impl Serialize for $results {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                self.entries(&mut map)?;
                map.end()
            }
        }
    )+};
}

/// The OCI descriptor of a blob.
struct Descriptor {
    compression: Compression,
    blob: Blob,
}

/// A name and a value of a parent locator: any name may come twice.
struct Pair<'a>(&'a (String, String));

objects! {
    Blob as it { digest, size }, { "digest": digest, "size": size }

    Descriptor as it { compression, blob }, {
        "mediaType": compression.media_type(),
        "digest": blob.digest,
        "size": blob.size,
    }

    Summary as it {
        layer, compressed, compression, disk, verity, entries, warnings,
        // Not printed: it is for callers that convert the layers above, too.
        depends_on_lower: _,
    },
        ..Descriptor { compression: Compression::None, blob: *layer },
    {
        "diffId": layer.digest,
        "compressed": Descriptor { compression: *compression, blob: *compressed },
        "disk": disk,
        "verity": verity,
        "entries": entries,
        "warnings": warnings,
    }

    FlattenSummary as it { layers, chain_id, disk, verity, entries, warnings }, {
        "chainId": chain_id,
        "layers": layers,
        "disk": disk,
        "verity": verity,
        "entries": entries,
        "warnings": warnings,
    }

    LayerSummary as it { layer, compressed, compression, read_twice }, {
        "diffId": layer.digest,
        "size": layer.size,
        "compressed": Descriptor { compression: *compression, blob: *compressed },
        "readTwice": read_twice,
    }

    DiskSummary as it { size, virtual_size, uuid, blocks, inodes }, {
        "size": size,
        "virtualSize": virtual_size,
        "uuid": id(uuid),
        "blocks": blocks,
        "inodes": inodes,
    }

    // Under the names that programs which set up dm-verity know.
    VeritySummary as it { root_hash, hash_offset, data_blocks, hash_blocks, salt, uuid }, {
        "rootHash": root_hash.to_hex(),
        "hashOffset": hash_offset,
        "algorithm": "sha256",
        "salt": hex(salt),
        "uuid": id(uuid),
        "dataBlocks": data_blocks,
        "hashBlocks": hash_blocks,
        "blockSize": 4096,
    }

    EntryCounts as it {
        files, directories, symlinks, hard_links, devices, fifos, whiteouts, opaque_directories,
        tar_entries,
    }, {
        "files": files,
        "directories": directories,
        "symlinks": symlinks,
        "hardLinks": hard_links,
        "devices": devices,
        "fifos": fifos,
        "whiteouts": whiteouts,
        "opaqueDirectories": opaque_directories,
        "tarEntries": tar_entries,
    }

    // One of the layer as a whole has no path.
    Warning as it { path, kind, message }, {
        "path": (!path.is_empty()).then(|| escape(path)),
        "kind": kind,
        "message": message,
    }

    StageTiming as timing { stage, wall, starved, blocked, bytes }, {
        "stage": stage,
        "wall": wall.as_secs_f64(),
        "busy": timing.busy().as_secs_f64(),
        "starved": starved.as_secs_f64(),
        "blocked": blocked.as_secs_f64(),
        "bytes": bytes,
    }

    DiskInfo as it { size, format, virtual_size, vhd, vhdx, notes }, {
        "size": size,
        "format": format,
        "virtualSize": virtual_size,
        "vhd": vhd,
        "vhdx": vhdx,
        "notes": notes,
    }

    VhdInfo as it {
        original_size, geometry, created, creator, creator_version, creator_host_os, unique_id,
        saved_state, blocks, max_table_entries, parent,
    }, {
        "originalSize": original_size,
        "cylinders": geometry.0,
        "heads": geometry.1,
        "sectorsPerTrack": geometry.2,
        "created": created,
        "creator": escape(creator),
        "creatorVersion": format!("{}.{}", creator_version.0, creator_version.1),
        "creatorHostOs": escape(creator_host_os),
        "uniqueId": id(unique_id),
        "savedState": saved_state,
        "blocks": blocks,
        "maxTableEntries": max_table_entries,
        "parent": parent,
    }

    VhdxInfo as it {
        creator, logical_sector_size, physical_sector_size, virtual_disk_id, file_write_guid,
        data_write_guid, sequence_number, log_size, replayed_entries, damaged_headers,
        damaged_region_tables, blocks, regions, metadata, parent,
    }, {
        "creator": creator,
        "logicalSectorSize": logical_sector_size,
        "physicalSectorSize": physical_sector_size,
        "virtualDiskId": id(virtual_disk_id),
        "fileWriteGuid": id(file_write_guid),
        "dataWriteGuid": id(data_write_guid),
        "sequenceNumber": sequence_number,
        "logSize": log_size,
        "replayedEntries": replayed_entries,
        "damagedHeaders": damaged_headers,
        "damagedRegionTables": damaged_region_tables,
        "blocks": blocks,
        "regions": regions,
        "metadata": metadata,
        "parent": parent,
    }

    BlockInfo as it { size, all, allocated }, {
        "size": size,
        "all": all,
        "allocated": allocated,
    }

    PartInfo as it { id, offset, size, required }, {
        "id": self::id(id),
        "offset": offset,
        "size": size,
        "required": required,
    }

    Inspection as it { disk, file_system, checks, problems }, ..disk, {
        "fileSystem": file_system,
        "checks": checks,
        "problems": problems,
    }

    FileSystem as it {
        uuid, label, features, block_size, blocks, free_blocks, inodes, free_inodes, inode_size,
        groups, blocks_per_group, inodes_per_group, created, written, checked,
    }, {
        "uuid": id(uuid),
        "label": escape(label),
        "features": features,
        "blockSize": block_size,
        "blocks": blocks,
        "freeBlocks": free_blocks,
        "inodes": inodes,
        "freeInodes": free_inodes,
        "inodeSize": inode_size,
        "groups": groups,
        "blocksPerGroup": blocks_per_group,
        "inodesPerGroup": inodes_per_group,
        "created": created,
        "written": written,
        "checked": checked,
    }

    Checks as it {
        footer, structures, superblock, group_descriptors, block_bitmaps, inode_bitmaps, inodes,
        free_counts, root_directory,
    }, {
        "footer": footer,
        "structures": structures,
        "superblock": superblock,
        "groupDescriptors": group_descriptors,
        "blockBitmaps": block_bitmaps,
        "inodeBitmaps": inode_bitmaps,
        "inodes": inodes,
        "freeCounts": free_counts,
        "rootDirectory": root_directory,
    }

    Tally as it { checked, failed }, { "checked": checked, "failed": failed }

    Verification as found {
        size, virtual_size, format, findings, omitted, notes, unchecked, examined, ..
    }, {
        "verdict": found.verdict(),
        "size": size,
        "format": format,
        "virtualSize": virtual_size,
        "findings": findings,
        "omittedFindings": omitted,
        "notes": notes,
        "unchecked": unchecked,
        "examined": examined,
    }

    Examined as it { groups, inodes, directories, names, blocks }, {
        "groups": groups,
        "blocks": blocks,
        "inodes": inodes,
        "directories": directories,
        "names": names,
    }

    Finding as it { kind, place, message }, {
        "kind": kind,
        "offset": place.offset,
        "group": place.group,
        "block": place.block,
        "inode": place.inode,
        "path": place.path.as_deref().map(escape),
        "message": message,
    }

    DiskReport as it { format, size, virtual_size, data, id }, {
        "format": format,
        "size": size,
        "virtualSize": virtual_size,
        "data": data,
        "uuid": id.as_ref().map(self::id),
    }

    VerityCheck as it { root_hash, hash_offset, data_blocks, salt, uuid, first_bad }, {
        "rootHash": root_hash.to_hex(),
        "hashOffset": hash_offset,
        "salt": hex(salt),
        "uuid": id(uuid),
        "dataBlocks": data_blocks,
        "firstBad": first_bad,
    }

    BadBlock as it { kind, offset }, { "kind": kind, "offset": offset }
}

impl Serialize for Pair<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, value) = self.0;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("value", value)?;
        map.end()
    }
}

/// A list, since any name may come twice.
impl Serialize for ParentInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.pairs.iter().map(Pair))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for BlockKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn id(bytes: &[u8; 16]) -> String {
    Uuid::from_bytes(*bytes).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
