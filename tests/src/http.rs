//! The plainest HTTP client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// GETs a path on a connection of its own; the whole response as text, its head first.
///
/// # Errors
/// As of the socket.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut response = String::new();
    socket.read_to_string(&mut response)?;
    Ok(response)
}
