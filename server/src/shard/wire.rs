//! The socket and the clock of one connection's machine.
//!
//! ```text
//!  read    socket -> (TLS) -> machine -> events for the owner
//!  write   machine -> (TLS) -> socket, one write at a time; woken by every command
//!  time    tells the machine when a time comes that it asked for
//! ```
//!
//! What holds:
//! - A peer that reads nothing cannot keep a connection. The machine gives it up in time, but a write under way ends
//!   only when the peer takes it; so the time task also watches writes. One that lasts for `unread_timeout`, or for
//!   [`LINGER`] after the machine was finished, ends with the socket.
//! - Time that the machine asked for is known to the time task before the connection waits for anything.
//! - What a peer's octets ask for is done in pieces of some ten microseconds: a few octets can name much work, and the other
//!   connections of this executor do not wait for all of it. Connections that do so all the time wait for each other
//!   ([`turns`](super::turns)).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use driver::{Notify, Stream};
use net::tls::{TlsInput, TlsSession};
use net::{Limits, ServerConnection, ServerEvent};

use super::turns::{Effort, Turn, Turns};

/// What one write carries at most; more is sent by the next one, so that calls share the connection.
const WRITE_SIZE_BYTES_MAX: usize = 256 * 1024;

/// What a connection with nothing to write keeps of that.
const WRITE_SIZE_BYTES_KEPT: usize = 4096;

/// What one write carries at most where it is encrypted first, which takes the time of a piece of work.
const SEALED_WRITE_SIZE_BYTES_MAX: usize = 64 * 1024;

/// How long a finished connection waits for the peer to have read the last words.
const LINGER: Duration = Duration::from_secs(1);

/// What a read or a write counts for the kernel's part of it.
const KERNEL_PRICE: Duration = Duration::from_micros(3);
/// Work that takes longer by the clock was interrupted, or waited for a page: other threads of the core and the disk are not this
/// client's fault.
const LONG_WORK: Duration = Duration::from_micros(100);
/// Events between two looks at the clock.
const EVENTS_PER_LOOK: u32 = 8;

/// Whoever takes the events of a connection.
pub(super) trait Owner: 'static {
    fn wire(&self) -> &Wire;
    fn on_event(self: &Rc<Self>, event: ServerEvent);
}

/// What the tasks of one connection share.
pub(super) struct Wire {
    machine: RefCell<ServerConnection>,
    /// What encrypts the octets on the socket; its handshake is done.
    tls: Option<RefCell<Box<TlsSession>>>,
    writer: Notify,
    /// Who reads may wait until a paused call goes on.
    reader: Notify,
    timer: Notify,
    /// What the time task waits for; `None`: for nothing but the others.
    armed: Cell<Option<Duration>>,
    /// Since when a write is under way.
    writing_since: Cell<Option<Duration>>,
    /// How long a write may last.
    write_timeout: Duration,
    is_closed: Cell<bool>,
    effort: Effort,
    /// Of the shard.
    turns: Rc<Turns>,
}

impl Wire {
    pub(super) fn new(limits: Arc<Limits>, turns: Rc<Turns>, tls: Option<Box<TlsSession>>) -> Self {
        Wire {
            tls: tls.map(RefCell::new),
            write_timeout: limits.unread_timeout,
            machine: RefCell::new(ServerConnection::new(limits, driver::now())),
            writer: Notify::new(),
            reader: Notify::new(),
            timer: Notify::new(),
            armed: Cell::new(None),
            writing_since: Cell::new(None),
            is_closed: Cell::new(false),
            effort: Effort::new(driver::now()),
            turns,
        }
    }

    /// Commands the machine; what there is to send then is sent.
    pub(super) fn command(&self, act: impl FnOnce(&mut ServerConnection)) {
        act(&mut self.machine.borrow_mut());
        self.writer.notify();
    }

    /// The same where the machine may want input again.
    pub(super) fn command_input(&self, act: impl FnOnce(&mut ServerConnection)) {
        self.command(act);
        self.reader.notify();
    }

    /// Looks at the machine.
    pub(super) fn look<T>(&self, act: impl FnOnce(&ServerConnection) -> T) -> T {
        act(&self.machine.borrow())
    }

    /// Sees to it that the time task is awake at the next time that matters. Most lie behind the one that it waits for.
    fn check_timer(&self) {
        let next = self.next_timeout();
        if next.is_some_and(|next| self.is_too_soon(next)) || self.is_held_up() {
            self.timer.notify();
        }
    }

    /// Whether the time task would be late.
    fn is_too_soon(&self, at: Duration) -> bool {
        self.armed.get().is_none_or(|armed| at < armed)
    }

