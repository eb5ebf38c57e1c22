//! Disks that are laid out before they are written.

use vhd_format::vhdx::{BlockState, Layout, Vhdx};
use vhd_format::{Disk, Error, ErrorKind, Format};

use crate::vhdx::{MIB, identity, small};

#[test]
fn layouts_place_in_the_order_of_the_calls() {
    let mut layout = Layout::new(&small(100 << 30)).unwrap();
    let first = layout.place(70_000).unwrap();
    let second = layout.place(3).unwrap();
    assert_eq!(second, first + MIB);
    assert_eq!(layout.place(70_000).unwrap(), first);
    assert_eq!(layout.offset_of(3), Some(second));
    assert_eq!(layout.offset_of(4), None);
    assert_eq!(layout.file_size(), second + MIB);
    let kind = |result: Result<(), Error>| result.unwrap_err().kind();
    let wrong = ErrorKind::InvalidInput;
    assert_eq!(kind(layout.place(102_400).map(drop)), wrong);
    assert_eq!(kind(layout.set(3..4, BlockState::Zero)), wrong);
    assert_eq!(kind(layout.set(5..6, BlockState::FullyPresent)), wrong);
    assert_eq!(kind(layout.set(0..102_401, BlockState::Zero)), wrong);
    layout.set(50_000..60_000, BlockState::Zero).unwrap();

    let mut file = tempfile::tempfile().unwrap();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open(file).unwrap();
    assert_eq!(
        disk.block_state(70_000).unwrap(),
        (BlockState::FullyPresent, Some(first))
    );
    for (block, state) in [
        (49_999, BlockState::NotPresent),
        (50_000, BlockState::Zero),
        (59_999, BlockState::Zero),
        (60_000, BlockState::NotPresent),
    ] {
        assert_eq!(disk.block_state(block).unwrap(), (state, None));
    }
}

#[test]
fn the_rest_of_a_layout_has_one_state() {
    // More than one chunk, so that entries of sector bitmaps lie between.
    let parameters = small(9 << 40).block_size(256 << 20);
    let mut layout = Layout::new(&parameters).unwrap();
    let placed = layout.place(20_000).unwrap();
    layout.set(5..7, BlockState::Unmapped).unwrap();
    layout.set(8..9, BlockState::NotPresent).unwrap();
    layout.set_rest(BlockState::Zero).unwrap();
    layout.set_rest(BlockState::FullyPresent).unwrap_err();
    layout.set_virtual_size(8 << 40).unwrap();
    let file = tempfile::tempfile().unwrap();
    layout.write_to(&mut file.try_clone().unwrap()).unwrap();
    let disk = Vhdx::open(file).unwrap();
    disk.check(|finding| panic!("{finding}")).unwrap();
    for block in 0..disk.blocks() {
        let expected = match block {
            5 | 6 => (BlockState::Unmapped, None),
            8 => (BlockState::NotPresent, None),
            20_000 => (BlockState::FullyPresent, Some(placed)),
            _ => (BlockState::Zero, None),
        };
        assert_eq!(disk.block_state(block).unwrap(), expected, "{block}");
    }
}

#[test]
fn a_layout_can_be_given_its_size_at_the_end() {
    let mut layout = Layout::new(&small(8 << 30)).unwrap();
    for block in 0..3 {
        layout.place(block).unwrap();
    }
    layout.set(3..8000, BlockState::Zero).unwrap();
    let error = layout.set_virtual_size(3 * MIB - 512).map(drop);
    assert!(error.is_ok(), "the last block may be cut");
    let error = layout.set_virtual_size(2 * MIB).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    layout.set_identity(identity(9));
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open(&file).unwrap();
    assert_eq!(disk.virtual_size(), 3 * MIB - 512);
    assert_eq!(disk.virtual_disk_id(), identity(9).virtual_disk_id);
    assert_eq!(disk.header().data_write_guid, identity(9).data_write_guid);
    Vhdx::open_writable(&mut file).unwrap();

    // What was cut off is not there when the disk grows again.
    layout.set_virtual_size(8 << 30).unwrap();
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open(file).unwrap();
    assert_eq!(disk.block_state(5).unwrap().0, BlockState::NotPresent);
    let error = layout.set_virtual_size(1 << 40).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_fixed_layout_has_every_block_in_order() {
    let mut layout = Layout::new(&small(10 * MIB).fixed(true)).unwrap();
    let first = layout.place(0).unwrap();
    for block in 0..10 {
        assert_eq!(layout.place(block).unwrap(), first + block * MIB);
    }
    assert_eq!(layout.file_size(), first + 10 * MIB);
    layout.set(0..1, BlockState::Zero).unwrap_err();
    layout.set_virtual_size(4 * MIB).unwrap();
    assert_eq!(layout.file_size(), first + 4 * MIB);
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open_writable(file).unwrap();
    for block in 0..4 {
        let expected = (BlockState::FullyPresent, Some(first + block * MIB));
        assert_eq!(disk.block_state(block).unwrap(), expected);
    }
}

#[test]
fn the_largest_disk_works() {
    let parameters = small(64 << 40);
    let mut disk = Vhdx::create(tempfile::tempfile().unwrap(), &parameters).unwrap();
    let last = (64 << 40) - 5;
    disk.write_at(last, b"hello").unwrap();
    let file = disk.close().unwrap();
    assert!(file.metadata().unwrap().len() < 1 << 30);
    let disk = Disk::open(file).unwrap();
    assert_eq!(disk.format(), Format::Vhdx);
    let mut found = [0; 5];
    disk.read_at(last, &mut found).unwrap();
    assert_eq!(&found, b"hello");
    assert_eq!(
        disk.read_at(last + 1, &mut found).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}
