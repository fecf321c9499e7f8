use tokio::sync::oneshot::Receiver;

use super::*;
use crate::nats::reader::{Limits, Operation, Parser};

const INBOXES: &str = "_INBOX.test.token.";
const PLENTY: usize = 1 << 20;

struct World {
    desk: Desk,
    now: Instant,
}

impl World {
    fn new(batches: bool) -> Self {
        let mut desk = Desk::new(INBOXES.to_owned());
        desk.connected(batches);
        Self { desk, now: Instant::now() }
    }

    fn ask(&mut self, stream: &str, subjects: &[&str]) -> Receiver<Vec<Answer>> {
        let (asker, answered) = oneshot::channel();
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        self.desk.ask(Question { stream: stream.into(), subjects, asker }, self.now);
        answered
    }

    fn next(&mut self) -> Option<Request> {
        self.desk.next(self.now, PLENTY)
    }

    fn all(&mut self) -> Vec<Request> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// What the server says to a request, as it comes over the wire.
    fn answer(&mut self, request: &Request, block: &str, payload: &str) {
        let (head, length) = (block.len(), block.len() + payload.len());
        let wire = format!("HMSG {} 1 {head} {length}\r\n{block}{payload}\r\n", request.reply);
        match Parser::new(Limits::default()).next(wire.as_bytes()).unwrap() {
            (_, Some(Operation::Message(message))) => self.desk.on_message(&message),
            other => panic!("{other:?}"),
        }
    }

    /// A stored message, with what its sender wrote into its headers.
    fn found(&mut self, request: &Request, subject: &str, sequence: u64, wrote: &str) {
        let block = format!(
            "NATS/1.0{wrote}\r\nNats-Stream: T\r\nNats-Subject: {subject}\r\nNats-Sequence: {sequence}\r\n\
             Nats-Time-Stamp: 2026-11-25T08:00:00Z\r\n\r\n"
        );
        self.answer(request, &block, &format!("of {subject}"));
    }

    fn passes(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.desk.expire(self.now);
    }

    /// Nothing is left behind.
    fn assert_empty(&self) {
        let Desk { open, waiting, alone, under_way, .. } = &self.desk;
        assert!(open.is_empty() && waiting.is_empty() && alone.is_empty() && under_way.is_empty());
    }
}

/// Sequences, 0 for none; panics unless all were answered.
fn sequences(answered: &mut Receiver<Vec<Answer>>) -> Vec<u64> {
    let answers = answered.try_recv().unwrap().into_iter();
    answers.map(|answer| answer.unwrap().map_or(0, |message| message.sequence)).collect()
}

fn failures(answered: &mut Receiver<Vec<Answer>>) -> Vec<String> {
    let answers = answered.try_recv().unwrap().into_iter();
    answers.map(|answer| answer.map_or_else(|why| why.to_string(), |_| String::new())).collect()
}

#[test]
fn what_waits_is_one_request_and_what_it_lacks_is_asked_for_alone() {
    let mut world = World::new(true);
    let mut first = world.ask("T", &["a", "b"]);
    let mut other = world.ask("U", &["a", "b"]);
    let mut second = world.ask("T", &["b", "c"]);
    let [of_t, of_u] = &world.all()[..] else { panic!("not two requests") };
    assert_eq!((of_t.to.as_str(), of_u.to.as_str()), ("$JS.API.DIRECT.GET.T", "$JS.API.DIRECT.GET.U"));
    let json: serde_json::Value = serde_json::from_slice(&of_t.payload).unwrap();
    let mut asked: Vec<&str> =
        json["multi_last"].as_array().unwrap().iter().flat_map(|s| s.as_str()).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["a", "b", "c"]);

    world.found(of_t, "b", 7, "");
    world.found(of_t, "x", 9, "");
    world.found(of_t, "a", 3, "");
    assert_eq!(sequences(&mut first), [3, 7]);
    assert!(second.try_recv().is_err() && world.next().is_none());
    world.answer(of_t, "NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 9\r\n\r\n", "");
    let alone = world.next().unwrap();
    assert_eq!((alone.to.as_str(), &alone.payload[..]), ("$JS.API.DIRECT.GET.T.c", &b""[..]));
    world.answer(&alone, "NATS/1.0 404 Message Not Found\r\n\r\n", "");
    assert_eq!(sequences(&mut second), [7, 0]);

    // Nothing at all is found: it is asked for alone before that is believed.
    world.answer(of_u, "NATS/1.0 404 No Results\r\n\r\n", "");
    assert!(other.try_recv().is_err());
    for (sequence, alone) in (1..).zip(world.all()) {
        world.found(&alone, alone.to.rsplit_once('.').unwrap().1, sequence, "");
    }
    assert!(sequences(&mut other).iter().all(|sequence| *sequence > 0));
    world.assert_empty();
}

