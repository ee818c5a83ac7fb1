//! The URLs of flags: scheme, host and port of a listener or a member.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::go;

/// What stands before `://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
    /// A plaintext listener on a socket file.
    Unix,
    /// A TLS listener on a socket file.
    Unixs,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    pub fn is_socket_file(self) -> bool {
        matches!(self, Self::Unix | Self::Unixs)
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Unix, Self::Unixs]
            .into_iter()
            .find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }
}

/// A URL that etcd takes for an address: `http://host:port` or `unix://…`.
///
/// `http` and `https` URLs have a host part that splits into host and port, and no path.
/// Equality and order are those of the whole text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Between `://` and what follows: `host:port`, with brackets around an IPv6 address.
    authority: String,
    /// Path, query and fragment; a path only on socket files.
    rest: String,
}

/// Why a text is no such URL. The messages are etcd's and Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("parse {}: {reason}", go::quote(.text))]
    Syntax { text: String, reason: String },
}

impl Url {
    /// Reads one URL; blanks around it do not count.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let syntax = |reason: String| UrlError::Syntax {
            text: text.to_owned(),
            reason,
        };
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(syntax(
                "net/url: invalid control character in URL".to_owned(),
            ));
        }
        let (name, after) = split_scheme(text).map_err(|reason| syntax(reason.to_owned()))?;
        let scheme = Scheme::parse(name).ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let (authority, rest) = split_authority(after);
        check_authority(authority).map_err(syntax)?;
        let url = Self {
            scheme,
            authority: authority.to_owned(),
            rest: rest.to_owned(),
        };
        if !scheme.is_socket_file() {
            if url.split_host_port().is_none() {
                return Err(UrlError::HostPort(text.to_owned()));
            }
            if !rest.is_empty() && !rest.starts_with(['?', '#']) {
                return Err(UrlError::Path(text.to_owned()));
            }
        }
        Ok(url)
    }

    /// Reads a list between commas, sorted by text and without doubles.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        let mut urls = text
            .split(',')
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_cached_key(Self::to_string);
        urls.dedup();
        Ok(urls)
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without brackets; empty on socket files.
    pub fn host(&self) -> &str {
        self.split_host_port().map_or("", |(host, _)| host)
    }

    /// The port as written, possibly empty.
    pub fn port(&self) -> &str {
        self.split_host_port().map_or("", |(_, port)| port)
    }

    /// `host:port` as written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The same URL with another host.
    pub(super) fn with_host(&self, host: &str, port: &str) -> Self {
        Self {
            authority: format!("{host}:{port}"),
            ..self.clone()
        }
    }

    /// Splits the part behind a user name at its last colon, as Go's `net.SplitHostPort`.
    fn split_host_port(&self) -> Option<(&str, &str)> {
        let place = match self.authority.rsplit_once('@') {
            Some((_, place)) => place,
            None => &self.authority,
        };
        if let Some(bracketed) = place.strip_prefix('[') {
            let (host, port) = bracketed.split_once(']')?;
            return Some((host, port.strip_prefix(':')?));
        }
        let (host, port) = place.split_once(':')?;
        (!port.contains(':')).then_some((host, port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Go calls what follows a scheme without a slash opaque, and keeps it apart from a host.
        let is_opaque = self.authority.is_empty()
            && !self.rest.is_empty()
            && !self.rest.starts_with(['/', '?', '#']);
        let slashes = if is_opaque { "" } else { "//" };
        write!(
            out,
            "{}:{slashes}{}{}",
            self.scheme.name(),
            self.authority,
            self.rest
        )
    }
}

/// Splits `scheme:` off. A text without one has an empty scheme, which the caller refuses.
fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    let Some(colon) = text.find(':') else {
        return Ok(("", text));
    };
    let name = &text[..colon];
    let mut letters = name.bytes();
    let is_scheme = match letters.next() {
        None => return Err("missing protocol scheme"),
        Some(first) => {
            let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"+-.".contains(&letter);
            first.is_ascii_alphabetic() && letters.all(is_letter)
        }
    };
    if is_scheme {
        return Ok((name, &text[colon + 1..]));
    }
    // What cannot be a scheme is a path, and a path may not start like one.
    if name.contains('/') {
        Ok(("", text))
    } else {
        Err("first path segment in URL cannot contain colon")
    }
}

