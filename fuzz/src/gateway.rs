//! The gateway's readers of JSON: any text as the body of a request.
//!
//! ```text
//!  input = number of a method | seed of the cuts | the body
//! ```
//!
//! The messages must not depend on how the body was cut. Each is written as JSON and read again, which must give the same
//! bytes from then on: what is read first may have fields in another order.

use server::gateway::{Message, Requests, methods};

use crate::input::{Cuts, Input};

/// The whole body at once.
const WHOLE: u8 = 0;
/// Octet by octet.
const SINGLE: u8 = 1;
/// No message may be longer.
const MESSAGE_LEN_MAX: usize = 4096;

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let methods: Vec<&'static str> = methods().collect();
    let method = methods[usize::from(input.byte()) % methods.len()];
    let seed = input.byte();
    let body = input.rest();
    let whole = read(method, body, WHOLE);
    for seed in [SINGLE, seed] {
        assert_eq!(
            whole,
            read(method, body, seed),
            "depends on the cuts {seed}"
        );
    }
    let (messages, _) = whole;
    for message in messages {
        assert!(message.bytes().len() <= MESSAGE_LEN_MAX);
        check_again(method, &message);
    }
}

/// The messages of a body, and what is wrong with it.
fn read(method: &str, mut body: &[u8], seed: u8) -> (Vec<Message>, Option<String>) {
    let mut requests = Requests::new(method, MESSAGE_LEN_MAX).expect("it is one of them");
    let mut cuts = Cuts::new(seed);
    let mut messages = Vec::new();
    while !body.is_empty() {
        let piece = cuts.next(&mut body);
        if let Err(error) = requests.push(piece, &mut messages) {
            return (messages, Some(error));
        }
        assert!(requests.held_len() <= body_len_max(), "kept for nothing");
    }
    let error = requests.end(&mut messages).err();
    assert_eq!(requests.held_len(), 0, "kept for nobody");
    (messages, error)
}

fn body_len_max() -> usize {
    MESSAGE_LEN_MAX * 8 + 64 * 1024
}

/// What was read is written, and read again.
fn check_again(method: &str, message: &Message) {
    let text = message.to_json().expect("what was read is a message");
    let (again, error) = read(method, &text, WHOLE);
    let shown = String::from_utf8_lossy(&text);
    assert_eq!(error, None, "{shown}");
    let [again] = &again[..] else {
        panic!("{} messages: {shown}", again.len());
    };
    let text_again = again.to_json().expect("what was read is a message");
    assert_eq!(text, text_again, "what is written says the same twice");
}
