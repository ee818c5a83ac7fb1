//! Where a request's path leads, by the rules of Go's `net/http`.
//!
//! ```text
//!  as sent      escaped      clean        leads to
//!  //health     //health     /health      307 /health
//!  /%68ealth    /%68ealth    /%68ealth    the route /health
//!  /v3          /v3          /v3          307 /v3/, because that is a tree of routes
//!  /a%20b//c    /a%20b//c    /a%20b/c     307 /a%2520b/c: Go escapes the escaped path once more
//! ```
//!
//! A path is clean without empty segments, `.` and `..`; only what is clean in its escaped form reaches a route, and the
//! routes are compared segment by segment, each without its escapes.
//!
//! Pure functions. A path as clients send it is found to be clean by one look at each octet and copied nowhere.

use std::borrow::Cow;

use net::http::{HttpRequest, HttpResponse, Method, decode_path};

/// The trees of routes that a listener has: paths that end in a slash and have routes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trees {
    roots: &'static [&'static str],
    /// `/v3beta/` stands for `/v3/`.
    renames_beta: bool,
}

impl Trees {
    /// A client listener's, with or without the JSON gateway.
    pub fn client(has_gateway: bool) -> Self {
        Trees {
            roots: if has_gateway { &["/v3/"] } else { &[] },
            renames_beta: true,
        }
    }

    /// A peer listener's.
    pub const PEER: Self = Trees {
        roots: &["/raft/stream/", "/members/promote/"],
        renames_beta: false,
    };

    /// A listener's for metrics alone.
    pub const METRICS: Self = Trees {
        roots: &[],
        renames_beta: false,
    };

    fn has(&self, path: &[u8], slash: &str) -> bool {
        let mut roots = self.roots.iter();
        roots.any(|root| root.strip_suffix(slash).map(str::as_bytes) == Some(path))
    }
}

/// The route that a request asks for.
///
/// # Errors
/// The answer to a path that no route is asked by: where to go instead, or that it is malformed.
pub fn locate<'a>(request: &'a HttpRequest, trees: Trees) -> Result<Cow<'a, str>, HttpResponse> {
    let path = request.path.as_str();
    if path == "*" {
        return Err(HttpResponse::new(400));
    }
    if is_plain(path) && !is_beta(path.as_bytes(), trees) && !trees.has(path.as_bytes(), "/") {
        return Ok(Cow::Borrowed(path));
    }
    let Some(decoded) = decode_path(path) else {
        return Err(HttpResponse::text(400, "400 Bad Request"));
    };
    let (decoded, escaped) = match is_beta(&decoded, trees) {
        true => {
            let renamed = [V3, &decoded[V3_BETA.len()..]].concat();
            let escaped = escape(&renamed);
            (Cow::Owned(renamed), Cow::Owned(escaped))
        }
        false => {
            let escaped = match path.bytes().all(may_stand_escaped) {
                true => Cow::Borrowed(path),
                false => Cow::Owned(escape(&decoded)),
            };
            (decoded, escaped)
        }
    };
    // A proxy is asked by the rest, so nothing of it is ours to change.
    let cleaned = match request.method {
        Method::Connect => escaped.as_bytes().to_vec(),
        _ => clean(escaped.as_bytes()),
    };
    let route = unescape_segments(&cleaned);
    if trees.has(&route, "/") {
        let mut target = clean(&decoded);
        target.push(b'/');
        return Err(redirect(request, &target));
    }
    if cleaned != escaped.as_bytes() {
        return Err(redirect(request, &cleaned));
    }
    Ok(Cow::Owned(String::from_utf8_lossy(&route).into_owned()))
}

const V3: &[u8] = b"/v3/";
const V3_BETA: &[u8] = b"/v3beta/";

fn is_beta(path: &[u8], trees: Trees) -> bool {
    trees.renames_beta && path.starts_with(V3_BETA)
}

/// Whether a path is clean and has nothing to escape or unescape. A segment that begins with a dot is for others to look at.
fn is_plain(path: &str) -> bool {
    let path = path.as_bytes();
    let pairs = path.windows(2);
    path.first() == Some(&b'/')
        && path.iter().all(|octet| stands_for_itself(*octet))
        && pairs.into_iter().all(|pair| !matches!(pair, b"//" | b"/."))
}

/// Octets of a path that are never escaped.
fn stands_for_itself(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&octet)
}

/// Octets of a path that may stay as they were sent.
fn may_stand_escaped(octet: u8) -> bool {
    stands_for_itself(octet) || b"%!'()*[]".contains(&octet)
}

fn escape(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() + 8);
    for octet in octets {
        match stands_for_itself(*octet) {
            true => out.push(char::from(*octet)),
            false => out.push_str(&format!("%{octet:02X}")),
        }
    }
    out
}

/// A path without empty segments, `.` and `..`, which ends in a slash where it did.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|octet| *octet == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len() + 1);
    for segment in &segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if segments.is_empty() || path.ends_with(b"/") {
        out.push(b'/');
    }
    out
}

