//! Invariant: a part of a header has no other reading than the whole, and a header that was read is written as it came; the
//! border of a value is where its reader ends, and nowhere before; what was read can be written and is read again.

use oxicorn_proto::pool::{
    Fault, Fields, HEADER_LENGTH, Header, Item, Reader, value_length, write,
};

/// Shorter inputs that are tried beside the whole.
const CUTS: usize = 12;

/// See the head of the file.
pub fn pool_frames(data: &[u8]) {
    header(data);
    borders(data);
    items(data);
    fields(data);
}

fn header(data: &[u8]) {
    let whole = Header::parse(data);
    for length in 0..data.len().min(HEADER_LENGTH) {
        let part = Header::parse(&data[..length]);
        assert!(
            part == Ok(None) || part == whole,
            "{length} {part:?} {whole:?}"
        );
    }
    if let Ok(Some(header)) = whole {
        let written = header.encode().expect("its length was checked");
        assert_eq!(written, data[..HEADER_LENGTH]);
    }
}

fn borders(data: &[u8]) {
    let Ok(length) = value_length(data) else {
        return;
    };
    assert!(0 < length && length <= data.len());
    assert_eq!(value_length(&data[..length]), Ok(length));
    for cut in (0..length).step_by(length / CUTS + 1) {
        assert_eq!(value_length(&data[..cut]), Err(Fault::Truncated), "{cut}");
    }
}

fn read(payload: &[u8]) -> Result<Vec<Item<'_>>, Fault> {
    let mut reader = Reader::new(payload);
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok(items)
}

fn items(data: &[u8]) {
    let Ok(items) = read(data) else {
        return;
    };
    assert!(items.len() <= data.len());
    assert_eq!(value_length(data), Ok(data.len()));
    let mut written = Vec::new();
    for item in &items {
        write(*item, &mut written).expect("it was read, so it is within the bounds");
    }
    // A truth has many bytes, of which one is written.
    assert_eq!(written.len(), data.len());
    let again = read(&written).expect("it was written");
    // What is no number is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{items:?}"));
}

fn fields(data: &[u8]) {
    let Ok(mut fields) = Fields::new(data) else {
        return;
    };
    let mut passed = 5;
    while let Ok(Some((name, value))) = fields.next_field() {
        assert_eq!(value_length(value), Ok(value.len()));
        passed += 5 + name.len() + value.len();
        assert!(passed <= data.len());
    }
}
