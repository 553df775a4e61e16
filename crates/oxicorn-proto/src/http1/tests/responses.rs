//! What responses look like on the wire, and what cannot get there.

use super::*;
use crate::http1::{Behind, BodyOutcome, CloseReason, OwnLine, ResponseFraming};

const LENGTH_2: Pairs<'static> = &[(b"Content-Length", b"2")];

#[test]
fn framing_follows_request_status_and_length() {
    let ok = "HTTP/1.1 200 Reason\r\n";
    for (request, status, headers, expected) in [
        (
            GET,
            200,
            LENGTH_2,
            format!("{ok}Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"),
        ),
        (
            GET,
            200,
            &[],
            format!(
                "{ok}Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            ),
        ),
        (
            GET_CLOSE,
            200,
            LENGTH_2,
            format!("{ok}Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
        ),
        (
            GET_10,
            200,
            LENGTH_2,
            "HTTP/1.0 200 Reason\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi".into(),
        ),
        (
            GET_10,
            200,
            &[],
            "HTTP/1.0 200 Reason\r\nConnection: close\r\n\r\nhi".into(),
        ),
        (
            GET_10_KEEP,
            200,
            LENGTH_2,
            "HTTP/1.0 200 Reason\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi".into(),
        ),
        (
            GET_10_KEEP,
            200,
            &[],
            "HTTP/1.0 200 Reason\r\nConnection: close\r\n\r\nhi".into(),
        ),
        (
            HEAD,
            200,
            LENGTH_2,
            format!("{ok}Content-Length: 2\r\nConnection: keep-alive\r\n\r\n"),
        ),
        (
            HEAD,
            200,
            &[],
            format!("{ok}Connection: keep-alive\r\n\r\n"),
        ),
        (
            GET,
            204,
            LENGTH_2,
            "HTTP/1.1 204 Reason\r\nConnection: keep-alive\r\n\r\n".into(),
        ),
        (
            GET,
            204,
            &[],
            "HTTP/1.1 204 Reason\r\nConnection: keep-alive\r\n\r\n".into(),
        ),
        (
            GET,
            304,
            LENGTH_2,
            "HTTP/1.1 304 Reason\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n".into(),
        ),
        (
            GET,
            205,
            LENGTH_2,
            "HTTP/1.1 205 Reason\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n".into(),
        ),
        (
            CONNECT,
            200,
            LENGTH_2,
            format!("{ok}Connection: close\r\n\r\nhi"),
        ),
        (
            CONNECT,
            405,
            LENGTH_2,
            "HTTP/1.1 405 Reason\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi".into(),
        ),
    ] {
        let (wire, next) = answer(request, status, headers, &["hi"]);
        assert_eq!(wire, expected, "{request:?} {status}");
        assert!(next.is_ok());
    }
}

#[test]
fn a_known_length_counts_where_the_application_gave_none() {
    let with_length = ResponseHead {
        body_length: Some(2),
        ..head(200, "OK")
    };
    for (request, framing) in [
        (GET, ResponseFraming::Length(2)),
        (GET_10, ResponseFraming::Length(2)),
        (HEAD, ResponseFraming::NoBody),
    ] {
        let mut out = Vec::new();
        let mut connection = after(request.as_bytes());
        assert_eq!(
            connection.encode_response_head(&with_length, [], &mut out),
            Ok(framing)
        );
        let said = out.windows(14).any(|window| window == b"Content-Length");
        assert_eq!(
            said,
            framing != ResponseFraming::NoBody,
            "an empty answer to HEAD says nothing of GET's"
        );
    }
}

#[test]
fn server_and_date_come_first_and_only_from_us() {
    let line = |name: &[u8], value: &[u8]| OwnLine::new(name, value).expect("a good line");
    let ours = ResponseHead {
        server: Some(&line(b"Server", b"oxicorn")),
        date: Some(&line(b"Date", b"now")),
        ..head(200, "OK")
    };
    let theirs: Pairs<'_> = &[(b"server", b"x"), (b"DATE", b"x"), (b"X-A", b" b ")];
    let mut out = Vec::new();
    let mut connection = after(GET_CLOSE.as_bytes());
    connection
        .encode_response_head(&ours, theirs.iter().copied(), &mut out)
        .expect("a good head");
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 200 OK\r\nServer: oxicorn\r\nDate: now\r\nX-A: b\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn the_application_may_end_the_connection() {
    for value in [
        &b"close"[..],
        b"Close",
        b"x-option , close",
        b"close, upgrade",
    ] {
        let headers: Pairs<'_> = &[(b"CONNECTION", value), (b"Content-Length", b"0")];
        let (wire, next) = answer(GET, 200, headers, &[]);
        assert_eq!(
            wire,
            "HTTP/1.1 200 Reason\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(next, Ok(Next::Close(CloseReason::ApplicationWish)));
    }
    for value in [&b"keep-alive"[..], b"closed", b"", b"upgrade"] {
        let headers: Pairs<'_> = &[(b"Connection", value), (b"Content-Length", b"0")];
        assert_eq!(answer(GET, 200, headers, &[]).1, Ok(Next::KeepAlive));
    }
}

#[test]
fn the_applications_connection_headers_are_dropped() {
    for name in [
        "keep-alive",
        "Proxy-Authenticate",
        "PROXY-AUTHORIZATION",
        "Proxy-Connection",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
        "Server",
        "Date",
    ] {
        let (wire, next) = answer(
            GET,
            200,
            &[(name.as_bytes(), b"close"), (b"Content-Length", b"0")],
            &[],
        );
        assert_eq!(
            wire,
            "HTTP/1.1 200 Reason\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
        );
        assert_eq!(next, Ok(Next::KeepAlive));
    }
}

#[test]
fn a_switch_of_protocols_keeps_upgrade() {
    let headers: Pairs<'_> = &[(b"Upgrade", b"websocket"), (b"Connection", b"upgrade")];
    let mut connection = after(UPGRADE.as_bytes());
    let mut out = Vec::new();
    let next = answer_on(&mut connection, 101, headers, &["\x01raw"], &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 101 Reason\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x01raw"
    );
    assert_eq!(next, Ok(Next::Close(CloseReason::Switched)));
    let polled = connection.poll_event(b"\x02frames").expect("no fault");
    assert_eq!((polled.consumed, polled.event), (0, Event::Switched));
}

#[test]
fn a_switch_of_protocols_must_have_been_asked_for() {
    let headers: Pairs<'_> = &[(b"Upgrade", b"websocket")];
    for (request, headers) in [(GET, headers), (GET_10, headers), (UPGRADE, &[])] {
        assert_eq!(
            answer(request, 101, headers, &[]).1,
            Err(LocalMisuse::UpgradeNotRequested)
        );
    }
}

#[test]
fn upgrade_required_names_the_protocol() {
    let (wire, _) = answer(
        GET,
        426,
        &[(b"Upgrade", b"h2c"), (b"Content-Length", b"0")],
        &[],
    );
    assert_eq!(
        wire,
        "HTTP/1.1 426 Reason\r\nUpgrade: h2c\r\nContent-Length: 0\r\nConnection: upgrade, keep-alive\r\n\r\n"
    );
}

/// A head, a header, and what is wrong with them.
type Case<'h> = (ResponseHead<'h>, (&'h [u8], &'h [u8]), LocalMisuse);

/// Response splitting: no byte that could end a line gets out, and nothing is written at all.
#[test]
fn no_line_can_be_ended_by_the_application() {
    for byte in *b"\r\n\0\x0b\x7f" {
        let evil = [b'a', byte, b'b'];
        let good = head(200, "OK");
        let cases: [Case<'_>; 4] = [
            (
                ResponseHead {
                    reason: &evil,
                    ..good
                },
                (b"X", b"y"),
                LocalMisuse::InvalidReason,
            ),
            (good, (&evil, b"y"), LocalMisuse::InvalidFieldName),
            (good, (b"X", &evil), LocalMisuse::InvalidFieldValue),
            // Also where it would be dropped: the application should hear of it.
            (good, (b"Date", &evil), LocalMisuse::InvalidFieldValue),
        ];
        for (head, header, misuse) in cases {
            let mut connection = after(GET.as_bytes());
            let mut out = b"before".to_vec();
            assert_eq!(
                connection.encode_response_head(&head, [header], &mut out),
                Err(misuse)
            );
            assert_eq!(out, b"before");
            assert_eq!(
                connection
                    .encode_informational(103, [header], &mut out)
                    .is_err(),
                header.0 != b"X" || header.1 != b"y"
            );
            out.truncate(6);
            connection
                .encode_response_head(&good, [], &mut out)
                .expect("still possible");
        }
    }
}

#[test]
fn names_that_are_no_tokens_are_refused() {
    for name in ["", " X", "X ", "X Y", "X:", "(X)", "\u{e4}"] {
        assert_eq!(
            answer(GET, 200, &[(name.as_bytes(), b"y")], &[]).1,
            Err(LocalMisuse::InvalidFieldName)
        );
    }
}

#[test]
fn content_length_of_the_application_is_checked() {
    for value in ["", "x", "-1", "+1", "1 2", "1,1", "18446744073709551616"] {
        let result = answer(GET, 200, &[(b"Content-Length", value.as_bytes())], &[]).1;
        assert_eq!(result, Err(LocalMisuse::InvalidContentLength), "{value:?}");
    }
    let twice = |second: &[u8]| {
        answer(
            GET,
            200,
            &[(b"Content-Length", b"2"), (b"content-length", second)],
            &["hi"],
        )
    };
    assert_eq!(twice(b"3").1, Err(LocalMisuse::ConflictingContentLength));
    let (wire, next) = twice(b"2");
    assert_eq!(wire.matches("Content-Length").count(), 1);
    assert_eq!(next, Ok(Next::KeepAlive));
}

#[test]
fn statuses_that_are_none_are_refused() {
    for status in [0, 99, 100, 102, 103, 199, 1000, u16::MAX] {
        assert_eq!(
            answer(GET, status, &[], &[]).1,
            Err(LocalMisuse::InvalidStatus),
            "{status}"
        );
    }
    assert!(answer(GET, 999, &[], &[]).1.is_ok());
}

#[test]
fn a_body_that_is_too_long_is_cut_and_one_too_short_is_an_error() {
    let mut connection = after(GET.as_bytes());
    let mut out = Vec::new();
    connection
        .encode_response_head(
            &head(200, "OK"),
            [(&b"Content-Length"[..], &b"5"[..])],
            &mut out,
        )
        .expect("good");
    out.clear();
    let piece = |connection: &mut Connection, data: &[u8], out: &mut Vec<u8>| {
        connection
            .encode_body(data, out)
            .map(|BodyOutcome { sent, dropped }| (sent, dropped))
    };
    assert_eq!(piece(&mut connection, b"abc", &mut out), Ok((3, 0)));
    assert_eq!(
        connection.finish_response([], &mut out),
        Err(LocalMisuse::Incomplete { missing: 2 })
    );
    assert_eq!(piece(&mut connection, b"defg", &mut out), Ok((2, 2)));
    assert_eq!(piece(&mut connection, b"h", &mut out), Ok((0, 1)));
    assert_eq!(out, b"abcde");
    assert_eq!(
        connection.finish_response([], &mut out),
        Ok(Next::KeepAlive)
    );
}

#[test]
fn bodies_that_are_not_allowed_are_dropped_and_counted() {
    for (request, status) in [(HEAD, 200), (GET, 204), (GET, 304)] {
        let mut connection = after(request.as_bytes());
        let mut out = Vec::new();
        connection
            .encode_response_head(&head(status, ""), [], &mut out)
            .expect("good");
        let before = out.len();
        assert_eq!(
            connection.encode_body(b"body", &mut out),
            Ok(BodyOutcome {
                sent: 0,
                dropped: 4
            })
        );
        assert_eq!(
            connection.body_prefix(9, &mut out),
            Ok(BodyOutcome {
                sent: 0,
                dropped: 9
            })
        );
        connection.body_suffix(&mut out).expect("after a prefix");
        assert_eq!(
            connection.finish_response([], &mut out),
            Ok(Next::KeepAlive)
        );
        assert_eq!(out.len(), before);
    }
}

#[test]
fn empty_pieces_do_not_end_a_chunked_body() {
    let mut connection = after(GET.as_bytes());
    let mut out = Vec::new();
    connection
        .encode_response_head(&head(200, "OK"), [], &mut out)
        .expect("good");
    out.clear();
    connection.encode_body(b"", &mut out).expect("good");
    connection.body_prefix(0, &mut out).expect("good");
    connection.body_suffix(&mut out).expect("good");
    assert_eq!(out, b"");
    connection.encode_body(&[b'x'; 17], &mut out).expect("good");
    assert_eq!(out, b"11\r\nxxxxxxxxxxxxxxxxx\r\n");
}

#[test]
fn raw_pieces_are_framed_around() {
    for (headers, prefix, suffix) in [
        (&[][..], &b"1000\r\n"[..], &b"\r\n"[..]),
        (&[(&b"Content-Length"[..], &b"4096"[..])][..], b"", b""),
    ] {
        let mut connection = after(GET.as_bytes());
        let mut out = Vec::new();
        connection
            .encode_response_head(&head(200, "OK"), headers.iter().copied(), &mut out)
            .expect("good");
        out.clear();
        assert_eq!(
            connection.body_prefix(4096, &mut out),
            Ok(BodyOutcome {
                sent: 4096,
                dropped: 0
            })
        );
        assert_eq!(out, prefix);
        out.clear();
        connection.body_suffix(&mut out).expect("after a prefix");
        assert_eq!(out, suffix);
        assert_eq!(
            connection.finish_response([], &mut out),
            Ok(Next::KeepAlive)
        );
    }
}

#[test]
fn raw_pieces_stop_at_the_length() {
    let mut connection = after(GET.as_bytes());
    let mut out = Vec::new();
    connection
        .encode_response_head(
            &head(200, "OK"),
            [(&b"Content-Length"[..], &b"10"[..])],
            &mut out,
        )
        .expect("good");
    assert_eq!(
        connection.body_prefix(25, &mut out),
        Ok(BodyOutcome {
            sent: 10,
            dropped: 15
        })
    );
}

#[test]
fn trailers_end_a_chunked_body_only() {
    let trailers: [(&[u8], &[u8]); 1] = [(b"X-Checksum", b"99")];
    for (request, end) in [
        (GET, "0\r\nX-Checksum: 99\r\n\r\n"),
        (GET_10, ""),
        (HEAD, ""),
    ] {
        let mut connection = after(request.as_bytes());
        let mut out = Vec::new();
        connection
            .encode_response_head(&head(200, "OK"), [], &mut out)
            .expect("good");
        out.clear();
        connection
            .finish_response(trailers, &mut out)
            .expect("good");
        assert_eq!(String::from_utf8_lossy(&out), end);
    }
}

#[test]
fn trailers_that_would_mislead_are_refused() {
    for (name, value, misuse) in [
        ("Content-Length", "1", LocalMisuse::ForbiddenTrailer),
        ("transfer-encoding", "x", LocalMisuse::ForbiddenTrailer),
        ("Set-Cookie", "a=b", LocalMisuse::ForbiddenTrailer),
        ("Date", "x", LocalMisuse::ForbiddenTrailer),
        ("X\r\nY", "x", LocalMisuse::InvalidFieldName),
        (
            "X",
            "a\r\n\r\nHTTP/1.1 200 OK",
            LocalMisuse::InvalidFieldValue,
        ),
    ] {
        let mut connection = after(GET.as_bytes());
        let mut out = Vec::new();
        connection
            .encode_response_head(&head(200, "OK"), [], &mut out)
            .expect("good");
        let before = out.clone();
        assert_eq!(
            connection.finish_response([(name.as_bytes(), value.as_bytes())], &mut out),
            Err(misuse)
        );
        assert_eq!(out, before);
        assert!(
            connection.finish_response([], &mut out).is_ok(),
            "possible without them"
        );
    }
}

#[test]
fn informational_responses() {
    let link: [(&[u8], &[u8]); 2] = [
        (b"Link", b"</a.css>; rel=preload"),
        (b"Content-Length", b"5"),
    ];
    let mut connection = after(GET.as_bytes());
    let mut out = Vec::new();
    assert_eq!(
        connection.encode_informational(103, link, &mut out),
        Ok(true)
    );
    assert_eq!(connection.encode_informational(100, [], &mut out), Ok(true));
    assert_eq!(connection.encode_informational(142, [], &mut out), Ok(true));
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
         HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 142 \r\n\r\n"
    );
    for status in [99, 101, 200, 1100] {
        assert_eq!(
            connection.encode_informational(status, [], &mut out),
            Err(LocalMisuse::InvalidStatus)
        );
    }
}

#[test]
fn informational_responses_are_kept_from_http10() {
    let mut out = Vec::new();
    assert_eq!(
        after(GET_10.as_bytes()).encode_informational(103, [], &mut out),
        Ok(false)
    );
    assert_eq!(out, b"");
}

#[test]
fn a_web_server_reads_neither_chunks_nor_anything_about_its_connection() {
    let mut connection = Connection::behind_web_server(Arc::new(Rules::default()), Behind::Http);
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let polled = connection.poll_event(input).expect("a good head");
    assert_eq!(polled.event, Event::Head);
    let mut out = Vec::new();
    assert_eq!(
        connection.encode_informational(103, [], &mut out),
        Ok(false)
    );
    let head = ResponseHead {
        status: 200,
        reason: b"OK",
        ..ResponseHead::default()
    };
    let framing = connection
        .encode_response_head(&head, [], &mut out)
        .expect("good");
    assert_eq!(framing, ResponseFraming::UntilClose);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\n\r\n");
    connection.encode_body(b"body", &mut out).expect("good");
    let next = connection.finish_response([], &mut out).expect("complete");
    assert_eq!(next, Next::Close(CloseReason::PeerWish));
}
