//! Many connections with calls that go on: watches, keep-alives, and unary calls beside them.
//!
//! ```text
//!   start, say, call ─► Crowd ─► wait: flush who has something, epoll, read ─► words: what calls said, in order
//! ```
//!
//! - One thread, as all our clients. A member that said nothing new costs nothing.
//! - A member that does not listen any more ([`Crowd::stop_listening`]) is never read again: its windows fill, then its socket.
//! - A call that fails ends nothing here; its end is a word, and the caller judges it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::{CallId, ClientEvent, Limits, Metadata};
use prost::Message;
use rustix::event::epoll;
use rustix::time::Timespec;

use super::line::{Line, ReadEnd};
use super::{EVENTS_MAX, OwnError, READ_SIZE_BYTES, watch};

/// Unary calls in flight while many are asked: enough to keep a server busy, fewer than it refuses.
const ASKED_AT_ONCE: usize = 1_000;

/// The connections. Members are counted from 0.
#[derive(Debug)]
pub(crate) struct Crowd {
    members: Vec<Member>,
    /// Those that may have something to write.
    unflushed: Vec<usize>,
    epoll: OwnedFd,
    origin: Instant,
    last_word: Instant,
    stall_limit: Duration,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Member {
    line: Line,
    is_blocked: bool,
    is_unflushed: bool,
}

/// What one call said.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) member: usize,
    pub(crate) call: CallId,
    pub(crate) said: Said,
}

#[derive(Debug)]
pub(crate) enum Said {
    Message(Bytes),
    Ended(Status),
}

