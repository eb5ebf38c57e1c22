//! Differencing VHDXs and their parents.

use uuid::Uuid;
use vhd_format::vhdx::{BlockState, Vhdx};
use vhd_format::{AnyStorage, Disk, ErrorKind, Parent};

use crate::vhdx::{MIB, content, findings, identity, small};

/// Makes a differencing disk of a dynamic one, for no tool at hand does: block 0 has some
/// sectors of its own, block 1 all, blocks 2 and 3 none, block 4 is zero.
fn differencing(parent_data_write_guid: Uuid) -> Vec<u8> {
    let parameters = small(5 * MIB).identity(identity(8));
    let mut disk = Vhdx::create(Vec::new(), &parameters).unwrap();
    disk.write_at(0, &[0xcc; 2 << 20]).unwrap();
    disk.write_at(4 * MIB, &[0; 10]).unwrap();
    let mut file = disk.close().unwrap();

    let metadata = 2 << 20;
    // One more item, the locator, and the flag that there is a parent.
    file[metadata + 10] += 1;
    file[metadata + (64 << 10) + 4] |= 2;
    let entry = metadata + 32 * 6;
    let locator_id = Uuid::from_u128(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);
    let kind = Uuid::from_u128(0xb04aefb7_d19e_4a81_b789_25b8e9445913);
    let utf16 = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let (key, value) = (
        utf16("parent_linkage"),
        utf16(&parent_data_write_guid.braced().to_string()),
    );
    let mut locator = kind.to_bytes_le().to_vec();
    locator.extend_from_slice(&[0, 0, 1, 0]);
    locator.extend_from_slice(&32_u32.to_le_bytes());
    locator.extend_from_slice(&(32 + key.len() as u32).to_le_bytes());
    locator.extend_from_slice(&(key.len() as u16).to_le_bytes());
    locator.extend_from_slice(&(value.len() as u16).to_le_bytes());
    locator.extend_from_slice(&key);
    locator.extend_from_slice(&value);
    let mut item = locator_id.to_bytes_le().to_vec();
    item.extend_from_slice(&70_000_u32.to_le_bytes());
    item.extend_from_slice(&(locator.len() as u32).to_le_bytes());
    item.extend_from_slice(&4_u32.to_le_bytes());
    file[entry..entry + item.len()].copy_from_slice(&item);
    file[metadata + 70_000..][..locator.len()].copy_from_slice(&locator);

    let table = 3 << 20;
    file[table] = file[table] & !7 | 7;
    // After 4096 blocks of 1 MiB the entry of the first sector bitmap.
    let bitmap = file.len();
    file.resize(bitmap + (1 << 20), 0);
    file[table + 4096 * 8..][..8].copy_from_slice(&(bitmap as u64 | 6).to_le_bytes());
    file[bitmap] = 0b0000_0010;
    file[bitmap + 1] = 0b1000_0000;
    file
}

#[test]
fn a_differencing_disk_reads_through_its_parent() {
    let mut parent = Vhdx::create(Vec::new(), &small(4 * MIB - 512)).unwrap();
    parent
        .write_at(0, &vec![0xaa; 4 * (1 << 20) - 512])
        .unwrap();
    let parent = parent.close().unwrap();
    let open_parent = || Vhdx::open(Box::new(parent.clone()) as AnyStorage).unwrap();

    let file = differencing(identity(7).data_write_guid);
    let mut disk = Vhdx::open(file.clone()).unwrap();
    let linkage = disk
        .parent_locator()
        .unwrap()
        .get("parent_linkage")
        .unwrap();
    assert_eq!(linkage.len(), 38);
    let mut sector = [0; 512];
    disk.read_at(512, &mut sector).unwrap();
    assert_eq!(sector, [0xcc; 512]);
    for offset in [0, 2 * MIB] {
        let error = disk.read_at(offset, &mut sector).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parent);
    }
    assert_eq!(disk.block_state(0).unwrap().0, BlockState::PartiallyPresent);

    disk.attach_parent(open_parent()).unwrap();
    let mut expected = vec![0xaa; 4 << 20];
    expected[(4 << 20) - 512..].fill(0);
    expected.resize(5 << 20, 0);
    expected[512..1024].fill(0xcc);
    expected[15 * 512..16 * 512].fill(0xcc);
    expected[1 << 20..2 << 20].fill(0xcc);
    assert!(content(&disk) == expected);

    let mut asked = 0;
    let disk = Disk::open_chain(&file[..], |wanted| {
        asked += 1;
        assert!(matches!(wanted, Parent::Vhdx(locator) if locator.get("parent_linkage").is_some()));
        Ok(Box::new(parent.clone()))
    })
    .unwrap();
    let mut found = vec![0; 5 << 20];
    disk.read_at(0, &mut found).unwrap();
    assert!(found == expected);
    assert_eq!(asked, 1);
    // Block 4 is zero, the parent's blocks are all there.
    assert_eq!(disk.next_data(0).unwrap(), Some(0..4 * MIB - 512));
    assert_eq!(disk.next_data(4 * MIB - 512).unwrap(), None);
    // A disk that is its own parent.
    let own = differencing(identity(8).data_write_guid);
    let error = Disk::open_chain(&own[..], |_| Ok(Box::new(own.clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);

    let mut disk = Vhdx::open(differencing(Uuid::from_u128(5))).unwrap();
    let error = disk.attach_parent(open_parent()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);
    assert_eq!(findings(&file).len(), 0);
    let mut lost = file.clone();
    lost[(3 << 20) + 4096 * 8] = 0;
    assert_eq!(findings(&lost).len(), 1, "the bitmap is missing");
    let error = Vhdx::open_writable(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}
