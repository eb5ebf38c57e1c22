//! Differencing disks, which no tool at hand makes.

use uuid::Uuid;
use vhd_format::Result;
use vhd_format::vhd::{Parameters, Vhd};
use vhd_format::vhdx::{self, Identity, Vhdx};

/// A VHD that has sectors of its own, with a parent of that id: its checksums are not right.
pub fn vhd(id: [u8; 16], parent: [u8; 16]) -> Result<Vec<u8>> {
    let parameters = Parameters::dynamic(12_288, id).block_size(8192);
    let mut disk = Vhd::create(Vec::new(), &parameters)?;
    disk.write_at(0, &[id[0]; 8192])?;
    let mut file = disk.close()?;
    let bitmap = 4096 - 512;
    file[bitmap] = 0b0100_0000;
    file[bitmap + 1] = 0b0100_0000;
    let last = file.len() - 512;
    (file[63], file[last + 63]) = (4, 4);
    let header = &mut file[512..1536];
    header[40..56].copy_from_slice(&parent);
    header[64..68].copy_from_slice(&[0, b'p', 0, b'q']);
    Ok(file)
}

/// The ids of a VHDX, by a number.
pub fn identity(number: u128) -> Identity {
    Identity {
        file_write_guid: Uuid::from_u128(number),
        data_write_guid: Uuid::from_u128(number + 100),
        virtual_disk_id: Uuid::from_u128(number + 200),
    }
}

/// A VHDX of some sectors of its own, with a parent of that number.
pub fn vhdx(number: u128, parent: u128) -> Result<Vec<u8>> {
    const BITMAP_ENTRY: usize = (3 << 20) + 4096 * 8;
    let parameters = vhdx::Parameters::new(5 << 20)
        .block_size(1 << 20)
        .identity(identity(number));
    let mut disk = Vhdx::create(Vec::new(), &parameters)?;
    disk.write_at(5_000, &[number as u8; 600])?;
    disk.write_at(2 << 20, &[number as u8; 6])?;
    let mut file = disk.close()?;

    // One more item of the metadata, the parent locator, and the flag that there is a parent.
    let metadata = 2 << 20;
    file[metadata + 10] += 1;
    file[metadata + (64 << 10) + 4] |= 2;
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let key = utf16("parent_linkage");
    let value = utf16(&identity(parent).data_write_guid.braced().to_string());
    let kind = Uuid::from_u128(0xb04aefb7_d19e_4a81_b789_25b8e9445913);
    let mut locator = kind.to_bytes_le().to_vec();
    locator.extend([0, 0, 1, 0]);
    locator.extend(32_u32.to_le_bytes());
    locator.extend((32 + key.len() as u32).to_le_bytes());
    locator.extend((key.len() as u16).to_le_bytes());
    locator.extend((value.len() as u16).to_le_bytes());
    locator.extend(&key);
    locator.extend(&value);
    let id = Uuid::from_u128(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);
    let mut item = id.to_bytes_le().to_vec();
    item.extend(70_000_u32.to_le_bytes());
    item.extend((locator.len() as u32).to_le_bytes());
    item.extend(4_u32.to_le_bytes());
    let entry = metadata + 32 * 6;
    file[entry..entry + item.len()].copy_from_slice(&item);
    file[metadata + 70_000..][..locator.len()].copy_from_slice(&locator);

    // Block 0 is partially present, and a sector bitmap says where.
    let table = 3 << 20;
    file[table] = file[table] & !7 | 7;
    let bitmap = file.len();
    file.resize(bitmap + (1 << 20), 0);
    file[BITMAP_ENTRY..][..8].copy_from_slice(&(bitmap as u64 | 6).to_le_bytes());
    file[bitmap + 1] = 0b0000_0110;
    Ok(file)
}
