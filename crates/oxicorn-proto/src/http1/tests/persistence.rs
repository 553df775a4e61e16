//! Whether a connection outlives a response, and why not.

use super::*;
use crate::fault::PeerFault;
use crate::http1::CloseReason;

const LENGTH_0: Pairs<'static> = &[(b"Content-Length", b"0")];

fn next_after(request: &str, headers: Pairs<'_>) -> Next {
    answer(request, 200, headers, &[]).1.expect("a good answer")
}

#[test]
fn every_reason_to_close() {
    use CloseReason as R;
    for (request, headers, expected) in [
        (GET, LENGTH_0, Next::KeepAlive),
        (GET, &[], Next::KeepAlive),
        (GET_10_KEEP, LENGTH_0, Next::KeepAlive),
        (POST, LENGTH_0, Next::Drain),
        (POST_CHUNKED, LENGTH_0, Next::Drain),
        (GET_CLOSE, LENGTH_0, Next::Close(R::PeerWish)),
        (GET_10, LENGTH_0, Next::Close(R::PeerWish)),
        (GET_10_KEEP, &[], Next::Close(R::Undelimited)),
        (CONNECT, LENGTH_0, Next::Close(R::Connect)),
        (POST_EXPECT, LENGTH_0, Next::Close(R::ExpectationOpen)),
        ("", LENGTH_0, Next::Close(R::Unsolicited)),
        ("GET / HT", LENGTH_0, Next::Close(R::Unsolicited)),
        ("bad request\r\n", LENGTH_0, Next::Close(R::Faulty)),
    ] {
        assert_eq!(next_after(request, headers), expected, "{request:?}");
    }
}

#[test]
fn denial_is_announced_before_the_head_and_done_after_it() {
    let mut out = Vec::new();
    let mut early = after(GET.as_bytes());
    early.deny_keep_alive();
    assert_eq!(
        answer_on(&mut early, 200, LENGTH_0, &[], &mut out),
        Ok(Next::Close(CloseReason::Denied))
    );
    assert!(out.ends_with(b"Connection: close\r\n\r\n"));

    out.clear();
    let mut late = after(GET.as_bytes());
    late.encode_response_head(&head(200, "OK"), LENGTH_0.iter().copied(), &mut out)
        .expect("good");
    late.deny_keep_alive();
    assert_eq!(
        late.finish_response([], &mut out),
        Ok(Next::Close(CloseReason::Denied))
    );
}

#[test]
fn an_expectation_is_settled_by_100_or_by_the_body() {
    let mut out = Vec::new();
    let mut invited = after(POST_EXPECT.as_bytes());
    assert_eq!(invited.encode_informational(100, [], &mut out), Ok(true));
    assert_eq!(
        answer_on(&mut invited, 200, LENGTH_0, &[], &mut out),
        Ok(Next::Drain)
    );

    let mut impatient = after(POST_EXPECT.as_bytes());
    feed(&mut impatient, b"he");
    assert_eq!(
        answer_on(&mut impatient, 200, LENGTH_0, &[], &mut out),
        Ok(Next::Drain)
    );
    feed(&mut impatient, b"llo");
    impatient.start_next_exchange().expect("drained");

    let mut whole = after(format!("{POST_EXPECT}hello").as_bytes());
    assert_eq!(
        answer_on(&mut whole, 200, LENGTH_0, &[], &mut out),
        Ok(Next::KeepAlive)
    );
}

#[test]
fn early_hints_do_not_settle_an_expectation() {
    let mut connection = after(POST_EXPECT.as_bytes());
    let mut out = Vec::new();
    assert_eq!(connection.encode_informational(103, [], &mut out), Ok(true));
    let next = answer_on(&mut connection, 200, LENGTH_0, &[], &mut out);
    assert_eq!(next, Ok(Next::Close(CloseReason::ExpectationOpen)));
}

#[test]
fn a_fault_in_the_body_makes_the_response_the_last() {
    let request = format!("{POST_CHUNKED}x\r\n");
    let mut out = Vec::new();
    let mut before = after(request.as_bytes());
    assert_eq!(
        answer_on(&mut before, 400, LENGTH_0, &[], &mut out),
        Ok(Next::Close(CloseReason::Faulty))
    );
    assert!(out.ends_with(b"Connection: close\r\n\r\n"));

    let mut during = after(POST_CHUNKED.as_bytes());
    during
        .encode_response_head(&head(200, "OK"), LENGTH_0.iter().copied(), &mut out)
        .expect("good");
    feed(&mut during, b"x\r\n");
    assert_eq!(
        during.finish_response([], &mut out),
        Ok(Next::Close(CloseReason::Faulty))
    );
    assert_eq!(during.start_next_exchange(), Err(LocalMisuse::OutOfOrder));
}