#[test]
fn what_a_sender_wrote_is_neither_a_status_nor_another_message() {
    for wrote in [
        " 404 Message Not Found",
        " 503",
        "\r\nNats-Subject: b\r\nNats-Sequence: 99\r\nNats-Time-Stamp: 1999-01-01T00:00:00Z",
        "\r\nbad header line",
        " 204 EOB\r\nNats-Num-Pending: 0",
    ] {
        for batches in [true, false] {
            let mut world = World::new(batches);
            let mut answered = world.ask("T", &["a", "b"]);
            let requests = world.all();
            let request_for = |n: usize| if batches { &requests[0] } else { &requests[n] };
            world.found(request_for(0), "a", 1, wrote);
            world.found(request_for(1), "b", 2, wrote);
            assert_eq!(sequences(&mut answered), [1, 2], "{wrote:?}");
            world.assert_empty();
        }
    }
}

#[test]
fn a_server_that_does_not_know_the_request_or_may_not_be_asked_is_asked_one_by_one() {
    for said in ["NATS/1.0 408 Empty Request\r\n\r\n", "NATS/1.0 413 Too Many Results\r\n\r\n", "rubbish", ""]
    {
        let mut world = World::new(true);
        let mut answered = world.ask("T", &["a", "b"]);
        let batch = world.next().unwrap();
        if said.is_empty() {
            assert!(world.desk.may_not("$JS.API.DIRECT.GET.T"));
        } else {
            world.answer(&batch, said, "");
        }
        let requests = world.all();
        assert_eq!(requests.len(), 2, "{said}");
        for request in &requests {
            world.found(request, request.to.rsplit_once('.').unwrap().1, 5, "");
        }
        assert_eq!(sequences(&mut answered), [5, 5]);
        let _next = world.ask("T", &["a", "b", "c"]);
        let batch = world.all().len() == 1;
        assert_eq!(batch, said.contains("413") || said == "rubbish", "{said}");
    }
}

#[test]
fn a_request_without_an_answer_is_told() {
    for batches in [true, false] {
        let mut world = World::new(batches);
        let mut late = world.ask("T", &["a", "b"]);
        let requests = world.all();
        world.passes(4);
        assert!(late.try_recv().is_err());
        world.passes(1);
        assert_eq!(failures(&mut late), ["the server does not answer"; 2]);
        world.found(&requests[0], "a", 1, "");

        let mut nowhere = world.ask("T", &["a", "b"]);
        for request in world.all() {
            world.answer(&request, "NATS/1.0 503\r\n\r\n", "");
        }
        assert!(failures(&mut nowhere)[1].contains("no such stream"));
        world.assert_empty();
    }
    let mut world = World::new(false);
    let mut odd = world.ask("T", &["a", "b", "c", "d"]);
    let requests = world.all();
    world.found(&requests[0], "z", 1, "");
    world.answer(&requests[1], "\u{1}", "");
    world.answer(&requests[2], "NATS/1.0 429 Too Many Requests\r\n\r\n", "");
    assert!(!world.desk.may_not(&requests[3].to));
    let said = failures(&mut odd);
    for (said, part) in
        said.iter().zip(["another subject", "none of a server's", "429 Too Many", "may not ask"])
    {
        assert!(said.contains(part), "{said}");
    }
    world.assert_empty();
}

