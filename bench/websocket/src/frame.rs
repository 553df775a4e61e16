//! The few bytes of RFC 6455 that the load needs: masked frames out, unmasked ones in.

/// Any mask does; a server must take it off whatever it is.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// In place of a length: 16 or 64 bits with it follow.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const MASKED: u8 = 0x80;

pub(crate) const BINARY: u8 = 2;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A whole message in one frame, as a client sends it.
pub(crate) fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if let Ok(length) = u8::try_from(payload.len())
        && length < LENGTH_16
    {
        frame.push(MASKED | length);
    } else if let Ok(length) = u16::try_from(payload.len()) {
        frame.push(MASKED | LENGTH_16);
        frame.extend(length.to_be_bytes());
    } else {
        frame.push(MASKED | LENGTH_64);
        frame.extend((payload.len() as u64).to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// The first frame in `data`: its opcode, where its payload begins and where it ends. None: more bytes are needed.
pub(crate) fn decode(data: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*data.first()?, *data.get(1)?);
    let (begin, length) = match second {
        LENGTH_16 => (
            4,
            usize::from(u16::from_be_bytes(data.get(2..4)?.try_into().ok()?)),
        ),
        LENGTH_64 => (
            10,
            usize::try_from(u64::from_be_bytes(data.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        length => (2, usize::from(length)),
    };
    (data.len() >= begin + length).then_some((first, begin, begin + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(encode(BINARY, &vec![1; length]).len(), head + 4 + length);
        }
    }

    #[test]
    fn frame_is_found_when_its_last_byte_is_there() {
        let frame = [0x82, 3, 1, 2, 3, 0x89, 0];
        for have in 0..5 {
            assert_eq!(decode(&frame[..have]), None);
        }
        assert_eq!(decode(&frame), Some((0x82, 2, 5)));
        assert_eq!(decode(&frame[5..]), Some((0x89, 2, 2)));
    }
}
