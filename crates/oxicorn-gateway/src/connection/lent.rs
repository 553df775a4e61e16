//! Memory that a connection has only while something is under way on it.
//!
//! Most connections wait for their next request: what the last one needed serves others meanwhile.

use oxicorn_proto::message::FieldTable;

use crate::buffer::input::READ_SIZE;
use crate::connection::Connection;

/// Memory that is lent on; a connection may have had more.
const INPUT_LENT: usize = 2 * READ_SIZE;
const OUTPUT_LENT: usize = 20 * 1024;

/// How many connections' memory is kept for others.
const SPARE: usize = 256;

/// What one connection gives back and the next takes.
#[derive(Debug)]
pub(crate) struct Lent {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Where the fields of a head stand.
    fields: FieldTable,
}

impl Connection {
    /// Takes memory for what begins, if it has none.
    pub(crate) fn borrow(&mut self, spare: &mut Vec<Lent>) {
        if self.input.is_released()
            && let Some(lent) = spare.pop()
        {
            self.input.lend(lent.input);
            self.output.lend(lent.output);
            self.session.lend_fields(lent.fields);
        }
    }

    /// Gives its memory back, if it waits without a byte.
    pub(crate) fn give_back(&mut self, spare: &mut Vec<Lent>) {
        let Some(input) = self.input.release() else {
            return;
        };
        let output = self.output.release(OUTPUT_LENT);
        let fields = self.session.release_fields();
        if input.capacity() <= INPUT_LENT && spare.len() < SPARE {
            spare.push(Lent {
                input,
                output,
                fields,
            });
        }
    }

    /// The same of one that ends.
    pub(crate) fn give_all_back(&mut self, spare: &mut Vec<Lent>) {
        self.input.forget_all();
        self.give_back(spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every idle client costs beside its socket: what only some connections need lies in a box, what a
    /// request needs is lent.
    const CONNECTION_BYTES: usize = 832;

    #[test]
    fn a_connection_is_small() {
        let bytes = size_of::<Connection>();
        assert!(bytes <= CONNECTION_BYTES, "{bytes} bytes");
    }
}