/// Splits what follows the scheme into `host:port` and the rest.
fn split_authority(after: &str) -> (&str, &str) {
    let Some(after) = after.strip_prefix("//") else {
        return ("", after);
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    after.split_at(end)
}

/// Refuses hosts and ports that Go's parser refuses, with its texts.
fn check_authority(authority: &str) -> Result<(), String> {
    let place = authority
        .rsplit_once('@')
        .map_or(authority, |(_, place)| place);
    let (host, port) = if place.starts_with('[') {
        let end = place.rfind(']').ok_or("missing ']' in host")?;
        place.split_at(end + 1)
    } else {
        place.split_at(place.find(':').unwrap_or(place.len()))
    };
    let port_is_valid = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    if !port_is_valid {
        return Err(format!("invalid port {} after host", go::quote(port)));
    }
    if let Some(escape) = find_bad_escape(host) {
        return Err(format!("invalid URL escape {}", go::quote(escape)));
    }
    match host.chars().find(|c| " \\^`{|}".contains(*c)) {
        Some(bad) => Err(format!(
            "invalid character {} in host name",
            go::quote(&bad.to_string())
        )),
        None => Ok(()),
    }
}

/// The first percent sign, with up to two characters behind it, that does not escape a byte outside
/// ASCII or (as `%25`) begin the zone of an IPv6 address.
fn find_bad_escape(host: &str) -> Option<&str> {
    host.match_indices('%').find_map(|(at, _)| {
        let tail = &host[at..];
        let end = tail
            .char_indices()
            .nth(3)
            .map_or(tail.len(), |(end, _)| end);
        let escape = &tail[..end];
        let is_good = match escape.as_bytes() {
            b"%25" => true,
            [_, high, low] => {
                let high = char::from(*high).to_digit(16);
                high.is_some_and(|digit| digit >= 8) && low.is_ascii_hexdigit()
            }
            _ => false,
        };
        (!is_good).then_some(escape)
    })
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// A socket file.
    File(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(out),
            Self::File(path) => path.display().fmt(out),
        }
    }
}

/// A URL to listen on, with the address it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    pub url: Url,
    pub address: ListenAddress,
}

