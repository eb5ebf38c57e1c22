//! `tar2vhd disk info`, and what `tar2vhd inspect` has in common with it.

use serde_json::{Value, json};
use tar2vhd::Volume;
use tar2vhd::disk::{BlockInfo, DiskInfo, ParentInfo, VhdInfo, VhdxInfo};
use uuid::Uuid;

use crate::args::disk::{Info, InputFormat};
use crate::failure::Failure;
use crate::output::{self, Lines, bytes, time};

pub(crate) fn run(args: &Info) -> Result<(), Failure> {
    let volume = match args.input_format {
        InputFormat::Auto => Volume::open_alone(&args.disk)?,
        InputFormat::Raw => Volume::open_raw(&args.disk)?,
    };
    let info = volume
        .info()
        .map_err(|error| Failure::reading(&args.disk, error))?;
    // There may be as many as a table has entries.
    const MAX_PROBLEMS: usize = 100;
    let mut problems = Vec::new();
    let mut found = 0_u64;
    let mut note = |problem: String| {
        found += 1;
        if problems.len() < MAX_PROBLEMS {
            problems.push(problem);
        }
    };
    if let Err(e) = volume.check(|problem| note(format!("{problem:#}"))) {
        note(format!("{e:#}"));
    }
    let report = match args.json {
        true => {
            let mut object = output::of_file(&args.disk, json!(info));
            object.insert("problems".to_owned(), json!(problems));
            format!("{}\n", Value::Object(object))
        }
        false => {
            let mut lines = Lines::default();
            text(&info, &mut lines);
            for problem in &problems {
                lines.field("problem", problem);
            }
            lines.0
        }
    };
    output::stdout(report.as_bytes())?;
    match found {
        0 => Ok(()),
        1 => Err(Failure::error(format!(
            "{}: something is damaged",
            tar2vhd::display_file(&args.disk)
        ))),
        _ => Err(Failure::error(format!(
            "{}: {found} things are damaged",
            tar2vhd::display_file(&args.disk)
        ))),
    }
}

fn id(bytes: [u8; 16]) -> String {
    Uuid::from_bytes(bytes).to_string()
}

/// The regions and metadata items of the VHDX format specification, sections 2.3 and 2.6.
const NAMES: [(u128, &str); 8] = [
    (0x2DC27766_F623_4200_9D64_115E9BFD4A08, "BAT"),
    (0x8B7CA206_4790_4B9A_B8FE_575F050F886E, "metadata region"),
    (0xCAA16737_FA36_4D43_B3B6_33F0AA44E76B, "file parameters"),
    (0x2FA54224_CD1B_4876_B211_5DBED83BF4B8, "virtual disk size"),
    (0xBECA12AB_B2E6_4523_93EF_C309E000C746, "virtual disk id"),
    (
        0x8141BF1D_A96F_4709_BA47_F233A8FAAB5F,
        "logical sector size",
    ),
    (
        0xCDA348C7_445D_4471_9CC9_E9885251C556,
        "physical sector size",
    ),
    (0xA8D35F2D_B30B_454D_ABF7_D3D84834AB0C, "parent locator"),
];

/// A GUID, after its name if the format gives it one.
fn named_id(bytes: [u8; 16]) -> String {
    let number = u128::from_be_bytes(bytes);
    match NAMES.iter().find(|(guid, _)| *guid == number) {
        Some((_, name)) => format!("{name} {}", id(bytes)),
        None => id(bytes),
    }
}

/// The description of a disk, in lines.
pub(crate) fn text(info: &DiskInfo, lines: &mut Lines) {
    lines.field("size", bytes(info.size));
    lines.field("format", info.format);
    lines.field("virtual size", bytes(info.virtual_size));
    if let Some(vhd) = &info.vhd {
        vhd_text(vhd, info, lines);
    }
    if let Some(vhdx) = &info.vhdx {
        vhdx_text(vhdx, lines);
    }
    for note in &info.notes {
        lines.field("note", note);
    }
}

fn vhd_text(vhd: &VhdInfo, info: &DiskInfo, lines: &mut Lines) {
    if vhd.original_size != info.virtual_size {
        lines.field("original size", bytes(vhd.original_size));
    }
    let (cylinders, heads, sectors) = vhd.geometry;
    lines.field("geometry", format!("{cylinders}/{heads}/{sectors}"));
    let (major, minor) = vhd.creator_version;
    let (creator, host) = (
        vhd.creator.escape_ascii(),
        vhd.creator_host_os.escape_ascii(),
    );
    lines.field("creator", format!("{creator} {major}.{minor} on {host}"));
    lines.field("disk made", time(vhd.created));
    lines.field("unique id", id(vhd.unique_id));
    if vhd.saved_state {
        lines.field("saved state", "yes");
    }
    if let Some(blocks) = &vhd.blocks {
        blocks_text(blocks, lines);
    }
    parent_text(vhd.parent.as_ref(), lines);
}

fn vhdx_text(vhdx: &VhdxInfo, lines: &mut Lines) {
    lines.field("creator", vhdx.creator.escape_debug());
    let (logical, physical) = (vhdx.logical_sector_size, vhdx.physical_sector_size);
    lines.field(
        "sectors",
        format!("{logical} B logical, {physical} B physical"),
    );
    lines.field("virtual disk id", id(vhdx.virtual_disk_id));
    lines.field("file write id", id(vhdx.file_write_guid));
    lines.field("data write id", id(vhdx.data_write_guid));
    blocks_text(&vhdx.blocks, lines);
    let state = match vhdx.replayed_entries {
        0 => "empty".to_owned(),
        1 => "1 entry to be replayed".to_owned(),
        entries => format!("{entries} entries to be replayed"),
    };
    lines.field("log", format!("{}, {state}", bytes(vhdx.log_size.into())));
    let copies = |damaged: [bool; 2]| match damaged {
        [false, false] => "both ok",
        [true, false] => "the first is DAMAGED",
        [false, true] => "the second is DAMAGED",
        [true, true] => "both are DAMAGED",
    };
    let number = vhdx.sequence_number;
    lines.field(
        "headers",
        format!("{}, number {number}", copies(vhdx.damaged_headers)),
    );
    lines.field("region tables", copies(vhdx.damaged_region_tables));
    for (name, parts) in [("region", &vhdx.regions), ("metadata", &vhdx.metadata)] {
        for part in parts {
            let required = if part.required { "" } else { ", not required" };
            let (id, size) = (named_id(part.id), bytes(part.size.into()));
            lines.field(name, format!("{id} at {}, {size}{required}", part.offset));
        }
    }
    parent_text(vhdx.parent.as_ref(), lines);
}

fn blocks_text(blocks: &BlockInfo, lines: &mut Lines) {
    let BlockInfo {
        size,
        all,
        allocated,
        ..
    } = *blocks;
    let size = bytes(size.into());
    lines.field(
        "disk blocks",
        format!("{all} of {size}, {allocated} allocated"),
    );
}

fn parent_text(parent: Option<&ParentInfo>, lines: &mut Lines) {
    for (name, value) in parent.into_iter().flat_map(|parent| &parent.pairs) {
        let (name, value) = (name.escape_debug(), value.escape_debug());
        lines.field("parent", format!("{name} {value}"));
    }
}