    /// A write begins. The machine's own times change by input, and by what no window lets out: both are looked at.
    fn on_write(&self, now: Duration) {
        self.writing_since.set(Some(now));
        if self.is_too_soon(now.saturating_add(self.write_timeout)) {
            self.timer.notify();
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let of_machine = self.machine.borrow().next_timeout();
        let of_write = self.writing_since.get();
        let of_write = of_write.map(|since| since.saturating_add(self.write_timeout));
        [of_machine, of_write].into_iter().flatten().min()
    }

    /// Only a write stands between this connection and its end.
    fn is_held_up(&self) -> bool {
        self.writing_since.get().is_some() && self.machine.borrow().is_finished()
    }

    fn on_time(&self, now: Duration) {
        let mut machine = self.machine.borrow_mut();
        machine.on_time(now);
        let since = self.writing_since.get();
        if since.is_some_and(|since| now >= since.saturating_add(self.write_timeout)) {
            machine.on_lost();
        }
    }

    /// Encrypts what there is to send; at the end also the word that this is the end.
    fn seal(&self, tls: &mut TlsSession, plain: &mut Vec<u8>, sealed: &mut Vec<u8>) {
        let begun = driver::now();
        plain.clear();
        let mut machine = self.machine.borrow_mut();
        machine.poll_transmit(plain, SEALED_WRITE_SIZE_BYTES_MAX);
        if plain.is_empty() && machine.is_finished() {
            tls.close();
        } else {
            tls.seal(plain);
        }
        tls.poll_transmit(sealed);
        self.on_work(begun, driver::now());
    }

    /// Counts work between these times, less what others took of the core meanwhile; returns how much it was.
    fn on_work(&self, begun: Duration, end: Duration) -> Duration {
        let mut used = end.saturating_sub(begun);
        // As a rule nobody did, and to ask costs as much as a short piece of work.
        if used > LONG_WORK
            && let Some(most) = driver::turn_cpu_time()
        {
            used = used.min(most);
        }
        self.effort.on_work(end.saturating_sub(used), end);
        used
    }

    /// Waits until it is fair to begin; a light connection does not.
    pub(super) async fn turn(&self) -> Option<Turn> {
        match self.effort.is_heavy() {
            true => Some(self.turns.take().await),
            false => None,
        }
    }
}

/// Serves a connection until it is over. `first` has come already, in plain text.
pub(super) async fn serve<O: Owner>(owner: Rc<O>, stream: Rc<Stream>, first: Vec<u8>) {
    let reader = driver::spawn(read_all(Rc::clone(&owner), Rc::clone(&stream), first));
    let timer = driver::spawn(keep_time(Rc::clone(&owner), Rc::clone(&stream)));
    write_all(&owner, &stream).await;
    drop(timer);
    // Whoever works for a call of this connection is told that it is over.
    take_events(&owner, driver::now(), None).await;
    owner.wire().is_closed.set(true);
    // Closing over unread octets would send a reset, which can overtake the last words. The peer closes when it has
    // read them; a socket that is gone already needs none of this.
    let _ = stream.shutdown_write();
    let _ = driver::timeout(LINGER, reader).await;
    let _ = stream.shutdown();
}

/// Reads until the peer is done; once the connection is closed, only to see that.
async fn read_all<O: Owner>(owner: Rc<O>, stream: Rc<Stream>, first: Vec<u8>) {
    let wire = owner.wire();
    take_octets(&owner, &first).await;
    drop(first);
    loop {
        while !wire.look(ServerConnection::wants_input) {
            wire.reader.notified().await;
            take_events(&owner, driver::now(), None).await;
        }
        // Whoever waits has no buffer: most connections are silent most of the time.
        let (result, octets) = stream.read(Vec::new()).await;
        match result {
            Ok(1..) => match &wire.tls {
                None => take_octets(&owner, &octets).await,
                Some(tls) => {
                    if take_sealed(&owner, tls, &octets).await == TlsInput::Closed {
                        return;
                    }
                }
            },
            Ok(0) => {
                take_input(&owner, ServerConnection::on_eof).await;
                return;
            }
            Err(_) => {
                take_input(&owner, ServerConnection::on_lost).await;
                return;
            }
        }
    }
}

/// Has the machine handle octets, in pieces.
async fn take_octets<O: Owner>(owner: &Rc<O>, mut rest: &[u8]) {
    let effort = &owner.wire().effort;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(effort.piece_len()));
        let took = take_input(owner, |machine| machine.on_bytes(piece)).await;
        effort.on_piece(piece.len(), took);
        rest = more;
    }
}

