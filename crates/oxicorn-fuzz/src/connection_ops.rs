//! Invariant: no order of calls panics; a misuse writes nothing; what is written between heads has
//! exactly the length its head promised; a next exchange starts only when both sides are through.

use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Next, OwnLine, ResponseFraming, ResponseHead, Rules};

struct Player {
    connection: Connection,
    buffer: Vec<u8>,
    out: Vec<u8>,
    /// Bytes the response in progress still owes, where it has a length.
    owed: Option<u64>,
}

impl Player {
    /// Runs `call`, and sees that an error left the output alone.
    fn guarded<T, E>(
        &mut self,
        call: impl FnOnce(&mut Connection, &mut Vec<u8>) -> Result<T, E>,
    ) -> Option<T> {
        let before = self.out.len();
        let result = call(&mut self.connection, &mut self.out).ok();
        assert!(result.is_some() || self.out.len() == before);
        result
    }

    fn poll(&mut self) {
        if let Ok(polled) = self.connection.poll_event(&self.buffer) {
            let _ = self
                .connection
                .head(&self.buffer[..polled.consumed])
                .headers()
                .count();
            let _ = self
                .connection
                .trailers(&self.buffer[..polled.consumed])
                .count();
            self.buffer.drain(..polled.consumed);
        }
    }

    fn begin(&mut self, status: u16, text: &[u8]) {
        let line = |name: &[u8]| OwnLine::new(name, b"x").expect("a good line");
        let head = ResponseHead {
            status,
            reason: text,
            server: Some(&line(b"Server")),
            date: Some(&line(b"Date")),
            body_length: (text.len() == 3).then_some(7),
        };
        let (name, value) = text.split_at(text.len() / 2);
        let headers = [(name, value), (&b"Upgrade"[..], &b"u"[..])];
        if let Some(framing) =
            self.guarded(|connection, out| connection.encode_response_head(&head, headers, out))
        {
            self.owed = if let ResponseFraming::Length(length) = framing {
                Some(length)
            } else {
                None
            };
            let text = String::from_utf8_lossy(&self.out);
            assert!(text.lines().count() <= 9, "a line too many");
        }
    }

    fn pay(&mut self, sent: u64) {
        if let Some(owed) = &mut self.owed {
            *owed = owed.checked_sub(sent).expect("never more than promised");
        }
    }

    fn finish(&mut self, text: &[u8]) {
        let trailers = [(&b"X-T"[..], text)];
        if let Some(next) =
            self.guarded(|connection, out| connection.finish_response(trailers, out))
        {
            assert!(
                self.owed.is_none_or(|owed| owed == 0),
                "never less than promised"
            );
            let goes_on = !matches!(next, Next::Close(_));
            assert!(goes_on || self.connection.start_next_exchange().is_err());
        }
    }

    fn play(&mut self, operation: u8, text: &[u8]) {
        self.out.clear();
        match operation % 12 {
            0 | 1 => self.buffer.extend_from_slice(text),
            2 | 3 => self.poll(),
            4 => drop(self.connection.handle_eof()),
            5 => drop(self.guarded(|connection, out| {
                connection.encode_informational(103, [(&b"Link"[..], text)], out)
            })),
            6 => self.begin(u16::from(operation / 12) * 13 + 100, text),
            7 => {
                if let Some(outcome) =
                    self.guarded(|connection, out| connection.encode_body(text, out))
                {
                    assert_eq!(outcome.sent + outcome.dropped, text.len() as u64);
                    self.pay(outcome.sent);
                }
            }
            8 => {
                let len = u64::from(operation) * 3;
                if let Some(outcome) =
                    self.guarded(|connection, out| connection.body_prefix(len, out))
                {
                    self.pay(outcome.sent);
                }
            }
            9 => drop(self.guarded(Connection::body_suffix)),
            10 => self.finish(text),
            _ if operation > 200 => self.connection.deny_keep_alive(),
            _ => drop(self.connection.start_next_exchange()),
        }
    }
}

/// See the head of the file.
pub fn connection_ops(data: &[u8]) {
    let mut player = Player {
        connection: Connection::new(Arc::new(Rules::default())),
        buffer: Vec::new(),
        out: Vec::new(),
        owed: None,
    };
    let mut rest = data;
    while let [operation, length, after @ ..] = rest {
        let (text, next) = after.split_at(usize::from(*length).min(after.len()));
        player.play(*operation, text);
        rest = next;
    }
}