#[test]
fn what_is_too_large_for_the_server_is_none() {
    for batches in [true, false] {
        let mut world = World::new(batches);
        let mut answered = world.ask("T", &["a", "b"]);
        if batches {
            let batch = world.next().unwrap();
            world.desk.on_oversized(batch.reply.as_bytes());
            world.found(&batch, "b", 2, "");
            world.answer(&batch, "NATS/1.0 204 EOB\r\n\r\n", "");
        }
        for request in world.all() {
            match request.to.ends_with(".a") {
                true => world.desk.on_oversized(request.reply.as_bytes()),
                false => world.found(&request, "b", 2, ""),
            }
        }
        assert_eq!(sequences(&mut answered), [0, 2]);
        world.assert_empty();
    }
}

#[test]
fn a_lost_connection_is_waited_for_so_long() {
    for batches in [true, false] {
        let mut world = World::new(batches);
        let mut answered = world.ask("T", &["a", "b"]);
        let before = world.all();
        world.desk.disconnected();
        world.passes(3);
        world.desk.connected(batches);
        let after = world.all();
        assert_eq!(before.len(), after.len());
        world.found(&before[0], "a", 1, "");
        assert!(answered.try_recv().is_err(), "of the connection that is lost");
        world.desk.disconnected();
        world.passes(7);
        assert_eq!(failures(&mut answered).len(), 2);
        assert!(world.next().is_none());
        world.assert_empty();
    }
}

#[test]
fn who_has_gone_is_not_asked_for() {
    for batches in [true, false] {
        let mut world = World::new(batches);
        drop(world.ask("T", &["a", "b"]));
        assert_eq!(world.all(), []);
        world.passes(0);
        world.assert_empty();
    }
}

#[test]
fn however_much_is_asked_so_much_is_under_way() {
    let names: Vec<String> = (0..100).map(|n| format!("subject-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for batches in [true, false] {
        let mut world = World::new(batches);
        let mut answered = Vec::new();
        while world.desk.has_room() {
            answered.push(world.ask("T", &names));
        }
        assert_eq!(answered.len(), 21, "2,048 wait at most, and one question more");
        let requests = world.all();
        assert_eq!(requests.len(), if batches { BATCHES_AT_ONCE } else { ALONE_AT_ONCE });
        let asked = |request: &Request| match batches {
            true => serde_json::from_slice::<serde_json::Value>(&request.payload).unwrap()["multi_last"]
                .as_array()
                .unwrap()
                .len(),
            false => 1,
        };
        assert!(requests.iter().all(|request| asked(request) <= BATCH));
        world.passes(5);
        let answered = answered.iter_mut().filter_map(|answered| answered.try_recv().ok()).count();
        assert!(answered < 21, "the others wait for their turn");
        assert!(!world.all().is_empty());
    }
}

#[test]
fn a_request_is_no_longer_than_the_server_takes() {
    let mut world = World::new(true);
    let subjects: Vec<String> = (0..20).map(|n| format!("{n:030}")).collect();
    let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let _answered = world.ask("T", &subjects);
    let mut asked = 0;
    while let Some(request) = world.desk.next(world.now, 256) {
        assert!(request.payload.len() <= 256, "{}", request.payload.len());
        asked += 1;
        let number = request.number;
        world.desk.refused(number, "");
    }
    assert_eq!(asked, 3, "seven at a time");
    let mut world = World::new(true);
    let _answered = world.ask("T", &subjects);
    assert!(world.desk.next(world.now, 40).unwrap().payload.is_empty(), "each by itself");
}