#[test]
fn faults_are_final() {
    let mut connection = after(b"GET / HTTP/1.1\r\nHost a\r\n");
    for _ in 0..2 {
        assert_eq!(
            connection.poll_event(GET.as_bytes()),
            Err(PeerFault::MissingColon)
        );
        assert_eq!(connection.handle_eof(), Err(PeerFault::MissingColon));
    }
}

#[test]
fn pipelined_requests_wait_for_their_turn() {
    let two = format!("{GET}{GET_CLOSE}");
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let rest = feed(&mut connection, two.as_bytes());
    assert_eq!(rest, GET_CLOSE.as_bytes());
    let mut out = Vec::new();
    assert_eq!(
        answer_on(&mut connection, 200, LENGTH_0, &[], &mut out),
        Ok(Next::KeepAlive)
    );
    connection.start_next_exchange().expect("through");
    assert!(feed(&mut connection, rest).is_empty());
    let next = answer_on(&mut connection, 200, LENGTH_0, &[], &mut out);
    assert_eq!(next, Ok(Next::Close(CloseReason::PeerWish)));
}

#[test]
fn idle_is_between_requests_only() {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    assert!(connection.is_idle());
    for (input, idle) in [(&b""[..], true), (b"\r\n", true), (b"\r\nG", false)] {
        feed(&mut connection, input);
        assert_eq!(connection.is_idle(), idle);
        assert_eq!(connection.handle_eof().is_ok(), idle);
    }
    let mut connection = after(GET.as_bytes());
    assert!(!connection.is_idle());
    answer_on(&mut connection, 200, LENGTH_0, &[], &mut Vec::new()).expect("good");
    connection.start_next_exchange().expect("through");
    assert!(connection.is_idle());
}

#[test]
fn nothing_of_a_request_is_left_for_the_next() {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let first = b"HEAD http://a/x?y HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: u\r\nTE: trailers\r\n\r\n";
    feed(&mut connection, first);
    answer_on(&mut connection, 200, LENGTH_0, &[], &mut Vec::new()).expect("good");
    connection.start_next_exchange().expect("through");
    let polled = connection.poll_event(GET_10.as_bytes()).expect("good");
    let head = connection.head(&GET_10.as_bytes()[..polled.consumed]);
    assert_eq!(
        (head.path(), head.query_string(), head.host()),
        (&b"/"[..], &b""[..], None)
    );
    assert_eq!(
        (
            head.upgrade(),
            head.accepts_trailers(),
            head.absolute_is_https()
        ),
        (None, false, None)
    );
    assert_eq!((head.headers().len(), head.keep_alive()), (0, false));
}

#[test]
fn what_is_missing_of_a_body_is_known_where_its_length_is() {
    let mut counted = after(POST.as_bytes());
    assert_eq!(counted.missing(), Some(5));
    feed(&mut counted, b"he");
    assert_eq!(counted.missing(), Some(3));
    assert_eq!(after(POST_CHUNKED.as_bytes()).missing(), None);
    assert_eq!(after(GET.as_bytes()).missing(), None);
}

#[test]
fn memory_of_heads_passes_from_one_connection_to_another() {
    let mut first = after(GET.as_bytes());
    answer_on(&mut first, 200, LENGTH_0, &[], &mut Vec::new()).expect("good");
    first.start_next_exchange().expect("through");
    let fields = first.take_fields();
    let (memory, room) = (fields.spans.as_ptr(), fields.spans.capacity());
    assert!(room > 0 && fields.spans.is_empty());
    assert_eq!(first.take_fields().spans.capacity(), 0);

    let mut second = Connection::new(Arc::new(Rules::default()));
    second.lend_fields(fields);
    // Who has some keeps it.
    second.lend_fields(crate::message::FieldTable::default());
    let polled = second.poll_event(GET.as_bytes()).expect("good");
    assert_eq!(polled.event, Event::Head);
    let host = second.head(GET.as_bytes()).headers().next();
    assert_eq!(host.map(|host| host.value), Some(&b"a"[..]));
    assert_eq!(second.take_fields().spans.as_ptr(), memory);
}
