//! A blocking gRPC client: one socket, one [`ClientConnection`], calls by hand.
//!
//! All work happens inside the calls of the thread that owns it: a call writes what waits, reads until its answer is
//! there, and keeps what belongs to other calls for them.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::{CallId, ClientConnection, ClientEvent, Limits, Metadata};
use prost::Message;

/// How long a call may take before a test gives up. Generous, since the machine may be busy.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

const READ_LEN: usize = 64 * 1024;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server's answer is an error.
    #[error("{:?}: {}", .0.code, .0.message)]
    Status(Status),
    /// The connection broke, so whether the server did it is unknown.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// No answer in time, though the connection lives.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The answer is not what the method returns.
    #[error("undecodable answer: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The call ended well, with fewer messages than asked for.
    #[error("no message before the end of the call")]
    NoMessage,
}

impl CallError {
    /// Code and message, if the server answered.
    pub fn status(&self) -> Option<(Code, &str)> {
        match self {
            Self::Status(status) => Some((status.code, &status.message)),
            _ => None,
        }
    }
}

/// One connection to one server.
pub struct Client {
    socket: TcpStream,
    connection: ClientConnection,
    origin: Instant,
    calls: HashMap<CallId, Received>,
    is_eof: bool,
    /// For calls that do not say.
    pub timeout: Duration,
    /// Sent with each call.
    pub metadata: Vec<(String, String)>,
}

/// What came for a call and was not asked for yet.
#[derive(Default)]
struct Received {
    messages: VecDeque<Bytes>,
    status: Option<Status>,
    /// The connection ended before the server had answered.
    is_lost: bool,
}

impl Client {
    /// # Errors
    /// As of connecting a socket.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        let connection =
            ClientConnection::new(Limits::client().into(), &addr.to_string(), Duration::ZERO);
        Ok(Self {
            socket,
            connection,
            origin: Instant::now(),
            calls: HashMap::new(),
            is_eof: false,
            timeout: CALL_TIMEOUT,
            metadata: Vec::new(),
        })
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn unary<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, CallError> {
        self.unary_bytes(method, request.encode_to_vec().into())
    }

    /// The same with a request that is encoded already, perhaps badly.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn unary_bytes<A: Message + Default>(
        &mut self,
        method: &str,
        request: Bytes,
    ) -> Result<A, CallError> {
        let call = self.start(method)?;
        self.connection.send_message(call, request);
        self.connection.half_close(call);
        let answer = self.receive(call);
        let answer = match answer {
            Ok(Some(message)) => self.await_end(call).map(|()| message),
            Ok(None) => Err(CallError::NoMessage),
            Err(error) => Err(error),
        };
        self.forget(call);
        Ok(A::decode(answer?)?)
    }

    /// Begins a streaming call.
    ///
    /// # Errors
    /// [`CallError::Lost`] if the server has said goodbye.
    pub fn start(&mut self, method: &str) -> Result<CallId, CallError> {
        let metadata: Metadata = self.metadata.iter().cloned().collect();
        self.connection.on_time(self.origin.elapsed());
        let call = self
            .connection
            .start_call(method, &metadata, None)
            .ok_or_else(lost)?;
        self.calls.insert(call, Received::default());
        Ok(call)
    }

    /// Queues a message of a streaming call; it leaves with the next call that waits, or with [`Client::flush`].
    pub fn send(&mut self, call: CallId, message: &impl Message) {
        self.connection
            .send_message(call, message.encode_to_vec().into());
    }

    /// No more messages will be sent.
    pub fn half_close(&mut self, call: CallId) {
        self.connection.half_close(call);
    }

    /// Ends a call without waiting for its answer.
    pub fn cancel(&mut self, call: CallId) {
        self.connection.cancel(call);
        self.forget(call);
    }

    /// The next message of a streaming call, `None` at its good end.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn next<A: Message + Default>(&mut self, call: CallId) -> Result<Option<A>, CallError> {
        Ok(self.receive(call)?.map(A::decode).transpose()?)
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// As of writing to the socket.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        while self.connection.poll_transmit(&mut out, READ_LEN) > 0 {
            self.socket.write_all(&out)?;
            out.clear();
        }
        Ok(())
    }

    fn forget(&mut self, call: CallId) {
        self.calls.remove(&call);
    }

    fn receive(&mut self, call: CallId) -> Result<Option<Bytes>, CallError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let received = self.calls.entry(call).or_default();
            if let Some(message) = received.messages.pop_front() {
                return Ok(Some(message));
            }
            match &received.status {
                Some(_) if received.is_lost => return Err(lost()),
                Some(status) if status.is_ok() => return Ok(None),
                Some(status) => return Err(CallError::Status(status.clone())),
                None => self.pump(deadline)?,
            }
        }
    }

    fn await_end(&mut self, call: CallId) -> Result<(), CallError> {
        match self.receive(call)? {
            None => Ok(()),
            Some(_) => Err(CallError::Status(Status {
                code: Code::Internal,
                message: "a second answer to a unary call".into(),
            })),
        }
    }

    /// Writes what waits, then handles what arrives next.
    fn pump(&mut self, deadline: Instant) -> Result<(), CallError> {
        self.flush()?;
        if self.take_events() {
            return Ok(());
        }
        if self.is_eof || self.connection.is_finished() {
            return Err(lost());
        }
        let now = Instant::now();
        let Some(left) = deadline
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
        else {
            return Err(CallError::TimedOut(self.timeout));
        };
        // The connection may want to be told of the time sooner.
        let timer = self
            .connection
            .next_timeout()
            .map(|at| at.saturating_sub(now - self.origin));
        let wait = timer.map_or(left, |timer| left.min(timer.max(Duration::from_millis(1))));
        self.socket.set_read_timeout(Some(wait))?;
        let mut octets = [0; READ_LEN];
        let result = self.socket.read(&mut octets);
        self.connection.on_time(self.origin.elapsed());
        match result {
            Ok(0) => {
                self.is_eof = true;
                self.connection.on_eof();
            }
            Ok(len) => self.connection.on_bytes(&octets[..len]),
            // A signal, to which a socket with a timeout is open, says nothing about the connection.
            Err(error) if is_time_out(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        self.take_events();
        Ok(())
    }

    /// Whether there were any.
    fn take_events(&mut self) -> bool {
        let mut had_any = false;
        while let Some(event) = self.connection.poll_event() {
            had_any = true;
            let (id, message, status) = match event {
                ClientEvent::Message { id, payload } => (id, Some(payload), None),
                ClientEvent::Finished { id, status, .. } => (id, None, Some(status)),
                _ => continue,
            };
            // Calls that were given up have no entry.
            if let Some(received) = self.calls.get_mut(&id) {
                received.messages.extend(message);
                // After the end of the connection a status is the client's own guess.
                received.is_lost |= self.is_eof && status.is_some();
                received.status = received.status.take().or(status);
            }
        }
        had_any
    }
}

fn lost() -> CallError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}

fn is_time_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