impl ListenUrl {
    /// The host must be an IP address or `localhost`, which means IPv4's; an empty port is port 0.
    /// `None` if it is something else or the port is no 16-bit number.
    pub(super) fn new(url: Url) -> Option<Self> {
        if url.scheme().is_socket_file() {
            // etcd takes host and path for the name: `unix://localhost:1` is a file in the working directory.
            let path = url.rest.split(['?', '#']).next().unwrap_or_default();
            let address = ListenAddress::File(format!("{}{path}", url.authority).into());
            return Some(Self { url, address });
        }
        let ip = match url.host() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().ok()?,
        };
        let port = match url.port() {
            "" => 0,
            digits => digits.parse().ok()?,
        };
        let address = ListenAddress::Tcp(SocketAddr::new(ip, port));
        Some(Self { url, address })
    }

    /// Whether its connections are encrypted.
    pub fn is_secure(&self) -> bool {
        matches!(self.url.scheme(), Scheme::Https | Scheme::Unixs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        Url::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_url_has_scheme_host_and_port() {
        let url = Url::parse(" HTTP://127.0.0.1:2379 ").unwrap();
        assert_eq!(
            (url.scheme(), url.host(), url.port()),
            (Scheme::Http, "127.0.0.1", "2379")
        );
        assert_eq!(url.to_string(), "http://127.0.0.1:2379");
        let six = Url::parse("https://[::1]:2379").unwrap();
        assert_eq!((six.host(), six.port()), ("::1", "2379"));
        assert_eq!(six.authority(), "[::1]:2379");
        assert_eq!(Url::parse("http://a:b@c:1").unwrap().host(), "c");
        assert_eq!(Url::parse("http://:2379").unwrap().host(), "");
    }

    #[test]
    fn socket_files_may_have_a_path() {
        let url = Url::parse("unix:///tmp/x.sock").unwrap();
        assert_eq!(url.to_string(), "unix:///tmp/x.sock");
        assert!(url.scheme().is_socket_file());
        // What follows is no host.
        let opaque = Url::parse("unix:a=//b").unwrap();
        assert_eq!(opaque.to_string(), "unix:a=//b");
        assert_eq!(
            Url::parse("unixs://localhost:12345").unwrap().port(),
            "12345"
        );
    }

    #[test]
    fn refusals_have_etcds_and_gos_texts() {
        assert_eq!(
            error_of("ftp://a:1"),
            "URL scheme must be http, https, unix, or unixs: ftp://a:1"
        );
        assert_eq!(
            error_of("localhost:1"),
            "URL scheme must be http, https, unix, or unixs: localhost:1"
        );
        assert_eq!(
            error_of(""),
            "URL scheme must be http, https, unix, or unixs: "
        );
        assert_eq!(
            error_of("127.0.0.1:1"),
            "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon"
        );
        assert_eq!(error_of(":1"), "parse \":1\": missing protocol scheme");
        assert_eq!(
            error_of("http://foo"),
            "URL address does not have the form \"host:port\": http://foo"
        );
        assert_eq!(
            error_of("http://::1:2"),
            "parse \"http://::1:2\": invalid port \"::1:2\" after host"
        );
        assert_eq!(
            error_of("http://[::1]x:1"),
            "parse \"http://[::1]x:1\": invalid port \"x:1\" after host"
        );
        assert_eq!(
            error_of("ht_tp://a:1"),
            "parse \"ht_tp://a:1\": first path segment in URL cannot contain colon"
        );
        assert_eq!(
            error_of("http://[fe80::1%lo]:1"),
            "parse \"http://[fe80::1%lo]:1\": invalid URL escape \"%lo\""
        );
        assert_eq!(
            error_of("http://%41:1"),
            "parse \"http://%41:1\": invalid URL escape \"%41\""
        );
        assert!(Url::parse("http://[fe80::1%25lo]:1").is_ok());
        assert!(Url::parse("http://a%:1").is_err());
        assert_eq!(
            error_of("http://a:1/x"),
            "URL must not contain a path: http://a:1/x"
        );
        assert_eq!(
            error_of("http://a:1/"),
            "URL must not contain a path: http://a:1/"
        );
        assert_eq!(
            error_of("http://a:http"),
            "parse \"http://a:http\": invalid port \":http\" after host"
        );
        assert_eq!(
            error_of("http://[::1:2379"),
            "parse \"http://[::1:2379\": missing ']' in host"
        );
        assert_eq!(
            error_of("http://a b:1"),
            "parse \"http://a b:1\": invalid character \" \" in host name"
        );
        assert_eq!(
            error_of("http://a\n:1"),
            "parse \"http://a\\n:1\": net/url: invalid control character in URL"
        );
    }

    #[test]
    fn lists_are_sorted_and_have_no_doubles() {
        let urls = Url::parse_list("http://b:1, http://a:1 ,http://b:1").unwrap();
        let texts: Vec<_> = urls.iter().map(Url::to_string).collect();
        assert_eq!(texts, ["http://a:1", "http://b:1"]);
        assert!(Url::parse_list("http://a:1,,http://b:1").is_err());
    }

    #[test]
    fn listeners_need_an_address() {
        let listen = |text: &str| ListenUrl::new(Url::parse(text).unwrap());
        let address = |text: &str| listen(text).unwrap().address.to_string();
        assert_eq!(address("http://localhost:1"), "127.0.0.1:1");
        assert_eq!(address("http://[::]:1"), "[::]:1");
        assert_eq!(address("http://127.0.0.1:"), "127.0.0.1:0");
        assert_eq!(address("unix:///a/b.sock"), "/a/b.sock");
        assert_eq!(address("unixs://localhost:1"), "localhost:1");
        assert!(listen("unixs://x").unwrap().is_secure());
        assert!(!listen("unix://x").unwrap().is_secure());
        assert!(listen("http://example.com:1").is_none());
        assert!(listen("http://127.0.0.1:99999").is_none());
    }
}