/// The same with octets that are encrypted. What is decrypted at once is no more than a record and is handled before
/// the next one.
async fn take_sealed<O: Owner>(
    owner: &Rc<O>,
    tls: &RefCell<Box<TlsSession>>,
    mut rest: &[u8],
) -> TlsInput {
    let wire = owner.wire();
    let mut plain = Vec::new();
    while !rest.is_empty() {
        let begun = driver::now();
        let opened = tls.borrow_mut().on_bytes(&mut rest, &mut plain);
        wire.on_work(begun, driver::now());
        take_octets(owner, &plain).await;
        plain.clear();
        match opened {
            Ok(TlsInput::Open) => {}
            Ok(TlsInput::Closed) => {
                take_input(owner, ServerConnection::on_eof).await;
                return TlsInput::Closed;
            }
            // What TLS has to say about it goes out as the last words.
            Err(_) => {
                take_input(owner, ServerConnection::on_lost).await;
                return TlsInput::Closed;
            }
        }
    }
    if tls.borrow().wants_transmit() {
        wire.writer.notify();
    }
    TlsInput::Open
}

/// Has the machine and then the owner handle what came, when it is this connection's turn. Returns how long it
/// took, at least until the others had theirs.
async fn take_input<O: Owner>(
    owner: &Rc<O>,
    input: impl FnOnce(&mut ServerConnection),
) -> Duration {
    let wire = owner.wire();
    let turn = wire.turn().await;
    let now = driver::now();
    if turn.is_none() {
        wire.turns.on_light(now);
    }
    let begun = now.saturating_sub(KERNEL_PRICE);
    if wire.is_closed.get() {
        // What is still sent is not looked at, but has its price.
        wire.effort.on_work(now, now + KERNEL_PRICE);
        return Duration::ZERO;
    }
    {
        let mut machine = wire.machine.borrow_mut();
        machine.on_time(now);
        input(&mut machine);
    }
    let took = take_events(owner, begun, turn).await;
    wire.check_timer();
    wire.writer.notify();
    took
}

/// Writes what there is until the connection is finished or lost.
async fn write_all<O: Owner>(owner: &Rc<O>, stream: &Stream) {
    let wire = owner.wire();
    let mut buffer = Vec::new();
    let mut plain = Vec::new();
    loop {
        buffer.clear();
        let turn = wire.turn().await;
        match &wire.tls {
            None => {
                let mut machine = wire.machine.borrow_mut();
                machine.poll_transmit(&mut buffer, WRITE_SIZE_BYTES_MAX);
            }
            Some(tls) => wire.seal(&mut tls.borrow_mut(), &mut plain, &mut buffer),
        }
        drop(turn);
        if buffer.is_empty() {
            if wire.machine.borrow().is_finished() {
                return;
            }
            // An answer that no window lets out has a time, too.
            wire.check_timer();
            // Most connections are silent most of the time, and one large answer is no reason to expect another.
            buffer.shrink_to(WRITE_SIZE_BYTES_KEPT);
            plain.shrink_to(WRITE_SIZE_BYTES_KEPT);
            wire.writer.notified().await;
            continue;
        }
        wire.on_write(driver::now());
        let (result, back) = stream.write_all(buffer).await;
        wire.writing_since.set(None);
        buffer = back;
        if result.is_err() {
            wire.machine.borrow_mut().on_lost();
            return;
        }
        // What was queued may have made a streamed call writable again.
        let begun = driver::now().saturating_sub(KERNEL_PRICE);
        take_events(owner, begun, None).await;
    }
}

/// Tells the machine when a time comes that it asked for, and ends a write that nothing else would end.
async fn keep_time<O: Owner>(owner: Rc<O>, stream: Rc<Stream>) {
    let wire = owner.wire();
    while !wire.is_held_up() {
        let next = wire.next_timeout();
        wire.armed.set(next);
        let Some(at) = next else {
            wire.timer.notified().await;
            continue;
        };
        let wait = at.saturating_sub(driver::now());
        if driver::timeout(wait, wire.timer.notified()).await.is_err() {
            let now = driver::now();
            wire.on_time(now);
            take_events(&owner, now, None).await;
            wire.writer.notify();
            // The writer may have to end the connection first.
            driver::yield_now().await;
        }
    }
    // These may be the last words of a good end, on their way.
    driver::sleep(LINGER).await;
    let _ = stream.shutdown();
}

/// Has the owner do what the machine asks for, in pieces of time, letting others in between. The first one began at
/// `begun`; returns how long it was.
async fn take_events<O: Owner>(
    owner: &Rc<O>,
    mut begun: Duration,
    mut turn: Option<Turn>,
) -> Duration {
    let wire = owner.wire();
    let mut first = None;
    let mut count = 0;
    loop {
        let event = wire.machine.borrow_mut().poll_event();
        let Some(event) = event else { break };
        owner.on_event(event);
        count += 1;
        if count % EVENTS_PER_LOOK == 0 {
            let now = driver::now();
            if now >= begun.saturating_add(wire.turns.piece_max(now)) {
                let used = wire.on_work(begun, now);
                first.get_or_insert(used);
                drop(turn.take());
                driver::yield_now().await;
                turn = wire.turn().await;
                begun = driver::now();
            }
        }
    }
    let used = wire.on_work(begun, driver::now());
    first.unwrap_or(used)
}

#[cfg(test)]
mod tests;