/// A path without escapes, but for segments that would fall apart.
fn unescape_segments(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|octet| *octet == b'/').map(|segment| {
        let decoded = str::from_utf8(segment).ok().and_then(decode_path);
        let whole = decoded.filter(|decoded| !decoded.contains(&b'/'));
        whole.unwrap_or(Cow::Borrowed(segment))
    });
    segments.collect::<Vec<_>>().join(&b'/')
}

/// Sends a client to another path, its query with it.
fn redirect(request: &HttpRequest, path: &[u8]) -> HttpResponse {
    let mut url = escape(path);
    if !request.query.is_empty() {
        url.push('?');
        url.push_str(&request.query);
    }
    let mut response = HttpResponse::new(307).header("Location", in_ascii(&url));
    if let Method::Get | Method::Head = request.method {
        response = response.header("Content-Type", "text/html; charset=utf-8");
    }
    if request.method == Method::Get {
        let body = format!("<a href=\"{}\">Temporary Redirect</a>.\n\n", in_html(&url));
        response.body = body.into();
    }
    response
}

fn in_ascii(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for octet in url.bytes() {
        match octet.is_ascii() {
            true => out.push(char::from(octet)),
            false => out.push_str(&format!("%{octet:02x}")),
        }
    }
    out
}

fn in_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The route, or the status and where to go.
    fn located(method: Method, target: &str, trees: Trees) -> Result<String, (u16, String)> {
        let request = HttpRequest::new(method, target);
        match locate(&request, trees) {
            Ok(route) => Ok(route.into_owned()),
            Err(response) => {
                let location = response.headers.get_str("location").unwrap_or_default();
                Err((response.status, location.to_owned()))
            }
        }
    }

    fn get(target: &str) -> Result<String, (u16, String)> {
        located(Method::Get, target, Trees::client(true))
    }

    #[test]
    fn a_clean_path_is_its_route() {
        for path in ["/", "/health", "/livez/", "/v3/kv/range", "/.a", "/..."] {
            assert_eq!(get(path), Ok(path.to_owned()));
        }
        assert_eq!(get("/%68ealth?x"), Ok("/health".to_owned()));
        assert_eq!(get("/v3beta/kv/put"), Ok("/v3/kv/put".to_owned()));
        assert_eq!(get("/v3beta%2Fkv/put"), Ok("/v3/kv/put".to_owned()));
        // What is escaped does not separate, and is no step up.
        assert_eq!(get("/v3%2Fkv/put"), Ok("/v3%2Fkv/put".to_owned()));
        assert_eq!(get("/v3/%2e%2e/health"), Ok("/v3/../health".to_owned()));
    }

    #[test]
    fn an_unclean_path_is_sent_to_the_clean_one() {
        for (path, location) in [
            ("//", "/"),
            ("//health", "/health"),
            ("/./health", "/health"),
            ("/../health", "/health"),
            ("/v3/../health?a=b&c", "/health?a=b&c"),
            ("/a/.", "/a"),
            ("/a/..", "/"),
            ("/a/b//", "/a/b/"),
            ("/v3", "/v3/"),
            ("/%763", "/v3/"),
            ("//v3", "/v3/"),
            ("/v3beta//kv", "/v3/kv"),
            ("/a%20b//c", "/a%2520b/c"),
            ("/<//x", "/%253C/x"),
            ("/a'b//x?\u{e9}", "/a%27b/x?%c3%a9"),
        ] {
            assert_eq!(get(path), Err((307, location.to_owned())), "{path}");
        }
        let bare = located(Method::Get, "/v3", Trees::client(false));
        assert_eq!(bare, Ok("/v3".to_owned()));
        let peer = |path| located(Method::Get, path, Trees::PEER);
        assert_eq!(peer("/raft/stream"), Err((307, "/raft/stream/".to_owned())));
        assert_eq!(peer("/v3beta/x"), Ok("/v3beta/x".to_owned()));
    }

    #[test]
    fn connect_leaves_a_path_as_it_is() {
        let connect = |path| located(Method::Connect, path, Trees::client(true));
        assert_eq!(connect("//health"), Ok("//health".to_owned()));
        assert_eq!(connect("/v3"), Err((307, "/v3/".to_owned())));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["*", "/%", "/%4", "/%zz", "/a%2"] {
            assert_eq!(get(path), Err((400, String::new())), "{path}");
        }
    }

    #[test]
    fn a_browser_is_told_where_to_go() {
        let request = HttpRequest::new(Method::Get, "//a?b=1&c=<");
        let response = locate(&request, Trees::client(true)).unwrap_err();
        assert_eq!(
            response.body,
            "<a href=\"/a?b=1&amp;c=&lt;\">Temporary Redirect</a>.\n\n"
        );
        let request = HttpRequest::new(Method::Post, "//a");
        let response = locate(&request, Trees::client(true)).unwrap_err();
        assert!(response.body.is_empty() && !response.headers.contains("content-type"));
    }
}
