use proptest::prelude::*;

use super::*;
use crate::job::{InfraFailure, Kind, Limits, Outcome, Timings};
use crate::testing;

fn body<T: Serialize>(message: &T) -> Vec<u8> {
    worker::to_frame(message).split_off(4)
}

fn job() -> Job {
    let thunk = testing::sample().resolve(|_| Some(BlobId::of(b"x"))).unwrap();
    Job {
        id: thunk.id(),
        thunk: thunk.into(),
        limits: Limits::default(),
        kind: Kind::Compile,
        label: "gcc a.o".into(),
    }
}

fn requests() -> Vec<ToService> {
    let id = BlobId::of(b"abc");
    vec![
        ToService::Ping,
        ToService::Missing { seq: 1, ids: vec![id; 3] },
        ToService::Blob(Piece { id, offset: 0, bytes: b"abc".to_vec() }),
        ToService::Run { seq: 2, job: job() },
        ToService::Cancel { seq: 2 },
        ToService::Fetch { seq: 3, ids: vec![id] },
        ToService::Expect { program: "/usr/bin/gcc".into(), count: 9, within_ms: 500 },
        ToService::Status { seq: 4 },
        ToService::Warm { seq: 5, program: "/usr/bin/gcc".into() },
        ToService::Drain { seq: 6 },
    ]
}

fn answers() -> Vec<FromService> {
    let id = BlobId::of(b"abc");
    let outcome = Outcome::Infra(InfraFailure::InputsMissing(vec![id]));
    let attempt = Attempt { outcome, timings: Timings::default(), cost_microdollars: 0, worker: 7 };
    let pool = PoolStatus { tenant: "t".into(), program: "*".into(), ..PoolStatus::default() };
    vec![
        FromService::Welcome {
            version: VERSION,
            instance: 1,
            tenant: "t".into(),
            slots: 2,
            isolation: "sandbox".into(),
        },
        FromService::Refused("no".into()),
        FromService::Blob(Piece { id, offset: 0, bytes: b"abc".to_vec() }),
        FromService::Fetched { seq: 3, missing: vec![id] },
        FromService::Done { seq: 2, attempt },
        FromService::Status { seq: 4, status: Box::new(Status { pools: vec![pool], ..Status::default() }) },
        FromService::Carried { seq: 5, outcome: Err("why".into()) },
    ]
}

#[test]
fn frames_come_back_as_they_were() {
    for request in requests() {
        let again = to_service(&body(&request)).unwrap();
        assert_eq!(format!("{again:?}"), format!("{request:?}"));
    }
    for answer in answers() {
        let again = from_service(&body(&answer)).unwrap();
        assert_eq!(format!("{again:?}"), format!("{answer:?}"));
    }
}

#[test]
fn the_first_bytes_of_this_version_are_pinned() {
    let hello = Hello { version: VERSION, token: "abc".into(), packed: true };
    assert_eq!(worker::to_frame(&hello), b"\x06\0\0\0\x03\x03abc\x01");
    assert_eq!(worker::to_frame(&ToService::Ping), b"\x01\0\0\0\0");
    assert_eq!(body(&FromService::Refused("no".into())), b"\x01\x02no");
}

#[test]
fn of_another_version_s_hello_the_version_is_read_whatever_follows() {
    for frame in [&b"\x02\x03abc"[..], b"\x04"] {
        assert_eq!(
            hello(frame).unwrap(),
            Hello { version: frame[0].into(), token: String::new(), packed: false }
        );
    }
}

#[test]
fn a_token_is_not_printed() {
    let hello = Hello { version: 1, token: "secret".into(), packed: true };
    assert!(!format!("{hello:?}").contains("secret"));
}

#[test]
fn what_is_too_long_is_refused() {
    assert!(length((MAX_HELLO + 1).to_le_bytes(), MAX_HELLO).is_err());
    let long = Hello { version: VERSION, token: "x".repeat(MAX_TOKEN + 1), packed: false };
    assert!(hello(&body(&long)).is_err());
    let id = BlobId::of(&vec![0; PIECE + 1]);
    let piece = Piece { id, offset: 0, bytes: vec![0; PIECE + 1] };
    assert!(to_service(&body(&ToService::Blob(piece.clone()))).is_err());
    assert!(from_service(&body(&FromService::Blob(piece))).is_err());
    for (offset, bytes) in [(0, vec![]), (7, vec![0; PIECE]), (u64::MAX, vec![0])] {
        assert!(to_service(&body(&ToService::Blob(Piece { id, offset, bytes }))).is_err());
    }
    let ids = vec![id; MAX_IDS + 1];
    assert!(to_service(&body(&ToService::Fetch { seq: 1, ids })).is_err());
}

proptest! {
    /// Whatever arrives gives a message or an error.
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
        let _ = (hello(&bytes), to_service(&bytes), from_service(&bytes));
    }

    /// True frames with bytes changed, cut or added come nearer to the edges than random ones do.
    #[test]
    fn no_changed_frame_makes_a_reader_panic(
        which in 0usize..17,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let (requests, answers) = (requests(), answers());
        let mut frame = match requests.get(which) {
            Some(request) => body(request),
            None => body(&answers[(which - requests.len()) % answers.len()]),
        };
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if cut {
            frame.truncate(keep.index(frame.len()));
        }
        let _ = (hello(&frame), to_service(&frame), from_service(&frame));
    }

    /// A length that a list claims is not believed: memory is taken as bytes come.
    #[test]
    fn a_claimed_length_reserves_nothing(claim in any::<u64>()) {
        let mut frame = vec![1, 1];
        let mut left = claim;
        while left >= 0x80 {
            frame.push(left as u8 | 0x80);
            left >>= 7;
        }
        frame.push(left as u8);
        let read = to_service(&frame);
        prop_assert!(claim == 0 || read.is_err());
    }
}