impl Crowd {
    pub(crate) fn connect(
        endpoint: SocketAddr,
        member_count: usize,
        limits: Limits,
        stall_limit: Duration,
    ) -> Result<Self, OwnError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut crowd = Self {
            members: Vec::with_capacity(member_count),
            unflushed: Vec::new(),
            epoll,
            origin: Instant::now(),
            last_word: Instant::now(),
            stall_limit,
            buffer: vec![0; READ_SIZE_BYTES],
        };
        let limits = Arc::new(limits);
        for place in 0..member_count {
            let line = Line::connect(endpoint, &limits, Duration::ZERO)?;
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&crowd.epoll, line.socket(), data, epoll::EventFlags::IN)
                .map_err(io::Error::from)?;
            crowd.members.push(Member {
                line,
                is_blocked: false,
                is_unflushed: false,
            });
        }
        Ok(crowd)
    }

    /// Begins a call that may go on.
    pub(crate) fn start(&mut self, member: usize, path: &str) -> Result<CallId, OwnError> {
        let machine = &mut self.members[member].line.machine;
        let call = machine.start_call(path, &Metadata::default(), None);
        self.note_unflushed(member);
        call.ok_or(OwnError::Lost("it takes no more calls"))
    }

    /// Sends a message on a call.
    pub(crate) fn say(&mut self, member: usize, call: CallId, message: &impl Message) {
        let message = Bytes::from(message.encode_to_vec());
        self.members[member]
            .line
            .machine
            .send_message(call, message);
        self.note_unflushed(member);
    }

    /// Begins a call of one message.
    pub(crate) fn call(
        &mut self,
        member: usize,
        path: &str,
        message: &impl Message,
    ) -> Result<CallId, OwnError> {
        let call = self.start(member, path)?;
        self.say(member, call, message);
        self.members[member].line.machine.half_close(call);
        Ok(call)
    }

    /// Makes a unary call and waits for its answer. What others say meanwhile is lost.
    pub(crate) fn ask(
        &mut self,
        member: usize,
        path: &str,
        message: &impl Message,
    ) -> Result<Bytes, OwnError> {
        let call = self.call(member, path, message)?;
        let mut answer = None;
        let mut words = Vec::new();
        loop {
            self.wait(self.stall_limit, &mut words)?;
            for word in words
                .drain(..)
                .filter(|word| word.call == call && word.member == member)
            {
                match word.said {
                    Said::Message(message) => answer = Some(message),
                    Said::Ended(status) => {
                        fail_unless_ok(&status)?;
                        return answer.ok_or(OwnError::Answer("there is none"));
                    }
                }
            }
        }
    }

    /// Makes `count` unary calls, many at once, in order of their numbers from 0. What others say meanwhile is lost.
    pub(crate) fn ask_many<M: Message>(
        &mut self,
        path: &str,
        count: u64,
        request: impl FnMut(u64) -> M,
    ) -> Result<(), OwnError> {
        self.ask_some(path, count, ASKED_AT_ONCE, request)
    }

    /// The same with so many at once.
    pub(crate) fn ask_some<M: Message>(
        &mut self,
        path: &str,
        count: u64,
        at_once: usize,
        mut request: impl FnMut(u64) -> M,
    ) -> Result<(), OwnError> {
        let (mut asked, mut answered) = (0, 0);
        let member_count = self.members.len();
        for place in 0..at_once {
            if asked < count {
                self.call(place % member_count, path, &request(asked))?;
                asked += 1;
            }
        }
        let mut words = Vec::new();
        while answered < count {
            self.wait(self.stall_limit, &mut words)?;
            for word in words.drain(..) {
                let Said::Ended(status) = word.said else {
                    continue;
                };
                fail_unless_ok(&status)?;
                answered += 1;
                if asked < count {
                    self.call(word.member, path, &request(asked))?;
                    asked += 1;
                }
            }
        }
        Ok(())
    }

    /// Reads nothing more of a member.
    pub(crate) fn stop_listening(&mut self, member: usize) -> io::Result<()> {
        Ok(epoll::delete(
            &self.epoll,
            self.members[member].line.socket(),
        )?)
    }

    /// Sends what there is, waits for at most `limit`, and adds what was said to `words`.
    ///
    /// # Errors
    /// A connection that is lost, and silence for longer than the limit that was given at the beginning.
    pub(crate) fn wait(&mut self, limit: Duration, words: &mut Vec<Word>) -> Result<(), OwnError> {
        for member in std::mem::take(&mut self.unflushed) {
            self.flush(member)?;
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let limit = limit.min(self.stall_limit);
        let limit = Timespec::try_from(limit).unwrap_or_default();
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, room, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let before = words.len();
        for event in &events {
            let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            self.on_ready(place, words)?;
        }
        if words.len() > before {
            self.last_word = Instant::now();
        } else if self.last_word.elapsed() > self.stall_limit {
            return Err(OwnError::Stalled(self.stall_limit));
        }
        Ok(())
    }

    fn on_ready(&mut self, place: usize, words: &mut Vec<Word>) -> Result<(), OwnError> {
        let now = self.origin.elapsed();
        let Some(member) = self.members.get_mut(place) else {
            return Ok(());
        };
        member.line.machine.on_time(now);
        loop {
            let end = member.line.read(&mut self.buffer)?;
            while let Some(event) = member.line.machine.poll_event() {
                let (call, said) = match event {
                    ClientEvent::Message { id, payload } => (id, Said::Message(payload)),
                    ClientEvent::Finished { id, status, .. } => (id, Said::Ended(status)),
                    ClientEvent::GoAway { .. } => return Err(OwnError::Lost("it is going away")),
                    ClientEvent::Headers { .. }
                    | ClientEvent::Response { .. }
                    | ClientEvent::Writable { .. }
                    | ClientEvent::Pong { .. } => continue,
                };
                words.push(Word {
                    member: place,
                    call,
                    said,
                });
            }
            if end == ReadEnd::Empty {
                break;
            }
        }
        // Windows that were opened, and answers to pings.
        self.flush(place)
    }

    fn flush(&mut self, place: usize) -> Result<(), OwnError> {
        let member = &mut self.members[place];
        member.is_unflushed = false;
        let is_blocked = !member.line.flush()?;
        if is_blocked != member.is_blocked {
            member.is_blocked = is_blocked;
            watch(&self.epoll, member.line.socket(), place, is_blocked)?;
        }
        Ok(())
    }

    fn note_unflushed(&mut self, place: usize) {
        let member = &mut self.members[place];
        if !std::mem::replace(&mut member.is_unflushed, true) {
            self.unflushed.push(place);
        }
    }
}

/// A status as an error, unless it is none.
pub(crate) fn fail_unless_ok(status: &Status) -> Result<(), OwnError> {
    if status.code == Code::Ok {
        return Ok(());
    }
    Err(OwnError::Refused {
        code: format!("{:?}", status.code),
        message: status.message.to_string(),
    })
}
